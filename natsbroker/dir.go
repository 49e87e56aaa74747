package natsbroker

import (
	"io/fs"
	"path/filepath"
)

// dirBytes returns the bytes of the files in a directory.
func dirBytes(dir string) (n int64, _ error) {
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	return n, err
}
