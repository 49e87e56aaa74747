//go:build !unix

package load

import "math"

// RaiseDescriptors raises the number of file descriptors that the process may have to its hard limit, and returns it.
// Here there is none.
func RaiseDescriptors() (uint64, error) { return math.MaxUint64, nil }
