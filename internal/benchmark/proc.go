package benchmark

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of CPU times in /proc on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// CPUTime returns the CPU time, user and system, that a process has used since its start. It
// is not known elsewhere than on Linux, nor of a process that is not on this machine.
func CPUTime(pid int) (time.Duration, bool) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	return parseStat(stat)
}

func parseStat(stat []byte) (time.Duration, bool) {
	// The second field is the command in parentheses, which may itself hold some, and spaces.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return 0, false
	}
	user, userErr := strconv.Atoi(fields[11])
	system, systemErr := strconv.Atoi(fields[12])
	return time.Duration(user+system) * tick, errors.Join(userErr, systemErr) == nil
}

// PeakMemory returns the most bytes that a process had resident.
func PeakMemory(pid int) (int64, bool) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kB, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kB * 1024, err == nil
		}
	}
	return 0, false
}

// machineTime returns for how long the machine's cores have been busy since its start, all
// added up. Time that a hypervisor took away counts: nobody here could use it.
func machineTime() (time.Duration, bool) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, false
	}
	return parseMachineStat(stat)
}

func parseMachineStat(stat []byte) (time.Duration, bool) {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	fields := strings.Fields(string(line)) // cpu user nice system idle iowait irq softirq steal …
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, false
	}
	var busy time.Duration
	for i, field := range fields[1:9] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, false
		}
		if i != 3 && i != 4 {
			busy += time.Duration(n) * tick
		}
	}
	return busy, true
}

// IsWalsender reports whether pid is a walsender of a Postgres on this machine, rather than
// whatever has the same number as one elsewhere.
func IsWalsender(pid int) bool {
	title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && bytes.HasPrefix(title, []byte("postgres: ")) && bytes.Contains(title, []byte("walsender"))
}
