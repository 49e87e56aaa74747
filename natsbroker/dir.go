package natsbroker

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// What a directory holds.
const (
	holdsLog  = "the log of one node"
	holdsPart = "a node's part of a cluster's log"
)

// claimDir notes in a new directory what it holds, and refuses one that holds something else: nats-server would adopt what
// it can read of that, or begin a new log beside it, and nobody would be told.
func claimDir(dir, holds string) error {
	file := filepath.Join(dir, "holds")
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return os.WriteFile(file, []byte(holds+"\n"), 0o600)
	}
	if err != nil {
		return err
	}
	switch have := strings.TrimSpace(string(b)); {
	case have == holds:
		return nil
	case have == holdsLog:
		return fmt.Errorf("the directory %s holds %s, which can't become a cluster's: give each node of the cluster an empty one", dir, have)
	case have == holdsPart:
		return fmt.Errorf("the directory %s holds %s: start it with the cluster's addresses and secret again, or give this log a directory of its own", dir, have)
	default:
		return fmt.Errorf("%s doesn't say what the directory holds: restore it with the directory", file)
	}
}

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
