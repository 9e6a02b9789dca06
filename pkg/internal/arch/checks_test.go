package arch

import (
	"fmt"
	"go/ast"
	"maps"
	"path"
	"slices"
	"strings"
)

// Each check returns what is wrong with a tree, one line for each violation, in
// a stable order.

// layerOf returns the index in layers of a package, or -1.
func layerOf(rel string) int {
	best, ok := longest(slices.Concat(layers...), rel)
	if !ok {
		return -1
	}
	return slices.IndexFunc(layers, func(layer []string) bool { return slices.Contains(layer, best) })
}

// checkLayers finds packages in no layer and imports that do not go down.
func checkLayers(t *tree) []string {
	var bad []string
	for _, rel := range slices.Sorted(maps.Keys(t.code)) {
		from := layerOf(rel)
		if from < 0 {
			bad = append(bad, rel+" is in no layer: add it to layers in rules_test.go")
			continue
		}
		for _, f := range t.code[rel] {
			for _, imp := range imports(f) {
				dep, ok := strings.CutPrefix(imp, module+"/")
				if !ok {
					continue
				}
				family := path.Dir(dep) == rel || path.Dir(rel) == dep
				switch to := layerOf(dep); {
				case to > from:
					bad = append(bad, fmt.Sprintf("%s: imports %s, which lies above it", t.at(f), dep))
				case to == from && !family:
					bad = append(bad, fmt.Sprintf("%s: imports %s, which lies beside it", t.at(f), dep))
				}
			}
		}
	}
	return bad
}

// checkComments finds packages without a package comment, and files that begin
// with a licence.
func checkComments(t *tree) []string {
	var bad []string
	for _, rel := range slices.Sorted(maps.Keys(t.code)) {
		files := t.code[rel]
		if !slices.ContainsFunc(files, func(f *ast.File) bool { return f.Doc != nil || ast.IsGenerated(f) }) {
			bad = append(bad, rel+" has no package comment")
		}
	}
	for _, files := range t.all() {
		for _, f := range files {
			for _, c := range f.Comments {
				if text := c.Text(); c.Pos() < f.Package && (strings.Contains(text, "Copyright") || strings.Contains(text, "SPDX")) {
					bad = append(bad, t.at(f)+": begins with a licence; LICENSE covers every file")
				}
			}
		}
	}
	return bad
}

// all yields the built files and the test files of every directory.
func (t *tree) all() [][]*ast.File {
	var out [][]*ast.File
	for _, rel := range slices.Sorted(maps.Keys(t.code)) {
		out = append(out, t.code[rel])
	}
	for _, rel := range slices.Sorted(maps.Keys(t.tests)) {
		out = append(out, t.tests[rel])
	}
	return out
}

// thirdParty reports whether an import path is neither the standard library's
// nor ours.
func thirdParty(imp string) bool {
	host, _, _ := strings.Cut(imp, "/")
	return strings.Contains(host, ".") && imp != module && !strings.HasPrefix(imp, module+"/")
}

// ownersOf returns who may import a third-party package, and whether anybody may.
func ownersOf(imp string) (patterns []string, known bool) {
	var mods []string
	for mod := range owners {
		mods = append(mods, mod+"/...")
	}
	best, known := longest(mods, imp)
	return owners[strings.TrimSuffix(best, "/...")], known
}

// checkOwners finds third-party imports outside their owners, and imports of
// packages that nothing we ship may use.
func checkOwners(t *tree) []string {
	var bad []string
	for _, rel := range slices.Sorted(maps.Keys(t.code)) {
		for _, f := range t.code[rel] {
			for _, imp := range imports(f) {
				if why, ok := banned[imp]; ok && !ast.IsGenerated(f) {
					bad = append(bad, fmt.Sprintf("%s: %s may not be imported: %s", t.at(f), imp, why))
				}
				if !thirdParty(imp) {
					continue
				}
				allowed, _ := ownersOf(imp)
				if _, ok := longest(allowed, rel); !ok {
					bad = append(bad, fmt.Sprintf("%s: %s may be imported only by %q", t.at(f), imp, allowed))
				}
			}
		}
	}
	for _, rel := range slices.Sorted(maps.Keys(t.tests)) {
		for _, f := range t.tests[rel] {
			for _, imp := range imports(f) {
				_, owned := ownersOf(imp)
				if thirdParty(imp) && !owned && !slices.ContainsFunc(testOnly, func(mod string) bool { return matches(mod+"/...", imp) }) {
					bad = append(bad, fmt.Sprintf("%s: tests use the standard library and %q, not %s", t.at(f), testOnly, imp))
				}
			}
		}
	}
	return bad
}

// checkPure finds whatever a pure package has beside decisions.
func checkPure(t *tree) []string {
	var bad []string
	for _, rel := range pure {
		for _, f := range t.code[rel] {
			for _, imp := range imports(f) {
				if slices.Contains(impure, imp) {
					bad = append(bad, fmt.Sprintf("%s imports %s: pure packages only decide", t.at(f), imp))
				}
			}
			ast.Inspect(f, func(n ast.Node) bool {
				switch n.(type) {
				case *ast.GoStmt, *ast.SelectStmt, *ast.ChanType, *ast.SendStmt:
					bad = append(bad, t.at(n)+": pure packages have no goroutines or channels")
				}
				return true
			})
			uses(f, "time", clock, func(sel *ast.SelectorExpr) {
				bad = append(bad, fmt.Sprintf("%s: time.%s: pure packages take the time as an argument", t.at(sel), sel.Sel.Name))
			})
		}
	}
	return bad
}

// checkSleeps finds wall-clock sleeps in tests: a test file that sleeps must be
// about synctest bubbles, where sleeping is how virtual time moves.
func checkSleeps(t *tree) []string {
	var bad []string
	for _, rel := range slices.Sorted(maps.Keys(t.tests)) {
		for _, f := range t.tests[rel] {
			if importedAs(f, "testing/synctest") != "" {
				continue
			}
			uses(f, "time", []string{"Sleep"}, func(sel *ast.SelectorExpr) {
				bad = append(bad, t.at(sel)+": time.Sleep outside a synctest bubble")
			})
		}
	}
	return bad
}

// checkMini finds the packages that must not be linked into the program at
// start, and how it reaches them. The graph maps packages to their imports.
func checkMini(graph map[string][]string, start string) []string {
	var bad []string
	via := map[string]string{start: ""}
	for todo := []string{start}; len(todo) > 0; todo = todo[1:] {
		pkg := todo[0]
		if ban, ok := longest(slices.Collect(maps.Keys(miniBans)), pkg); ok {
			chain := pkg
			for p := via[pkg]; p != ""; p = via[p] {
				chain = p + " -> " + chain
			}
			bad = append(bad, fmt.Sprintf("%s: %s", chain, miniBans[ban]))
			continue // what it drags in is its own fault
		}
		for _, dep := range graph[pkg] {
			if _, seen := via[dep]; !seen {
				via[dep] = pkg
				todo = append(todo, dep)
			}
		}
	}
	return bad
}
