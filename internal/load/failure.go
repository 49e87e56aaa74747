package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
)

// A failure is why a stream could not be opened.
type failure struct {
	kind  string // in reports
	final bool   // another try can't help
}

func (f failure) Error() string { return f.kind }

func statusFailure(status int) *failure {
	final := status != 408 && status != 429 && status < 500
	return &failure{fmt.Sprintf("status %d", status), final}
}

// failureOf sorts an error.
func failureOf(err error) failure {
	if f, ok := errors.AsType[failure](err); ok {
		return f
	}
	timeout, isNet := errors.AsType[net.Error](err)
	switch {
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return failure{"ended before it was open", false}
	case errors.Is(err, syscall.ECONNREFUSED):
		return failure{"connection refused", false}
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return failure{"connection reset", false}
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return failure{"no free port", false}
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return failure{"no free descriptor", false}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT), isNet && timeout.Timeout():
		return failure{"timeout", false}
	}
	return failure{err.Error(), false}
}
