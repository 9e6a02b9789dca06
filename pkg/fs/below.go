package fs

import (
	"io"
	"path"
)

// Below returns the part of a file system below a directory, under names of its own: /a is dir/a. No name leads out of it but a symbolic link that is there.
func Below(fsys FS, dir string) FS { return below{fsys, path.Clean(dir)} }

type below struct {
	fs  FS
	dir string
}

func (b below) at(name string) string { return path.Join(b.dir, path.Clean("/"+name)) }

func (b below) Create(name string) (File, error)    { return b.fs.Create(b.at(name)) }
func (b below) Open(name string) (Reader, error)    { return b.fs.Open(b.at(name)) }
func (b below) Rename(from, to string) error        { return b.fs.Rename(b.at(from), b.at(to)) }
func (b below) Remove(name string) error            { return b.fs.Remove(b.at(name)) }
func (b below) RemoveAll(name string) error         { return b.fs.RemoveAll(b.at(name)) }
func (b below) MkdirAll(dir string) error           { return b.fs.MkdirAll(b.at(dir)) }
func (b below) SyncDir(dir string) error            { return b.fs.SyncDir(b.at(dir)) }
func (b below) ReadDir(dir string) ([]Entry, error) { return b.fs.ReadDir(b.at(dir)) }
func (b below) Lock(name string) (io.Closer, error) { return b.fs.Lock(b.at(name)) }
