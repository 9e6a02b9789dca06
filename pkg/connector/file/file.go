// Package file reads and writes text files, a record a line.
//
// Start with Source and Sink; Format says what a line is.
//
// Their laws: a source's lines are read once each, over all restarts and at every parallelism; what a sink's directory shows under names that do not begin with a dot is
// complete and final.
package file

import (
	"encoding/json"
	"fmt"
	"path"
	"path/filepath"
	"strings"
)

// Format says how a record becomes a line, and a line a record. Its functions must be safe for concurrent use.
type Format[T any] struct {
	// Append appends v to dst, without a line's end. What it appends must hold none.
	Append func(dst []byte, v T) ([]byte, error)
	// Decode reads a line, without its end. It must not keep line.
	Decode func(line []byte) (T, error)

	// text is set for strings: lines are cut out of one string then, instead of being made one by one.
	text func(line string) T
}

// Text is lines as they are.
func Text() Format[string] {
	return Format[string]{
		Append: func(dst []byte, v string) ([]byte, error) { return append(dst, v...), nil },
		Decode: func(line []byte) (string, error) { return string(line), nil },
		text:   func(line string) string { return line },
	}
}

// JSON is a JSON value per line, as package encoding/json reads and writes T.
func JSON[T any]() Format[T] {
	return Format[T]{
		Append: func(dst []byte, v T) ([]byte, error) {
			b, err := json.Marshal(v)
			return append(dst, b...), err
		},
		Decode: func(line []byte) (v T, err error) {
			err = json.Unmarshal(line, &v)
			return v, err
		},
	}
}

// absolute returns a path, which may be a file: URI, as package fs wants it.
func absolute(p string) (string, error) {
	if rest, ok := strings.CutPrefix(p, "file:"); ok {
		p = rest
		if host, ok := strings.CutPrefix(rest, "//"); ok {
			if !strings.HasPrefix(host, "/") {
				return "", fmt.Errorf("file: %q names a host: want file:///path", "file:"+rest)
			}
			p = host
		}
	}
	if p == "" {
		return "", fmt.Errorf("file: no path")
	}
	if scheme, _, ok := strings.Cut(p, "://"); ok {
		return "", fmt.Errorf("file: %q: file system %q is not supported, only local paths are", p, scheme)
	}
	abs, err := filepath.Abs(filepath.FromSlash(p))
	if err != nil {
		return "", fmt.Errorf("file: %w", err)
	}
	return path.Clean(filepath.ToSlash(abs)), nil
}
