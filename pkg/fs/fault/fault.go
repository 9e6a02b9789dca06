// Package fault is a file system for tests that fails where it is told to.
//
// Its law: an operation that a hook refuses did not happen, unless the hook did it itself.
package fault

import (
	"io"

	"github.com/rivulet-io/rivulet/pkg/fs"
)

// Op names an operation on a file system.
type Op string

// The operations, as the methods of fs.FS and fs.File.
const (
	Create    Op = "create"
	Open      Op = "open"
	Write     Op = "write"
	Sync      Op = "sync"
	Rename    Op = "rename"
	Remove    Op = "remove"
	RemoveAll Op = "remove all"
	MkdirAll  Op = "mkdir"
	SyncDir   Op = "sync directory"
	ReadDir   Op = "read directory"
	ReadAt    Op = "read"
)

// FS is a file system that asks Hook before each operation: an error is the operation's, and it is not done. Hook is called by any goroutine; name is the target of a Rename.
type FS struct {
	fs.FS
	Hook func(op Op, name string) error
}

var _ fs.FS = (*FS)(nil)

// Create implements fs.FS.
func (f *FS) Create(name string) (fs.File, error) {
	if err := f.Hook(Create, name); err != nil {
		return nil, err
	}
	file, err := f.FS.Create(name)
	if err != nil {
		return nil, err
	}
	return &writer{File: file, hook: f.Hook, name: name}, nil
}

type writer struct {
	fs.File
	hook func(Op, string) error
	name string
}

func (w *writer) Write(p []byte) (int, error) {
	if err := w.hook(Write, w.name); err != nil {
		return 0, err
	}
	return w.File.Write(p)
}

func (w *writer) Sync() error {
	if err := w.hook(Sync, w.name); err != nil {
		return err
	}
	return w.File.Sync()
}

// Open implements fs.FS.
func (f *FS) Open(name string) (fs.Reader, error) {
	if err := f.Hook(Open, name); err != nil {
		return nil, err
	}
	r, err := f.FS.Open(name)
	if err != nil {
		return nil, err
	}
	return &reader{Reader: r, hook: f.Hook, name: name}, nil
}

type reader struct {
	fs.Reader
	hook func(Op, string) error
	name string
}

func (r *reader) ReadAt(p []byte, off int64) (int, error) {
	if err := r.hook(ReadAt, r.name); err != nil {
		return 0, err
	}
	return r.Reader.ReadAt(p, off)
}

// Rename implements fs.FS.
func (f *FS) Rename(from, to string) error {
	if err := f.Hook(Rename, to); err != nil {
		return err
	}
	return f.FS.Rename(from, to)
}

// Remove implements fs.FS.
func (f *FS) Remove(name string) error {
	if err := f.Hook(Remove, name); err != nil {
		return err
	}
	return f.FS.Remove(name)
}

// RemoveAll implements fs.FS.
func (f *FS) RemoveAll(name string) error {
	if err := f.Hook(RemoveAll, name); err != nil {
		return err
	}
	return f.FS.RemoveAll(name)
}

// MkdirAll implements fs.FS.
func (f *FS) MkdirAll(dir string) error {
	if err := f.Hook(MkdirAll, dir); err != nil {
		return err
	}
	return f.FS.MkdirAll(dir)
}

// SyncDir implements fs.FS.
func (f *FS) SyncDir(dir string) error {
	if err := f.Hook(SyncDir, dir); err != nil {
		return err
	}
	return f.FS.SyncDir(dir)
}

// ReadDir implements fs.FS.
func (f *FS) ReadDir(dir string) ([]fs.Entry, error) {
	if err := f.Hook(ReadDir, dir); err != nil {
		return nil, err
	}
	return f.FS.ReadDir(dir)
}

// Lock implements fs.FS; it is never refused.
func (f *FS) Lock(name string) (io.Closer, error) { return f.FS.Lock(name) }
