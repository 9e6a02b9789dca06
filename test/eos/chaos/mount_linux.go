package main

import (
	"os"
	"strconv"
	"syscall"
)

// mount makes a directory a file system of its own, in memory, of so many bytes.
func mount(dir string, size int) error {
	return syscall.Mount("eos"+strconv.Itoa(os.Getpid()), dir, "tmpfs", 0, "size="+strconv.Itoa(size))
}

func unmount(dir string) error { return syscall.Unmount(dir, syscall.MNT_DETACH) }
