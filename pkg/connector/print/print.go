// Package print is a sink that writes each record as a line to standard output or standard error.
//
// Start with Sink. Its law: a line is written in one piece, before the next record is taken, with Flink's prefix: with more than one subtask "3> " names the third, an
// Identifier stands before it ("clicks:3> "), or alone ("clicks> ") when there is one subtask.
package print

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"

	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/event"
)

// Option configures a sink.
type Option func(*options)

type options struct {
	identifier string
	stderr     bool
}

// Identifier is put before each line.
func Identifier(name string) Option { return func(o *options) { o.identifier = name } }

// ToStderr writes to standard error.
func ToStderr() Option { return func(o *options) { o.stderr = true } }

// Sink returns a sink that prints what package fmt makes of a record (%v). After a restart of the job, records since the last checkpoint are printed again.
func Sink[T any](opts ...Option) connector.Sink[T] {
	return SinkFunc(func(dst []byte, v T) []byte { return fmt.Appendf(dst, "%v", v) }, opts...)
}

// SinkFunc is Sink with a function that appends a record's text to dst.
func SinkFunc[T any](format func(dst []byte, v T) []byte, opts ...Option) connector.Sink[T] {
	s := &sink[T]{format: format}
	for _, o := range opts {
		o(&s.options)
	}
	return s
}

// stdout and stderr are where the lines of the process go.
var stdout, stderr = &stream{file: &os.Stdout}, &stream{file: &os.Stderr}

// stream is a file that subtasks share.
type stream struct {
	mu      sync.Mutex
	file    **os.File
	instead io.Writer
}

func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.instead != nil {
		return s.instead.Write(p)
	}
	return (*s.file).Write(p)
}

// Redirect has all lines of the process go elsewhere, from now on: for a console that draws something below them, and for tests. nil is where they go by
// themselves. It returns what puts it back.
func Redirect(out, err io.Writer) (restore func()) {
	wasOut, wasErr := stdout.redirect(out), stderr.redirect(err)
	return func() { stdout.redirect(wasOut); stderr.redirect(wasErr) }
}

func (s *stream) redirect(w io.Writer) (was io.Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was, s.instead = s.instead, w
	return was
}

type sink[T any] struct {
	options
	format func([]byte, T) []byte
}

func (s *sink[T]) Validate() error { return nil }
func (s *sink[T]) Commits() bool   { return false }

func (s *sink[T]) NewWriter(ctx connector.WriterContext) (connector.Writer[T], error) {
	w := &writer[T]{format: s.format, out: stdout, prefix: prefix(s.identifier, ctx.Subtask, ctx.Parallelism)}
	if s.stderr {
		w.out = stderr
	}
	return w, nil
}

func (s *sink[T]) NewCommitter(connector.CommitterContext) (connector.Committer, error) {
	return nil, nil //nolint:nilnil // the contract: it does not commit
}

// prefix is what Flink puts before each line.
func prefix(identifier string, subtask, parallelism int) string {
	p := identifier
	if parallelism > 1 {
		if p != "" {
			p += ":"
		}
		p += strconv.Itoa(subtask + 1)
	}
	if p != "" {
		p += "> "
	}
	return p
}

type writer[T any] struct {
	format func([]byte, T) []byte
	out    io.Writer
	prefix string
	line   []byte
}

func (w *writer[T]) Write(v T, _ event.Time) error {
	w.line = append(w.format(append(w.line[:0], w.prefix...), v), '\n')
	if _, err := w.out.Write(w.line); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

func (w *writer[T]) Flush(context.Context) error                      { return nil }
func (w *writer[T]) Prepare(context.Context, int64) ([][]byte, error) { return nil, nil }
func (w *writer[T]) Snapshot(int64) ([][]byte, error)                 { return nil, nil }
func (w *writer[T]) Commit(context.Context, int64) error              { return nil }
func (w *writer[T]) Recorded(int64)                                   {}
func (w *writer[T]) SinkState() []byte                                { return nil }
func (w *writer[T]) Close() error                                     { return nil }
