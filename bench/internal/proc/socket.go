package proc

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// SocketMemory returns the kernel memory, in bytes, of each established TCP socket on this machine whose peer has the
// address. It asks ss, which asks the kernel; without ss it returns nothing.
func SocketMemory(ctx context.Context, peer netip.Addr) ([]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	b, err := exec.CommandContext(ctx, "ss", "-tmnH", "state", "established", "dst", peer.String()).Output()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ss: %w", err)
	}
	return ParseSocketMemory(string(b))
}

// ParseSocketMemory reads what ss -m shows: for each socket, what is received and not read, what is written and not
// acknowledged, and what the kernel has put by for it.
func ParseSocketMemory(shown string) ([]int64, error) {
	var sizes []int64
	for _, part := range strings.Split(shown, "skmem:(")[1:] {
		list, _, ok := strings.Cut(part, ")")
		if !ok {
			return nil, fmt.Errorf("ss shows %q", part)
		}
		var size int64
		for _, v := range strings.Split(list, ",") {
			name := strings.TrimRight(v, "0123456789")
			switch name {
			case "r", "w", "f": // not rb, tb, ..: those are bounds
				n, err := strconv.ParseInt(v[len(name):], 10, 64)
				if err != nil {
					return nil, fmt.Errorf("ss shows %q: %w", list, err)
				}
				size += n
			}
		}
		sizes = append(sizes, size)
	}
	return sizes, nil
}
