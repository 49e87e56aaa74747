//go:build linux || darwin

package natsbroker

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// lockDir locks a file for this process, until it is closed or the process ends.
func lockDir(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the log's directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("another process has the log open (%s is locked): stop that one, or give this one a directory of its own", name)
	}
	return f, nil
}

// freeBytes returns how much space the directory's file system has left for this user.
func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}
