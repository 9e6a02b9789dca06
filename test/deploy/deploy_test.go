// Package deploy tests what lies in deploy/: that each overlay renders into documents that Kubernetes takes, that their parts fit together, and that what they start
// understands its arguments; that compose files and the Dockerfile parse; and that what the Dockerfile builds runs in an image with nothing else in it.
//
// It is a module of its own, so that users of Rivulet get nothing of what it needs. Images are not built: that needs a container engine.
package deploy

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// root is the repository.
const root = "../.."

// binaries is where built programs lie, made and removed by TestMain.
var binaries string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "rivulet-deploy")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binaries = dir
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// build runs a build command of the Dockerfile once, with "/bin/rivulet" moved to binaries.
func build(command string) error {
	command = strings.ReplaceAll(command, "/bin/rivulet", binaries)
	v, _ := builds.LoadOrStore(command, sync.OnceValue(func() error {
		cmd := exec.Command("sh", "-c", command)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "PROGRAM=./examples/count")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", command, err, out)
		}
		return nil
	}))
	return v.(func() error)()
}

var builds sync.Map // command to func() error

// binary returns the path of what an image named "program", "mini", "jobmanager" or "taskmanager" starts.
func binary(t *testing.T, name string) string {
	t.Helper()
	for _, command := range buildCommands(t) {
		if err := build(command); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(binaries, name)
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// accepts checks that a program takes arguments: those before --help are read, and an unknown one is an error.
func accepts(t *testing.T, name string, args []string) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.CommandContext(context.Background(), binary(t, name), append(slices.Clone(args), "--help")...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Errorf("%s %s: %v: %s", name, strings.Join(args, " "), err, out.String())
	}
	checkSettings(t, name, args)
}
