package fs

import (
	"errors"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
)

// Local is the file system of the machine.
type Local struct{}

// Create implements FS.
func (Local) Create(name string) (File, error) {
	f, err := os.OpenFile(filepath.FromSlash(name), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Open implements FS.
func (Local) Open(name string) (Reader, error) {
	f, err := os.Open(filepath.FromSlash(name))
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = &iofs.PathError{Op: "read", Path: name, Err: errors.New("is a directory")}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &localReader{File: f, size: info.Size()}, nil
}

type localReader struct {
	*os.File
	size int64
}

func (r *localReader) Size() int64 { return r.size }

// Rename implements FS.
func (Local) Rename(from, to string) error {
	return os.Rename(filepath.FromSlash(from), filepath.FromSlash(to))
}

// Remove implements FS.
func (Local) Remove(name string) error { return os.Remove(filepath.FromSlash(name)) }

// RemoveAll implements FS.
func (Local) RemoveAll(name string) error { return os.RemoveAll(filepath.FromSlash(name)) }

// MkdirAll implements FS.
func (l Local) MkdirAll(dir string) error {
	dir = filepath.FromSlash(dir)
	var made []string // innermost first
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); !errors.Is(err, iofs.ErrNotExist) || d == filepath.Dir(d) {
			break
		}
		made = append(made, d)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, d := range made {
		if err := l.SyncDir(filepath.Dir(d)); err != nil {
			return err
		}
	}
	return nil
}

// SyncDir implements FS.
func (Local) SyncDir(dir string) error {
	d, err := os.Open(filepath.FromSlash(dir))
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

// ReadDir implements FS.
func (Local) ReadDir(dir string) ([]Entry, error) {
	list, err := os.ReadDir(filepath.FromSlash(dir))
	if err != nil {
		return nil, err
	}
	out := make([]Entry, 0, len(list))
	for _, e := range list {
		entry := Entry{Name: e.Name(), Dir: e.IsDir()}
		if !entry.Dir {
			info, err := e.Info()
			if errors.Is(err, iofs.ErrNotExist) {
				continue // removed since it was listed
			}
			if err != nil {
				return nil, err
			}
			entry.Size = info.Size()
		}
		out = append(out, entry)
	}
	return out, nil
}

// Lock implements FS. The lock file holds the process id, for people.
func (Local) Lock(name string) (io.Closer, error) { return takeLock(filepath.FromSlash(name)) }
