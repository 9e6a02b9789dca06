// Package conformance runs case files: SQL with the answers that Apache Flink gave (test/conformance/FORMAT.md says what they look like), and SQL of
// users with the answers that they expect.
//
// Start with Parse and Run. Its law: a case passes if every promise of its file holds; no case is treated in a way of its own.
package conformance

import (
	"fmt"
	"strings"
)

// File is a case file.
type File struct {
	// Path is where it was read from, for messages.
	Path    string
	Headers map[string]string
	// Sections are their texts, without the blank lines at their ends; Lines are the numbers of their first lines.
	Sections map[string]string
	Lines    map[string]int
}

// Kind is functions, errors, format, or query.
func (f *File) Kind() string {
	if k := f.Headers["kind"]; k != "" {
		return k
	}
	return "query"
}

// Name is what the file calls itself, or its path.
func (f *File) Name() string {
	if n := f.Headers["name"]; n != "" {
		return n
	}
	return f.Path
}

// Parse reads a case file.
func Parse(path, text string) (*File, error) {
	f := &File{Path: path, Headers: map[string]string{}, Sections: map[string]string{}, Lines: map[string]int{}}
	section := ""
	for i, line := range strings.Split(text, "\n") {
		switch name, isSection := strings.CutPrefix(line, "--- "); {
		case isSection:
			section = strings.TrimSpace(name)
			if _, twice := f.Lines[section]; twice {
				return nil, fmt.Errorf("%s:%d: section %q is there twice", path, i+1, section)
			}
			f.Lines[section] = i + 2
			f.Sections[section] = ""
		case section != "":
			f.Sections[section] += line + "\n"
		case strings.HasPrefix(line, "-- "):
			key, value, ok := strings.Cut(line[3:], ": ")
			if !ok {
				return nil, fmt.Errorf("%s:%d: a header has to look like -- key: value", path, i+1)
			}
			f.Headers[key] = value
		case strings.TrimSpace(line) != "":
			return nil, fmt.Errorf("%s:%d: a file has to begin with headers (-- key: value), then sections (--- name)", path, i+1)
		}
	}
	for s, t := range f.Sections {
		f.Sections[s] = strings.TrimRight(t, "\n")
	}
	if len(f.Sections) == 0 {
		return nil, fmt.Errorf("%s has no section", path)
	}
	return f, nil
}

// Has reports whether there is a section.
func (f *File) Has(section string) bool { _, ok := f.Sections[section]; return ok }

// Expression is a line of a function file.
type Expression struct {
	Line int
	SQL  string
	// Type and Value are what is to come, or Class is the class of the error: parse, validate or runtime.
	Type, Value, Class string
}

// Expressions are the lines of a function file.
func (f *File) Expressions() ([]Expression, error) {
	var out []Expression
	for i, line := range strings.Split(f.Sections["expressions"], "\n") {
		if line == "" {
			continue
		}
		parts := strings.SplitN(line, " => ", 3)
		if len(parts) < 3 {
			return nil, fmt.Errorf("%s:%d: an expression has to look like expr => TYPE => value", f.Path, f.Lines["expressions"]+i)
		}
		e := Expression{Line: f.Lines["expressions"] + i, SQL: parts[0], Type: parts[1], Value: parts[2]}
		if class, ok := strings.CutPrefix(parts[1], "ERROR "); ok {
			e.Type, e.Class = "", class
		}
		out = append(out, e)
	}
	return out, nil
}
