package rest

import "syscall"

// physicalMemory is the machine's memory in bytes.
func physicalMemory() int64 {
	var i syscall.Sysinfo_t
	if syscall.Sysinfo(&i) != nil {
		return 0
	}
	return int64(uint64(i.Totalram) * uint64(i.Unit)) //nolint:unconvert // it has 32 bits on some machines
}
