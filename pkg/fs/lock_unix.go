//go:build unix

package fs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// lock is a locked file: the kernel lets go of it when it is closed, or its process ends.
type lock struct{ *os.File }

func takeLock(path string) (io.Closer, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err == nil {
		if f.Truncate(0) == nil {
			_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0) // for people only
		}
		return lock{f}, nil
	}
	holder, _ := os.ReadFile(path)
	_ = f.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		if pid := strings.TrimSpace(string(holder)); pid != "" {
			return nil, fmt.Errorf("%w: process %s", ErrLocked, pid)
		}
		return nil, ErrLocked
	}
	return nil, &os.PathError{Op: "lock", Path: path, Err: err}
}

// Close ends the lock.
func (l lock) Close() error {
	_ = l.Truncate(0) // the pid; the lock itself is what counts
	return l.File.Close()
}
