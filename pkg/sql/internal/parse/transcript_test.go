package parse

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/rivulet-io/rivulet/pkg/sql/internal/ast"
)

// TestTranscripts runs the files of testdata. Each line of a command's input is a
// text of its own, but for tree and split, which take all lines as one:
//
//	sql      prints the canonical text of a statement, or the error
//	expr     does so for an expression
//	tree     prints the tree of an expression or a statement, with its places
//	split    prints the statements of a script, with their places
//	script   parses a script and says where the error is, in both counts
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, path := range files {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var b strings.Builder
			switch d.Cmd {
			case "sql", "expr":
				for line := range strings.SplitSeq(d.Input, "\n") {
					var n ast.Node
					var err error
					if d.Cmd == "sql" {
						var s ast.Statement
						if s, err = Statement(line); err == nil {
							n = s
							reprint(t, line, s)
						}
					} else if n, err = Expression(line); err == nil {
						s, err := Statement("SELECT " + line)
						if err != nil {
							t.Errorf("%s: %v", line, err)
							continue
						}
						reprint(t, line, s)
					}
					if err != nil {
						fmt.Fprintf(&b, "%v\n", err)
						continue
					}
					fmt.Fprintln(&b, ast.SQL(n))
				}
			case "tree":
				var n ast.Node
				n, err := Expression(d.Input)
				if err != nil {
					n, err = Statement(d.Input)
				}
				if err != nil {
					return err.Error()
				}
				dump(&b, reflect.ValueOf(n), "")
			case "split":
				for _, part := range Split(d.Input) {
					fmt.Fprintf(&b, "%d:%d %q\n", part.At.Line, part.At.Col, part.Text)
				}
			case "script":
				all, err := Script(d.Input)
				fmt.Fprintf(&b, "%d statements\n", len(all))
				if e := (*Error)(nil); errors.As(err, &e) {
					fmt.Fprintf(&b, "in the one at %d:%d: %v\n", e.Script.Line, e.Script.Col, e)
				}
			default:
				t.Fatalf("%s: no command %s", d.Pos, d.Cmd)
			}
			return b.String()
		})
	}
}

// dump writes a tree, one node a line, without what is empty.
func dump(b *strings.Builder, v reflect.Value, indent string) {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	n, ok := reflect.TypeAssert[ast.Node](v)
	if !ok || v.Kind() != reflect.Struct {
		fmt.Fprintf(b, "%v\n", v.Interface())
		return
	}
	at := n.At()
	fmt.Fprintf(b, "%s %d:%d [%d,%d)\n", v.Type().Name(), at.Line, at.Col, at.Start, at.End)
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Type == reflect.TypeFor[ast.Span]() || v.Field(i).IsZero() {
			continue
		}
		if v.Field(i).Kind() == reflect.Slice {
			for j := range v.Field(i).Len() {
				fmt.Fprintf(b, "%s  %s %d: ", indent, f.Name, j)
				dump(b, v.Field(i).Index(j), indent+"  ")
			}
			continue
		}
		fmt.Fprintf(b, "%s  %s: ", indent, f.Name)
		dump(b, v.Field(i), indent+"  ")
	}
}
