package parse

import (
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rivulet-io/rivulet/pkg/sql/internal/ast"
)

// same compares trees but for places and for how names were spelled.
var same = cmp.Options{
	cmp.FilterPath(func(p cmp.Path) bool {
		f, ok := p.Last().(cmp.StructField)
		return ok && (f.Name() == "Quoted" || f.Type() == reflect.TypeFor[ast.Span]())
	}, cmp.Ignore()),
}

// reprint checks that the canonical text of s gives s and itself again.
func reprint(t *testing.T, name string, s ast.Statement) {
	t.Helper()
	text := ast.SQL(s)
	again, err := Statement(text)
	if err != nil {
		t.Errorf("%s: printed as\n\t%s\n\t%v", name, text, err)
		return
	}
	if d := cmp.Diff(s, again, same); d != "" {
		t.Errorf("%s: printed as\n\t%s\n%s", name, text, d)
	}
	if second := ast.SQL(again); second != text {
		t.Errorf("%s: printed as\n\t%s\nand then as\n\t%s", name, text, second)
	}
}

func TestPrintCorpus(t *testing.T) {
	n := 0
	for _, s := range samples(t) {
		if stmt, err := Statement(s.statement()); err == nil {
			n++
			reprint(t, s.name+": "+s.statement(), stmt)
		}
	}
	if n < 3900 {
		t.Errorf("%d texts of the corpus were printed: has it lost some?", n)
	}
}
