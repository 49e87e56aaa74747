// Package proc reads from /proc what a server's processes have used. It works on Linux only.
package proc

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Busy returns the CPU time that everything on this machine has used since it started, with what a hypervisor took away.
func Busy() (time.Duration, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	return ParseBusy(string(b))
}

// ParseBusy reads it in /proc/stat: everything in its first line but the idle time, and what guests had, which is in it
// twice.
func ParseBusy(stat string) (time.Duration, error) {
	line, _, _ := strings.Cut(stat, "\n")
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return 0, fmt.Errorf("%q is not how /proc/stat begins", line)
	}
	var ticks int64
	for n, v := range f[1:9] { // user nice system idle iowait irq softirq steal
		t, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		if n != 3 && n != 4 {
			ticks += t
		}
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond, nil
}

// ticksPerSecond is USER_HZ, in which /proc counts CPU time: 100 on every Linux that Go runs on.
const ticksPerSecond = 100

// CPU returns the CPU time, of user and system, that the process and its children have used, living or dead.
func CPU(pid int) (time.Duration, error) {
	var total time.Duration
	for _, p := range Tree(pid) {
		b, err := os.ReadFile(procPath(p, "stat"))
		if err != nil {
			continue // it ended meanwhile, and is counted with its parent's dead children
		}
		t, err := ParseStat(b)
		if err != nil {
			return 0, fmt.Errorf("process %d: %w", p, err)
		}
		total += t
	}
	if total == 0 {
		if _, err := os.Stat(procPath(pid, "stat")); err != nil {
			return 0, fmt.Errorf("process %d is gone: %w", pid, err)
		}
	}
	return total, nil
}

// ParseStat returns the CPU time in a /proc/PID/stat: utime, stime, and of the children that ended, cutime and cstime.
func ParseStat(b []byte) (time.Duration, error) {
	end := bytes.LastIndexByte(b, ')') // the name before it may hold anything
	if end < 0 {
		return 0, fmt.Errorf("%q is no stat", b)
	}
	f := strings.Fields(string(b[end+1:]))
	const utime, cstime = 11, 14 // of the fields after the name
	if len(f) <= cstime {
		return 0, fmt.Errorf("%q is no stat", b)
	}
	var ticks int64
	for _, v := range f[utime : cstime+1] {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("stat: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond, nil
}

// Memory returns the resident bytes of the process and its children, what they share counted once: the sum of the
// proportional set sizes.
func Memory(pid int) (int64, error) {
	var total int64
	for _, p := range Tree(pid) {
		b, err := os.ReadFile(procPath(p, "smaps_rollup"))
		if err != nil && p != pid {
			continue // it ended meanwhile
		}
		if err != nil {
			return 0, err
		}
		n, err := ParseRollup(b)
		if err != nil {
			return 0, fmt.Errorf("process %d: %w", p, err)
		}
		total += n
	}
	return total, nil
}

// ParseRollup returns the proportional set size, in bytes, in a /proc/PID/smaps_rollup.
func ParseRollup(b []byte) (int64, error) {
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) == 3 && f[0] == "Pss:" && f[2] == "kB" {
			n, err := strconv.ParseInt(f[1], 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("there is no Pss in smaps_rollup")
}

// Tree returns the process and all its descendants that live.
func Tree(pid int) []int {
	tree := []int{pid}
	for n := 0; n < len(tree); n++ {
		// Children are listed under the thread that made them.
		lists, _ := filepath.Glob(procPath(tree[n], "task/*/children"))
		for _, l := range lists {
			b, _ := os.ReadFile(l)
			for _, f := range strings.Fields(string(b)) {
				if child, err := strconv.Atoi(f); err == nil {
					tree = append(tree, child)
				}
			}
		}
	}
	return tree
}

func procPath(pid int, name string) string { return filepath.Join("/proc", strconv.Itoa(pid), name) }
