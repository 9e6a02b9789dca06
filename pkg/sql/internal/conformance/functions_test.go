package conformance

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rivulet-io/rivulet/pkg/sql/internal/function"
)

func TestFunctions(t *testing.T) {
	files, err := filepath.Glob("../../../../test/conformance/functions/*.case")
	if err != nil || len(files) == 0 {
		t.Fatal("the corpus is not there", err)
	}
	passed, total := 0, 0
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		f, err := Parse(path, string(text))
		if err != nil {
			t.Fatal(err)
		}
		rs, err := Functions(f, function.Scalars)
		if err != nil {
			t.Error(err)
			continue
		}
		ok := 0
		for _, r := range rs {
			if r.Err == nil {
				ok++
				continue
			}
			t.Logf("%s:%d: %s: %v", filepath.Base(path), r.Line, r.What, r.Err)
		}
		t.Logf("%s: %d/%d", filepath.Base(path), ok, len(rs))
		passed, total = passed+ok, total+len(rs)
	}
	t.Logf("%d/%d passed", passed, total)
	// What passes goes on to pass; the number rises with the functions that are built.
	if least := 1900; passed < least {
		t.Errorf("%d of %d pass, it was %d at least", passed, total, least)
	}
}
