//go:build !linux && !darwin && !windows

package natsbroker

import (
	"errors"
	"os"
)

var errNoEmbedding = errors.New("a log in the process is for Linux, macOS and Windows: here, use a NATS server")

func lockDir(string) (*os.File, error) { return nil, errNoEmbedding }
func freeBytes(string) (int64, error)  { return 0, errNoEmbedding }
