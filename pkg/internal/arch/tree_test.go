package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// A tree is the parsed source of a module. Its keys are directories relative to
// the module's root, which are import paths without the module's own.
type tree struct {
	fset  *token.FileSet
	code  map[string][]*ast.File // what is built
	tests map[string][]*ast.File // _test.go files
}

// load parses the Go files below the root of fsys, apart from testdata, hidden
// directories and nested modules. It reads the files itself rather than asking
// go list, because go test's cache sees the files a test opens but not those of
// a child process: a violation would pass as (cached).
func load(fsys fs.FS) (*tree, error) {
	t := &tree{fset: token.NewFileSet(), code: map[string][]*ast.File{}, tests: map[string][]*ast.File{}}
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if p == "." {
				return nil
			}
			if name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
				return fs.SkipDir
			}
			if _, err := fs.Stat(fsys, path.Join(p, "go.mod")); err == nil {
				return fs.SkipDir // a module of its own: tools/buf, tools/golangci
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		src, err := fs.ReadFile(fsys, p)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(t.fset, p, src, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		into := t.code
		if strings.HasSuffix(name, "_test.go") {
			into = t.tests
		}
		into[path.Dir(p)] = append(into[path.Dir(p)], f)
		return nil
	})
	return t, err
}

// at says where a node is, as file:line:column from the module's root.
func (t *tree) at(n ast.Node) string { return t.fset.Position(n.Pos()).String() }

// imports returns the import paths of a file.
func imports(f *ast.File) []string {
	var out []string
	for _, spec := range f.Imports {
		if s, err := strconv.Unquote(spec.Path.Value); err == nil {
			out = append(out, s)
		}
	}
	return out
}

// importedAs returns the name by which a file calls an imported package, or ""
// if it does not import it.
func importedAs(f *ast.File, pkg string) string {
	for _, spec := range f.Imports {
		switch s, _ := strconv.Unquote(spec.Path.Value); {
		case s != pkg:
		case spec.Name != nil:
			return spec.Name.Name
		default:
			return path.Base(pkg)
		}
	}
	return ""
}

// uses calls found for each mention of one of the names of a package in a file.
func uses(f *ast.File, pkg string, names []string, found func(*ast.SelectorExpr)) {
	as := importedAs(f, pkg)
	if as == "" {
		return
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok && slices.Contains(names, sel.Sel.Name) {
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == as {
				found(sel)
			}
		}
		return true
	})
}

// matches reports whether a pattern, exact or ending in /..., covers a path.
func matches(pattern, p string) bool {
	base, isTree := strings.CutSuffix(pattern, "/...")
	return p == base || isTree && strings.HasPrefix(p, base+"/")
}

// longest returns the most specific of the patterns that match p: the longest,
// an exact one before a tree of the same length.
func longest(patterns []string, p string) (best string, ok bool) {
	weight := -1
	for _, pattern := range patterns {
		base, isTree := strings.CutSuffix(pattern, "/...")
		w := 2 * len(base)
		if !isTree {
			w++
		}
		if w > weight && matches(pattern, p) {
			best, weight = pattern, w
		}
	}
	return best, weight >= 0
}
