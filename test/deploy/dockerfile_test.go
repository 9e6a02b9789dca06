package deploy

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// user is who the images run as.
const user = 65532

// dockerfile returns the stages of the Dockerfile.
func dockerfile(t *testing.T) []instructions.Stage {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "deploy/Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	ast, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(ast.Warnings) > 0 {
		t.Errorf("Dockerfile: %v", ast.Warnings)
	}
	stages, _, err := instructions.Parse(ast.AST, nil)
	if err != nil {
		t.Fatal(err)
	}
	return stages
}

// buildCommands returns what the Dockerfile builds with.
func buildCommands(t *testing.T) (commands []string) {
	t.Helper()
	for _, s := range dockerfile(t) {
		for _, c := range s.Commands {
			if run, ok := c.(*instructions.RunCommand); ok && strings.Contains(strings.Join(run.CmdLine, " "), "go build") {
				if !run.PrependShell || len(run.CmdLine) != 1 {
					t.Fatalf("want the shell's form of RUN: %q", run.CmdLine)
				}
				commands = append(commands, run.CmdLine[0])
			}
		}
	}
	if len(commands) != 2 {
		t.Fatalf("the Dockerfile has %d build commands, want that of our binaries and that of a program: %q", len(commands), commands)
	}
	return commands
}

// TestDockerfileBuildsAsMake: the binaries in the images are those of `make build`, but for where they are put and which they are.
func TestDockerfileBuildsAsMake(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^build:.*\n\t(.*)$`).FindSubmatch(text)
	tags := regexp.MustCompile(`(?m)^TAGS := (.*)$`).FindSubmatch(text)
	if line == nil || tags == nil {
		t.Fatal("the Makefile has no build or TAGS any more")
	}
	made := strings.NewReplacer("$(TAGS)", string(tags[1]), "$(BIN)/", "/bin/rivulet/").Replace(string(line[1]))
	commands := buildCommands(t)
	if commands[0] != made {
		t.Errorf("the Dockerfile builds with\n%s\nmake build with\n%s", commands[0], made)
	}
	if got := strings.NewReplacer("/bin/rivulet/program", "/bin/rivulet/", "${PROGRAM}", "./cmd/...").Replace(commands[1]); got != made {
		t.Errorf("the Dockerfile builds a program with\n%s\nmake build with\n%s", got, made)
	}
}

// TestImages: each target starts its own binary, from scratch, as a user without rights; and what a manifest or compose file starts is a target.
func TestImages(t *testing.T) {
	stages := dockerfile(t)
	find := func(name string) *instructions.Stage {
		i := slices.IndexFunc(stages, func(s instructions.Stage) bool { return s.Name == name })
		if i < 0 {
			t.Fatalf("the Dockerfile has no target %s", name)
		}
		return &stages[i]
	}
	if base := find("image"); base.BaseName != "scratch" {
		t.Errorf("images are built from %s", base.BaseName)
	}
	identity := ""
	for _, c := range find("image").Commands {
		if u, ok := c.(*instructions.UserCommand); ok {
			identity = u.User
		}
	}
	if identity != fmt.Sprintf("%d:%d", user, user) {
		t.Errorf("images run as %q", identity)
	}
	for _, name := range []string{"mini", "jobmanager", "taskmanager", "program"} {
		s := find(name)
		if s.BaseName != "image" {
			t.Errorf("%s is built from %s", name, s.BaseName)
		}
		for _, c := range s.Commands {
			switch c := c.(type) {
			case *instructions.EntrypointCommand:
				if !slices.Equal(c.CmdLine, []string{"/" + name}) || c.PrependShell {
					t.Errorf("%s starts %q", name, c.CmdLine)
				}
			case *instructions.CmdCommand:
				if c.PrependShell {
					t.Errorf("%s needs a shell", name)
				}
				accepts(t, name, c.CmdLine)
			case *instructions.UserCommand:
				t.Errorf("%s runs as %s", name, c.User)
			}
		}
	}
	if last := stages[len(stages)-1].Name; last != "mini" {
		t.Errorf("a build without --target makes %s", last)
	}
}

// TestStatic: the binaries need no other file.
func TestStatic(t *testing.T) {
	for _, name := range []string{"mini", "jobmanager", "taskmanager", "program"} {
		f, err := elf.Open(binary(t, name))
		if err != nil {
			t.Fatal(err)
		}
		libraries, err := f.ImportedLibraries()
		if err != nil || len(libraries) > 0 {
			t.Errorf("%s needs %v, %v", name, libraries, err)
		}
		for _, p := range f.Progs {
			if p.Type == elf.PT_INTERP {
				t.Errorf("%s needs a loader", name)
			}
		}
		_ = f.Close()
	}
}

// TestAlone: a binary runs in a directory that has nothing else, as the image's user, answers its probes, and ends in time when it is told to.
func TestAlone(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("chroot and a change of user need root")
	}
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	for _, step := range []func() error{
		func() error { return os.Chmod(dir, 0o555) }, // as with readOnlyRootFilesystem
		func() error { return os.Mkdir(data, 0o700) },
		func() error { return os.Chown(data, user, user) },
		func() error {
			b, err := os.ReadFile(binary(t, "mini"))
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, "mini"), b, 0o555)
		},
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := exec.CommandContext(ctx, "/mini", "--data-dir=/data", "--rest-address=127.0.0.1:0", "--memory=64MB")
	cmd.Path, cmd.Dir, cmd.Env = "/mini", "/", []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: dir, Credential: &syscall.Credential{Uid: user, Gid: user}}
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	address := ""
	lines := bufio.NewScanner(log)
	for address == "" && lines.Scan() {
		if _, rest, ok := strings.Cut(lines.Text(), "address=http://"); ok {
			address, _, _ = strings.Cut(rest, " ")
		}
	}
	if address == "" {
		t.Fatalf("mini did not say where it serves REST: %v", cmd.Wait())
	}
	for _, path := range []string{"/health/live", "/health/ready", "/metrics"} {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", path, resp.Status)
		}
		_ = resp.Body.Close()
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, log); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}
