package file

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"math"
	"slices"

	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/fs"
)

const (
	// bufferBytes is how much is read at a time.
	bufferBytes = 64 << 10
	// pollRecords is how many lines a Poll reads at most, so that the task counts, and reads its clock.
	pollRecords = 1000
)

// reader reads one split after the other.
type reader[T any] struct {
	format  Format[T]
	fsys    fs.FS
	maxLine int
	ask     func()

	waiting []split
	open    *lines[T]
	asked   bool
	noMore  bool
}

func newReader[T any](s *source[T], ctx connector.ReaderContext) *reader[T] {
	return &reader[T]{format: s.format, fsys: s.fsys, maxLine: s.maxLine, ask: ctx.RequestSplit}
}

func (r *reader[T]) AddSplits(splits []connector.Split, _ connector.Output[T]) error {
	for _, s := range splits {
		sp, err := decodeSplits(s.Data)
		if err != nil {
			return fmt.Errorf("split %q: %w", s.ID, err)
		}
		r.waiting = append(r.waiting, sp...)
	}
	r.asked = false
	return nil
}

func (r *reader[T]) NoMoreSplits() { r.noMore = true }

func (r *reader[T]) Poll(out connector.Output[T]) (connector.Status, error) {
	for n := 0; n < pollRecords; {
		if r.open == nil {
			switch {
			case len(r.waiting) > 0:
			case r.noMore:
				return connector.End, nil
			default:
				if !r.asked {
					r.asked = true
					r.ask()
				}
				return connector.Wait, nil
			}
			l, err := openLines(r, r.waiting[0], out)
			if err != nil {
				return 0, err
			}
			r.open, r.waiting = l, r.waiting[1:]
		}
		more, err := r.open.next()
		if err != nil {
			return 0, err
		}
		if more {
			n++
		} else {
			l := r.open
			r.open = nil
			out.Release(l.id())
			if err := l.close(); err != nil {
				return 0, err
			}
		}
		if out.Yield() {
			break
		}
	}
	return connector.More, nil
}

func (r *reader[T]) Snapshot(int64) (out []connector.Split, err error) {
	splits := r.waiting
	if r.open != nil {
		splits = slices.Insert(slices.Clone(splits), 0, r.open.split)
	}
	for _, s := range splits {
		out = append(out, connector.Split{ID: s.id(), Data: encodeSplits(s)})
	}
	return out, nil
}

func (r *reader[T]) CheckpointComplete(int64) {}

func (r *reader[T]) Close() error {
	if r.open == nil {
		return nil
	}
	return r.open.close()
}

// lines is a split that is being read.
type lines[T any] struct {
	split         // next is where the line begins that is read next
	limit   int64 // lines that begin here or behind are not the split's
	out     connector.SplitOutput[T]
	format  Format[T]
	maxLine int
	file    fs.Reader
	in      io.Reader

	buf  []byte // read, and not emitted yet; buf[0] lies at next
	room []byte // buf's memory
	text string // a copy of buf as far as its last whole line, when the format is text
	eof  bool
}

// openLines opens a split's file and finds its first line.
func openLines[T any](r *reader[T], s split, out connector.Output[T]) (l *lines[T], err error) {
	l = &lines[T]{split: s, limit: s.end, format: r.format, maxLine: r.maxLine, room: make([]byte, bufferBytes)}
	if l.file, err = r.fsys.Open(s.path); err != nil {
		return nil, fmt.Errorf("file: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	if s.compressed {
		z, err := gzip.NewReader(io.NewSectionReader(l.file, 0, math.MaxInt64))
		if err != nil {
			return nil, l.broken(err)
		}
		l.limit, l.in = math.MaxInt64, z
		if _, err := io.CopyN(io.Discard, z, s.next); err != nil {
			return nil, l.broken(err)
		}
	} else {
		if s.start > 0 && s.next == s.start {
			l.split.next-- // the first line begins behind the first line's end from here on
		}
		l.in = io.NewSectionReader(l.file, l.split.next, math.MaxInt64-l.split.next)
		if l.split.next < s.next {
			if err := l.skip(); err != nil {
				return nil, err
			}
		}
	}
	l.out = out.Split(s.id())
	return l, nil
}

// skip passes over the rest of a line that belongs to the split before.
func (l *lines[T]) skip() error {
	for {
		if err := l.fill(); err != nil {
			return err
		}
		if i := bytes.IndexByte(l.buf, '\n'); i >= 0 {
			l.drop(i + 1)
			return nil
		}
		l.drop(len(l.buf))
		if l.eof || l.split.next >= l.limit {
			return nil
		}
	}
}

// drop passes over n bytes of buf.
func (l *lines[T]) drop(n int) {
	l.buf = l.buf[n:]
	l.split.next += int64(n)
	l.text = l.text[min(n, len(l.text)):]
}

// next emits a line; false means that there is none any more.
func (l *lines[T]) next() (bool, error) {
	if l.split.next >= l.limit {
		return false, nil
	}
	i := bytes.IndexByte(l.buf, '\n')
	for i < 0 && !l.eof {
		if len(l.buf) > l.maxLine {
			return false, l.permanent("the line is longer than %d bytes (file.MaxLineBytes)", l.maxLine)
		}
		was := len(l.buf)
		if err := l.fill(); err != nil {
			return false, err
		}
		if i = bytes.IndexByte(l.buf[was:], '\n'); i >= 0 {
			i += was
		}
	}
	size := i + 1
	if i < 0 {
		if i = len(l.buf); i == 0 {
			if !l.compressed && l.split.next < l.limit {
				return false, l.permanent("the file has become shorter: it had %d bytes or more when it was listed", l.end)
			}
			return false, nil
		}
		size = i
	}
	if i > 0 && l.buf[i-1] == '\r' {
		i--
	}
	if i > l.maxLine {
		return false, l.permanent("the line is longer than %d bytes (file.MaxLineBytes)", l.maxLine)
	}
	var v T
	switch {
	case l.format.text == nil:
		var err error
		if v, err = l.format.Decode(l.buf[:i]); err != nil {
			return false, connector.Permanent(l.errorf("%w", err))
		}
	case i <= len(l.text):
		v = l.format.text(l.text[:i])
	default: // it has no end
		v = l.format.text(string(l.buf[:i]))
	}
	l.out.Collect(v, event.None)
	l.drop(size)
	return true, nil
}

// fill reads more behind what is there.
func (l *lines[T]) fill() error {
	if len(l.buf) > len(l.room)/2 {
		l.room = make([]byte, 2*len(l.room))
	}
	n := copy(l.room, l.buf)
	m, err := l.in.Read(l.room[n:])
	l.buf = l.room[:n+m]
	if errors.Is(err, io.EOF) {
		l.eof, err = true, nil
	}
	if err != nil {
		return l.broken(err)
	}
	if l.format.text != nil {
		l.text = string(l.buf[:bytes.LastIndexByte(l.buf, '\n')+1])
	}
	return nil
}

func (l *lines[T]) close() error {
	if err := l.file.Close(); err != nil {
		return fmt.Errorf("file: %w", err)
	}
	return nil
}

// broken is an error of reading: what does not come from the file system is in the file, and stays there.
func (l *lines[T]) broken(err error) error {
	if _, ok := errors.AsType[*iofs.PathError](err); ok {
		return l.errorf("%w", err)
	}
	return l.permanent("%w", err)
}

// errorf says where in the file something is wrong.
func (l *lines[T]) errorf(format string, args ...any) error {
	return fmt.Errorf("file %s: offset %d: "+format, append([]any{l.path, l.split.next}, args...)...)
}

func (l *lines[T]) permanent(format string, args ...any) error {
	return connector.Permanent(l.errorf(format, args...))
}
