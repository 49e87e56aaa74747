package natsbroker

import (
	"fmt"
	"os"

	"golang.org/x/sys/windows"
)

// lockDir locks a file for this process, until it is closed or the process ends.
func lockDir(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the log's directory: %w", err)
	}
	const all = ^uint32(0)
	err = windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, all, all, new(windows.Overlapped))
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("another process has the log open (%s is locked): stop that one, or give this one a directory of its own", name)
	}
	return f, nil
}

// freeBytes returns how much space the directory's file system has left for this user.
func freeBytes(dir string) (int64, error) {
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, err
	}
	var free uint64
	if err := windows.GetDiskFreeSpaceEx(name, &free, nil, nil); err != nil {
		return 0, err
	}
	return int64(free), nil
}
