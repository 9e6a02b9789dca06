//go:build !linux

package rest

// physicalMemory is not known here.
func physicalMemory() int64 { return 0 }
