package parse

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// corpus is where the recorded answers of Flink are; FORMAT.md there describes them.
const corpus = "../../../../test/conformance"

// A caseFile is one file of the corpus: its headers and the lines of its sections.
type caseFile struct {
	path     string
	headers  map[string]string
	sections map[string][]string
}

// caseFiles reads all files of the corpus.
func caseFiles(t testing.TB) []caseFile {
	t.Helper()
	var files []caseFile
	err := filepath.WalkDir(corpus, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".case") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(corpus, path)
		f := caseFile{path: filepath.ToSlash(rel), headers: map[string]string{}, sections: map[string][]string{}}
		section := ""
		for line := range strings.SplitSeq(strings.TrimSuffix(string(b), "\n"), "\n") {
			if name, ok := strings.CutPrefix(line, "--- "); ok {
				section = name
				f.sections[section] = []string{}
			} else if section != "" {
				f.sections[section] = append(f.sections[section], line)
			} else if kv, ok := strings.CutPrefix(line, "-- "); ok {
				k, v, _ := strings.Cut(kv, ": ")
				f.headers[k] = v
			}
		}
		files = append(files, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 300 {
		t.Fatalf("%d case files in %s", len(files), corpus)
	}
	return files
}

// text returns a section as it stands in the file.
func (f caseFile) text(section string) string {
	return strings.TrimRight(strings.Join(f.sections[section], "\n"), "\n")
}

// A sample is a text of the corpus with what Flink's parser made of it.
type sample struct {
	name string
	text string
	// expr says that the text is an expression that stands behind "SELECT ".
	expr bool
	// fails says that Flink refuses to parse it, at position if that is not empty.
	fails    bool
	position string
}

// samples returns all statements, queries and expressions of the corpus.
func samples(t testing.TB) []sample {
	t.Helper()
	var all []sample
	for _, f := range caseFiles(t) {
		add := func(name, text string) *sample {
			all = append(all, sample{name: f.path + " " + name, text: text})
			return &all[len(all)-1]
		}
		failure := map[string]string{}
		for _, line := range f.sections["error"] {
			k, v, _ := strings.Cut(line, ": ")
			failure[k] = v
		}
		parse := failure["class"] == "parse"
		for i, part := range Split(f.text("setup")) {
			name := fmt.Sprintf("setup %d", i+1)
			s := add(name, part.Text)
			if parse && failure["at"] == name {
				s.fails, s.position = true, failure["position"]
			}
		}
		if q := f.text("query"); q != "" {
			s := add("query", q)
			if parse && failure["at"] == "query" {
				s.fails, s.position = true, failure["position"]
			}
		}
		for _, line := range f.sections["statements"] {
			text, rest, ok := strings.Cut(line, " => ")
			if !ok {
				t.Fatalf("%s: %q", f.path, line)
			}
			s := add("statement", text)
			if fields := strings.Split(rest, " => "); fields[0] == "parse" {
				s.fails = true
				if fields[1] != "-" {
					s.position = fields[1]
				}
			}
		}
		if from := f.text("from"); from != "" {
			add("from", "SELECT * FROM "+from)
		}
		for _, line := range f.sections["expressions"] {
			text, rest, ok := strings.Cut(line, " => ")
			if !ok {
				continue
			}
			s := add("expression", text)
			s.expr = true
			if strings.HasPrefix(rest, "ERROR parse ") {
				s.fails = true
				if _, at, ok := strings.Cut(rest, " at line "); ok {
					at = strings.TrimRight(at, ".")
					s.position = strings.ReplaceAll(at, ", column ", ":")
				}
			}
		}
	}
	return all
}

// statement is the text as Flink was given it.
func (s sample) statement() string {
	if s.expr {
		return "SELECT " + s.text
	}
	return s.text
}

func TestCorpus(t *testing.T) {
	files, failing := map[string][2]int{}, 0
	for _, s := range samples(t) {
		_, err := Statement(s.statement())
		if errors.Is(err, ErrSeveral) { // which Flink, too, finds after parsing
			err = nil
		}
		var e *Error
		switch {
		case s.fails != (err != nil):
			t.Errorf("%s: %s\n\tfails in Flink: %t; here: %v", s.name, s.statement(), s.fails, err)
		case err == nil:
		case !errors.As(err, &e):
			t.Errorf("%s: %T", s.name, err)
		case s.position != "" && s.position != fmt.Sprintf("%d:%d", e.Line, e.Col):
			t.Errorf("%s: %s\n\tFlink says %s, we %v", s.name, s.statement(), s.position, err)
		default:
			failing++
		}
		file, _, _ := strings.Cut(s.name, " ")
		if s.fails {
			n := files[file]
			n[0]++
			if err != nil && (s.position == "" || s.position == fmt.Sprintf("%d:%d", e.Line, e.Col)) {
				n[1]++
			}
			files[file] = n
		}
	}
	for f, n := range files {
		t.Logf("%s: %d of %d parse errors have Flink's class and position", f, n[1], n[0])
	}
	if failing < 60 {
		t.Errorf("%d parse errors in the corpus: has it lost some?", failing)
	}
}
