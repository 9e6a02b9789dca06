package file

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	iofs "io/fs"
	"log/slog"
	"path"
	"slices"
	"strings"

	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/fs"
)

// SourceOption configures a source.
type SourceOption func(*sourceOptions)

type sourceOptions struct {
	paths      []string
	splitBytes int64
	maxLine    int
	fsys       fs.FS
	errs       []error
}

// Also adds a file, directory or pattern.
func Also(p string) SourceOption { return func(o *sourceOptions) { o.paths = append(o.paths, p) } }

// SplitBytes sets how many bytes of a file one reader takes at a time, so that several read a large file. The default is 32 MB, as in Flink.
func SplitBytes(n int64) SourceOption {
	return func(o *sourceOptions) {
		o.splitBytes = n
		if n < 1 {
			o.errs = append(o.errs, fmt.Errorf("file: splits of %d bytes: want at least 1", n))
		}
	}
}

// MaxLineBytes sets how long a line may be, in bytes. A longer one fails the job. The default is 16 MB.
func MaxLineBytes(n int) SourceOption {
	return func(o *sourceOptions) {
		o.maxLine = n
		if n < 1 {
			o.errs = append(o.errs, fmt.Errorf("file: lines of %d bytes: want at least 1", n))
		}
	}
}

func onFS(fsys fs.FS) SourceOption { return func(o *sourceOptions) { o.fsys = fsys } }

// Source reads files to their ends: p is a file, a directory (all files in it and below, except those whose names begin with "." or "_"), or a pattern such as "logs/*.log"
// (package path's Match, each element for itself). Files whose names end in ".gz" are decompressed, each by one reader. Lines end with "\n" or "\r\n"; the last of a file may go without.
//
// Which files there are, and how long they are, is found out once, when the job starts without state: what is added or appended later is not read. Files must not be
// changed otherwise while the job runs.
//
// Records have no timestamps of the source's. One that cannot be decoded fails the job, for good, with its file and offset.
func Source[T any](p string, f Format[T], opts ...SourceOption) connector.Source[T] {
	s := &source[T]{format: f, sourceOptions: sourceOptions{paths: []string{p}, splitBytes: 32 << 20, maxLine: 16 << 20, fsys: fs.Local{}}}
	for _, o := range opts {
		o(&s.sourceOptions)
	}
	return s
}

type source[T any] struct {
	sourceOptions
	format Format[T]
}

func (s *source[T]) Bounded() bool { return true }

func (s *source[T]) Validate() error {
	errs := s.errs
	for _, p := range s.paths {
		abs, err := absolute(p)
		if err == nil {
			_, err = path.Match(abs, "")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("file: path %q: %w", p, err))
		}
	}
	if s.format.Decode == nil {
		errs = append(errs, errors.New("file: the format has no Decode"))
	}
	return errors.Join(errs...)
}

func (s *source[T]) NewEnumerator(ctx connector.EnumeratorContext, snapshot []byte) (connector.Enumerator, error) {
	e := &enumerator{ctx: ctx, o: &s.sourceOptions}
	if snapshot != nil {
		var err error
		e.listed = true
		e.left, err = decodeSplits(snapshot)
		return e, err
	}
	return e, nil
}

func (s *source[T]) NewReader(ctx connector.ReaderContext) (connector.Reader[T], error) {
	return newReader(s, ctx), nil
}

// split is the lines of a file that begin at offsets from next to end-1. For a compressed file, offsets are of what it holds, and end is not known.
type split struct {
	path       string
	start, end int64 // bytes; start names the split
	next       int64 // where the next line begins, or lies before its beginning if next == start > 0
	compressed bool
}

func (s split) id() string {
	if s.start == 0 {
		return s.path
	}
	return fmt.Sprintf("%s@%d", s.path, s.start)
}

// version of the encodings of splits and enumerators.
const version = 1

var errCorrupt = errors.New("file: malformed stored split")

// append writes the start, the end, the next offset, 1 for compressed, and the length of the path, as uvarints, and the path.
func (s split) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(s.start))
	b = binary.AppendUvarint(b, uint64(s.end))
	b = binary.AppendUvarint(b, uint64(s.next))
	compressed := uint64(0)
	if s.compressed {
		compressed = 1
	}
	b = binary.AppendUvarint(b, compressed)
	b = binary.AppendUvarint(b, uint64(len(s.path)))
	return append(b, s.path...)
}

// encodeSplits writes the version and the splits.
func encodeSplits(splits ...split) []byte {
	b := []byte{version}
	for _, s := range splits {
		b = s.append(b)
	}
	return b
}

func decodeSplits(b []byte) (out []split, err error) {
	if len(b) == 0 || b[0] != version {
		return nil, fmt.Errorf("%w: unknown version", errCorrupt)
	}
	for b = b[1:]; len(b) > 0; {
		var n [5]uint64
		for i := range n {
			v, w := binary.Uvarint(b)
			if w <= 0 || v > 1<<62 {
				return nil, fmt.Errorf("%w: number", errCorrupt)
			}
			n[i], b = v, b[w:]
		}
		if n[3] > 1 || n[4] > uint64(len(b)) || n[2] < n[0] {
			return nil, fmt.Errorf("%w: %v", errCorrupt, n)
		}
		out = append(out, split{start: int64(n[0]), end: int64(n[1]), next: int64(n[2]), compressed: n[3] == 1, path: string(b[:n[4]])})
		b = b[n[4]:]
	}
	return out, nil
}

// enumerator lists the files once and hands their splits out one by one, to whoever has nothing to read.
type enumerator struct {
	ctx    connector.EnumeratorContext
	o      *sourceOptions
	listed bool
	left   []split
}

func (e *enumerator) Start(context.Context) error {
	if e.listed {
		return nil
	}
	var files []string
	sizes := map[string]int64{}
	for _, p := range e.o.paths {
		abs, err := absolute(p)
		if err != nil {
			return connector.Permanent(err)
		}
		found, err := expand(e.o.fsys, abs)
		if err != nil {
			return err
		}
		if _, err := e.o.fsys.ReadDir(abs); len(found) == 0 && err != nil { // a directory may be empty
			return connector.Permanent(fmt.Errorf("file: nothing is there for %s: %w", abs, iofs.ErrNotExist))
		}
		for name, size := range found {
			if _, known := sizes[name]; !known {
				files = append(files, name)
				sizes[name] = size
			}
		}
	}
	slices.Sort(files)
	for _, name := range files {
		e.left = append(e.left, e.o.cut(name, sizes[name])...)
	}
	e.listed = true
	e.ctx.Logger().Info("files listed", slog.Int("files", len(files)), slog.Int("splits", len(e.left)))
	return nil
}

// cut returns the splits of a file.
func (o *sourceOptions) cut(name string, size int64) (out []split) {
	if strings.HasSuffix(name, ".gz") {
		return []split{{path: name, compressed: true}}
	}
	for start := int64(0); start < size; start += o.splitBytes {
		out = append(out, split{path: name, start: start, end: min(start+o.splitBytes, size), next: start})
		if start > size-o.splitBytes {
			break // the sum may overflow
		}
	}
	return out
}

// AddReader does nothing: a reader that has nothing to read asks.
func (e *enumerator) AddReader(context.Context, int) error { return nil }

func (e *enumerator) RequestSplit(_ context.Context, subtask int) error {
	if len(e.left) == 0 {
		e.ctx.NoMoreSplits(subtask)
		return nil
	}
	s := e.left[0]
	e.left = e.left[1:]
	e.ctx.Assign(subtask, []connector.Split{{ID: s.id(), Data: encodeSplits(s)}})
	return nil
}

func (e *enumerator) Discover(context.Context) error { return nil }
func (e *enumerator) Interval() float64              { return 0 }
func (e *enumerator) Snapshot() ([]byte, error)      { return encodeSplits(e.left...), nil }
func (e *enumerator) Close() error                   { return nil }

// expand returns the files that a path or pattern means, with their sizes in bytes.
func expand(fsys fs.FS, p string) (map[string]int64, error) {
	out := map[string]int64{}
	// The names above the first element with a special character are looked up as they are.
	dir, elements := "/", strings.Split(strings.TrimPrefix(p, "/"), "/")
	for len(elements) > 1 && !special(elements[0]) {
		dir, elements = path.Join(dir, elements[0]), elements[1:]
	}
	return out, match(fsys, dir, elements, out)
}

func special(element string) bool { return strings.ContainsAny(element, `*?[\`) }

// match adds the files below dir that elements mean.
func match(fsys fs.FS, dir string, elements []string, out map[string]int64) error {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		if errors.Is(err, iofs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("file: %w", err)
	}
	for _, e := range entries {
		ok := e.Name == elements[0]
		if !ok && special(elements[0]) {
			if ok, err = path.Match(elements[0], e.Name); err != nil {
				return connector.Permanent(fmt.Errorf("file: pattern %q: %w", elements[0], err))
			}
			ok = ok && !hidden(e.Name)
		}
		if !ok {
			continue
		}
		name := path.Join(dir, e.Name)
		switch {
		case e.Dir && len(elements) > 1:
			err = match(fsys, name, elements[1:], out)
		case e.Dir:
			err = walk(fsys, name, out)
		case len(elements) == 1:
			err = add(fsys, name, out)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// hidden reports whether a file is left out unless it is named: Flink leaves out the same, and our sink writes aside under such names.
func hidden(name string) bool { return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") }

// walk adds all files of a directory and below.
func walk(fsys fs.FS, dir string, out map[string]int64) error {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("file: %w", err)
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name)
		switch {
		case hidden(e.Name):
		case e.Dir:
			if err := walk(fsys, name, out); err != nil {
				return err
			}
		default:
			if err := add(fsys, name, out); err != nil {
				return err
			}
		}
	}
	return nil
}

// add adds a file, with the size of what a link points to.
func add(fsys fs.FS, name string, out map[string]int64) error {
	r, err := fsys.Open(name)
	if err != nil {
		return fmt.Errorf("file: %w", err)
	}
	out[name] = r.Size()
	return r.Close()
}
