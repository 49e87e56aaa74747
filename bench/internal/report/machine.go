package report

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strings"
)

// A Machine is where a run was.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Memory string `json:"memory"`
	Kernel string `json:"kernel"`
	System string `json:"system"`
	Go     string `json:"go"`
}

// describe returns the machine in one line.
func (m Machine) describe() string {
	return fmt.Sprintf("%s, %d cores, Linux %s, %s", m.CPU, m.Cores, m.Kernel, m.Go)
}

// ThisMachine returns the machine that this is. What can't be found out is empty.
func ThisMachine() Machine {
	m := Machine{Cores: runtime.NumCPU(), Go: runtime.Version()}
	m.CPU = field("/proc/cpuinfo", "model name", ":")
	m.System = strings.Trim(field("/etc/os-release", "PRETTY_NAME", "="), `"`)
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = string(bytes.TrimSpace(b))
	}
	var kB int64
	if _, err := fmt.Sscanf(field("/proc/meminfo", "MemTotal", ":"), "%d kB", &kB); err == nil {
		m.Memory = fmt.Sprintf("%.0f GiB", float64(kB)/(1<<20))
	}
	return m
}

// field returns the value of the first line that begins with the key.
func field(file, key, separator string) string {
	b, _ := os.ReadFile(file)
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, separator); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
