// Package fs is what the engine asks of a file system: Local is the real one, Mem one in memory that can tell what a crash would leave.
//
// Start with FS and WriteFile. Its law: what was synced, in a directory that was synced, survives a crash; nothing else is promised to.
package fs

import (
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"path"
)

// FS is a file system. Names are absolute, with forward slashes. Errors wrap those of package io/fs (ErrNotExist, ErrPermission). It is safe for concurrent use.
type FS interface {
	// Create makes a file, or empties it, for writing. Its name is durable only after SyncDir.
	Create(name string) (File, error)
	// Open opens a file for reading.
	Open(name string) (Reader, error)
	// Rename replaces to by from in one step; both are in one directory, which SyncDir then makes durable.
	Rename(from, to string) error
	// Remove removes a file.
	Remove(name string) error
	// RemoveAll removes a file, or a directory with all in it. It is no error if there is none.
	RemoveAll(name string) error
	// MkdirAll makes a directory and those above it, durably.
	MkdirAll(dir string) error
	// SyncDir makes the names in a directory durable.
	SyncDir(dir string) error
	// ReadDir lists a directory, sorted by name.
	ReadDir(dir string) ([]Entry, error)
	// Lock takes the lock file name for this process, or wraps ErrLocked when another process has it. The lock ends with Close, or with the process.
	Lock(name string) (io.Closer, error)
}

// Replacer is an FS that replaces a file as a whole by itself, as object stores do: WriteFile leaves it to it. The error wraps ErrUnknownOutcome when nobody knows.
type Replacer interface {
	Replace(name string, b []byte) error
}

// Sweeper is an FS on which a process that dies may leave what no directory shows: Sweep deletes that below a directory. Nobody may be writing there.
type Sweeper interface {
	Sweep(dir string) error
}

// File is a file being written, by one goroutine.
type File interface {
	io.Writer
	// Sync makes what was written durable. After an error the file must be given up: what it holds is not known.
	Sync() error
	Close() error
}

// Reader reads a file at any offset. It is safe for concurrent use.
type Reader interface {
	io.ReaderAt
	// Size is the file's size in bytes, as it was when it was opened.
	Size() int64
	Close() error
}

// Entry is a name in a directory. Size is 0 for directories.
type Entry struct {
	Name string
	Dir  bool
	Size int64
}

// ErrLocked is wrapped when another process has the lock.
var ErrLocked = errors.New("locked by another process")

// ErrUnknownOutcome is wrapped by WriteFile when the new content may be there or not, after a crash.
var ErrUnknownOutcome = errors.New("outcome unknown")

// temporary is behind the name of a file that WriteFile has not finished.
const temporary = ".tmp"

// WriteFile replaces a file as a whole, durably: written aside, synced, renamed, and the directory synced; or as a Replacer does it.
func WriteFile(fsys FS, name string, b []byte) error {
	if r, ok := fsys.(Replacer); ok {
		return r.Replace(name, b)
	}
	tmp := name + temporary
	f, err := fsys.Create(tmp)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = fsys.Rename(tmp, name)
	}
	if err != nil {
		if rerr := fsys.Remove(tmp); rerr != nil && !errors.Is(rerr, iofs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
		return err
	}
	if err := fsys.SyncDir(path.Dir(name)); err != nil {
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
	return nil
}

// ReadFile reads a whole file of at most limit bytes; a larger one is an error.
func ReadFile(fsys FS, name string, limit int64) ([]byte, error) {
	r, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	b, err := readAll(r, name, limit)
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	return b, err
}

func readAll(r Reader, name string, limit int64) ([]byte, error) {
	if r.Size() > limit {
		return nil, fmt.Errorf("%s has %d bytes, the limit is %d", name, r.Size(), limit)
	}
	b := make([]byte, r.Size())
	n, err := r.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b[:n], nil
}
