package config

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

//go:generate go test -run ^TestReferencePageIsFresh$ . -rewrite

// TestEachKeyOfFlinkIsClassified holds the lists against the names that Flink's releases have.
func TestEachKeyOfFlinkIsClassified(t *testing.T) {
	names, err := os.ReadFile("testdata/flink_keys.txt")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for name := range strings.Lines(string(names)) {
		if name = strings.TrimSpace(name); name == "" || name[0] == '#' {
			continue
		}
		n++
		if _, ok := lookup(name); !ok && keyByName(name) == nil {
			t.Errorf("%s: not classified", name)
		}
	}
	if n < 1000 {
		t.Errorf("only %d names", n)
	}
}

// TestTablesAreWellFormed: a name stands in one place only, and each line and each key is complete.
func TestTablesAreWellFormed(t *testing.T) {
	where := map[string]string{}
	once := func(name, place string) {
		t.Helper()
		if name == "" || strings.ContainsAny(name, " <=|") {
			t.Errorf("%s: malformed name %q", place, name)
		}
		if before, twice := where[name]; twice {
			t.Errorf("%s: in %s and in %s", name, before, place)
		}
		where[name] = place
	}
	for _, k := range acted {
		name, old := k.names()
		for _, n := range append([]string{name}, old...) {
			once(n, "keys.go")
		}
		if _, _, doc := k.defaults(); !strings.HasSuffix(doc, ".") {
			t.Errorf("%s: its doc is no sentence: %q", name, doc)
		}
	}
	for r := range rules {
		for _, n := range append([]string{r.name}, strings.Fields(r.old)...) {
			once(n, "keys.txt")
		}
		if !strings.HasSuffix(r.reason, ".") {
			t.Errorf("%s: its reason is no sentence: %q", r.name, r.reason)
		}
	}
	for line := range strings.Lines(table) {
		if line[0] == '[' && !strings.HasPrefix(line, "[refused] ") && !strings.HasPrefix(line, "[warned] ") {
			t.Errorf("unknown class: %s", line)
		}
	}
}

// TestEachKeyVariableIsListed: a Key that is not in acted would be unknown to New.
func TestEachKeyVariableIsListed(t *testing.T) {
	listed := map[string]bool{}
	for _, k := range acted {
		name, _ := k.names()
		listed[name] = true
	}
	sources, err := fs.Glob(os.DirFS("."), "*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, path := range sources {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			lit, ok := n.(*ast.CompositeLit)
			if !ok {
				return true
			}
			if ix, ok := lit.Type.(*ast.IndexExpr); !ok || fmt.Sprint(ix.X) != "Key" {
				return true
			}
			for _, e := range lit.Elts {
				if kv, ok := e.(*ast.KeyValueExpr); ok && fmt.Sprint(kv.Key) == "Name" {
					found++
					if name := strings.Trim(kv.Value.(*ast.BasicLit).Value, `"`); !listed[name] {
						t.Errorf("%s: not in acted", name)
					}
				}
			}
			return true
		})
	}
	if found != len(acted) {
		t.Errorf("%d Key variables, %d in acted", found, len(acted))
	}
}

// TestDefaultsFit: what stands in the reference page as a default can be written as a value.
func TestDefaultsFit(t *testing.T) {
	for _, k := range acted {
		name, _ := k.names()
		own, _, _ := k.defaults()
		text := shownDefault(own)
		if text == "" || own == RestartKind("") {
			continue
		}
		if err := k.check(text); err != nil {
			t.Errorf("%s: its default %q: %v", name, text, err)
		}
	}
}

func TestNearest(t *testing.T) {
	for typed, want := range map[string]string{
		"paralelism.default":                   "parallelism.default",
		"Parallelism.Default":                  "parallelism.default",
		"checkpointing.interval":               "execution.checkpointing.interval",
		"execution.checkpointing.intervall":    "execution.checkpointing.interval",
		"execution.checkpoint.interval":        "execution.checkpointing.interval",
		"state.checkpoint.dir":                 "execution.checkpointing.dir",
		"taskmanager.numberoftaskslots":        "taskmanager.numberOfTaskSlots",
		"restart-strategy.fixed-delay.attempt": "restart-strategy.fixed-delay.attempts",
		"rset.port":                            "rest.port",
		"zzzzzzzz":                             "",
	} {
		if got := nearest(typed); got != want {
			t.Errorf("%s: %q, want %q", typed, got, want)
		}
	}
}

// TestReferencePageIsFresh compares docs/config.md with the tables; -rewrite writes it (go generate does).
func TestReferencePageIsFresh(t *testing.T) {
	const path = "../../docs/config.md"
	want := reference()
	if flag.Lookup("rewrite").Value.String() == "true" {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(got), want); diff != "" {
		t.Errorf("%s is stale, run go generate (-page +tables):\n%s", path, diff)
	}
}

// reference writes the reference page.
func reference() string {
	var b strings.Builder
	b.WriteString(`# Configuration

<!-- Made by go generate from pkg/config/keys.go and pkg/config/keys.txt. Do not edit. -->

Options have Flink's names. They are set, in rising strength,

* in ` + "`config.yaml`" + ` of the directory ` + "`--config-dir`" + ` or ` + "`$RIVULET_CONF_DIR`" + `, as in Flink: keys are written out (` + "`rest.port: 8081`" + `) or nested,
* in the environment: ` + "`$RIVULET_PROPERTIES`" + ` has lines like that file's (as ` + "`$FLINK_PROPERTIES`" + ` of Flink's images),
* by the process's own options, where there is one (` + "`--memory`, `--slots`, `--rest-address`" + `; ` + "`--help`" + ` lists them),
* with ` + "`-D key=value`" + `.

Each of Flink's keys is acted on, accepted with a
warning, or refused with the reason; the older names are accepted too. A key that is not on this page is an error that
names the nearest one. All problems are reported together, before anything starts.

* Durations are a whole number and a unit: ` + "`10 s`, `500 ms`, `1 min`, `2 h`, `1 d`, also `µs` and `ns`" + `; without a unit milliseconds.
  ISO 8601 (` + "`PT1M30S`" + `) is read too.
* Sizes are a whole number and a unit of 1024: ` + "`64 mb`, `1g`, `512 k`" + `; without a unit bytes.
* Names of choices are read without regard to case.

## Acted on

`)
	b.WriteString("| Key | Default | Meaning |\n|---|---|---|\n")
	for _, k := range acted {
		name, old := k.names()
		own, flink, doc := k.defaults()
		def := shownDefault(own)
		if def == "" {
			def = "not set"
		} else {
			def = "`" + def + "`"
		}
		if flink != "" && !strings.EqualFold(flink, strings.Trim(def, "`")) && (def != "not set" || !strings.HasPrefix(flink, "none")) {
			def += " (Flink: " + flink + ")"
		}
		if len(old) > 0 {
			doc += " Older: `" + strings.Join(old, "`, `") + "`."
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, def, doc)
	}
	for _, class := range []struct {
		title   string
		refused bool
	}{{"Refused", true}, {"Accepted with a warning", false}} {
		fmt.Fprintf(&b, "\n## %s\n", class.title)
		if class.refused {
			b.WriteString("\nThese ask for what is not done, and ignoring them would change results or promises. Where a value stands behind a key, that value is what is done anyway and is accepted.\n")
		} else {
			b.WriteString("\nThese mean nothing here or do no harm. Where a value stands behind a key, that value is accepted without a warning.\n")
		}
		reason := ""
		for r := range rules {
			if r.refused != class.refused {
				continue
			}
			if r.reason != reason {
				reason = r.reason
				fmt.Fprintf(&b, "\n%s\n\n", reason)
			}
			fmt.Fprintf(&b, "* `%s`", r.name)
			if strings.HasSuffix(r.name, ".*") {
				b.WriteString(" (all others)")
			}
			if r.fine != "" {
				fmt.Fprintf(&b, " = `%s`", strings.ReplaceAll(r.fine, "|", "`, `"))
			}
			if r.old != "" {
				fmt.Fprintf(&b, " (older: `%s`)", strings.ReplaceAll(r.old, " ", "`, `"))
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}
