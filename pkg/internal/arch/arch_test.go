package arch

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// loadModule parses the module these tests are part of.
func loadModule(t *testing.T) *tree {
	t.Helper()
	tr, err := load(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	if len(tr.code["pkg/internal/invariant"]) == 0 {
		t.Fatalf("no package pkg/internal/invariant below %s: is that the module's root?", root)
	}
	return tr
}

func TestLayers(t *testing.T)       { report(t, checkLayers(loadModule(t))) }
func TestComments(t *testing.T)     { report(t, checkComments(loadModule(t))) }
func TestOwners(t *testing.T)       { report(t, checkOwners(loadModule(t))) }
func TestPurePackages(t *testing.T) { report(t, checkPure(loadModule(t))) }
func TestNoRealSleep(t *testing.T)  { report(t, checkSleeps(loadModule(t))) }

func report(t *testing.T, bad []string) {
	t.Helper()
	for _, line := range bad {
		t.Error(line)
	}
}

// TestCommandsStaySmall compares what is linked into each command, of ours and of
// others, with the list that is reviewed, and looks for what must not be there at
// all: in mini much, and the etcd client in all that is no JobManager.
func TestCommandsStaySmall(t *testing.T) {
	// The lists come from a child process. Reading the same sources here is what
	// tells go test's cache when to ask again.
	loadModule(t)
	for _, name := range []string{"go.mod", "go.sum"} {
		if _, err := fs.ReadFile(os.DirFS(root), name); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("the go command is not on the path")
	}
	for _, cmd := range []string{"cmd/mini", "cmd/jobmanager", "cmd/taskmanager", "examples/count"} {
		graph, linked := listDeps(t, "./"+cmd)
		if cmd == "cmd/mini" {
			report(t, checkMini(graph, module+"/cmd/mini"))
		}
		for _, l := range linked {
			if strings.HasPrefix(l, "go.etcd.io/") && cmd != "cmd/jobmanager" {
				t.Errorf("%s links %s: high availability is a blank import that a JobManager's main makes", cmd, l)
			}
		}
		if !strings.HasPrefix(cmd, "cmd/") {
			continue
		}
		reviewed, err := fs.ReadFile(os.DirFS(root), cmd+"/deps.txt")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if diff := cmp.Diff(strings.Fields(string(reviewed)), linked); diff != "" {
			t.Errorf("%s links other packages than its deps.txt says (-deps.txt +linked): if that is meant, run make deps and say why in the commit\n%s", cmd, diff)
		}
	}
}

// listDeps returns the import graph of a program built as make build builds it,
// and its packages outside the standard library, sorted.
func listDeps(t *testing.T, pkg string) (graph map[string][]string, linked []string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-tags", "grpcnotrace", "-deps", "-json=ImportPath,Imports,Standard", pkg)
	cmd.Dir = root
	// Linked packages differ by platform, so the list is that of a Linux binary.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	graph = map[string][]string{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath string
			Imports    []string
			Standard   bool
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			slices.Sort(linked)
			return graph, linked
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		graph[p.ImportPath] = p.Imports
		if !p.Standard {
			linked = append(linked, p.ImportPath)
		}
	}
}
