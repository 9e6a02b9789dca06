package config

import (
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestEachKeyIsActedOn: a Key variable that no code reads would be a setting ignored in silence. Such a key belongs
// into keys.txt, as a warned or refused one, until there is code for it. The test reads the text of all packages, and
// holds from the moment on when a program can be run, that is, when package app exists.
func TestEachKeyIsActedOn(t *testing.T) {
	root := os.DirFS("../..")
	if _, err := fs.Stat(root, "pkg/app"); err != nil {
		t.Skip("there is no package app yet: nothing reads the configuration")
	}
	source, err := os.ReadFile("keys.go")
	if err != nil {
		t.Fatal(err)
	}
	groups, err := os.ReadFile("group.go")
	if err != nil {
		t.Fatal(err)
	}
	read := map[string]bool{}
	use := regexp.MustCompile(`\bconfig\.([A-Z]\w*)`)
	err = fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (name == "pkg/config" || path.Base(name) == "testdata" || (name != "." && strings.HasPrefix(d.Name(), "."))) {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		for _, m := range use.FindAllSubmatch(text, -1) {
			read[string(m[1])] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for function := range strings.SplitSeq(string(groups), "\nfunc ") {
		name, _, _ := strings.Cut(function, "(")
		if !read[name] {
			continue
		}
		for _, m := range regexp.MustCompile(`mustGet\(c, (\w+)\)`).FindAllStringSubmatch(function, -1) {
			read[m[1]] = true
		}
	}
	var unread []string
	for _, m := range regexp.MustCompile(`(?m)^\t(\w+)\s+= Key\[`).FindAllStringSubmatch(string(source), -1) {
		if !read[m[1]] {
			unread = append(unread, m[1])
		}
	}
	if slices.Sort(unread); len(unread) > 0 {
		t.Errorf("nothing reads these keys: %s", strings.Join(unread, ", "))
	}
}
