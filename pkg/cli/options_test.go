package cli

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rivulet-io/rivulet/pkg/stream"
)

func jobFlags() (*flag.FlagSet, *string) {
	fs := flag.NewFlagSet("job", flag.ContinueOnError)
	topic := fs.String("topic", "clicks", "read the Kafka topic `NAME`")
	return fs, topic
}

func TestParse(t *testing.T) {
	fs, topic := jobFlags()
	o, _, err := parse("visits", mini, fs, []string{
		"--topic=t1", "-Dparallelism.default=4", "-D", "pipeline.object-reuse=true", "--memory", "64MB", "--data-dir", "/d", "--fresh", "--from-savepoint=/sp", "--rest-address", "off", "--", "rest", "-x",
	})
	if err != nil {
		t.Fatal(err)
	}
	if *topic != "t1" {
		t.Errorf("topic %q", *topic)
	}
	if d := cmp.Diff([]string{"--topic=t1", "rest", "-x"}, o.Args); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"rest", "-x"}, fs.Args()); d != "" {
		t.Error(d)
	}
	if o.Memory != 64<<20 || o.DataDir != "/d" || !o.Fresh || o.FromSavepoint != "/sp" || len(o.Settings) != 2 || o.Settings[0].Value != "4" || o.RESTAddress != "off" {
		t.Errorf("%+v", o)
	}
}

func TestDefaults(t *testing.T) {
	o, _, err := parse("visits", mini, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if o.DataDir != "rivulet-data/visits" || o.Memory != 0 || o.RESTAddress != "127.0.0.1:8081" || o.Fresh || o.Claim {
		t.Errorf("%+v", o)
	}
	o, _, err = parse("visits", mini, nil, []string{
		"-Dpipeline.name=a/b", "-Drest.port=9000", "-Dexecution.state-recovery.path=/sp", "-Dexecution.state-recovery.claim-mode=CLAIM",
		"-Dexecution.state-recovery.ignore-unclaimed-state=true", "-Dtaskmanager.memory.process.size=1g",
	})
	if err != nil {
		t.Fatal(err)
	}
	if o.Name != "a/b" || o.DataDir != "rivulet-data/a_b" || o.RESTAddress != "127.0.0.1:9000" || o.FromSavepoint != "/sp" || !o.Claim || !o.AllowNonRestoredState || o.Memory != 1<<30 {
		t.Errorf("%+v", o)
	}
}

// TestRefused checks what is said about command lines that are not understood, and that they exit with 2.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name, want string
		args       []string
	}{
		{"near", "unknown option --dta-dir; did you mean --data-dir?", []string{"--dta-dir", "x"}},
		{"job's own", "unknown option --topics; did you mean --topic?", []string{"--topics=x"}},
		{"far", "unknown option --zzzzzz; --help lists all", []string{"--zzzzzz"}},
		{"key", "did you mean parallelism.default?", []string{"-Dparallelism.defaul=4"}},
		{"value", `parallelism.default: "many"`, []string{"-D", "parallelism.default=many"}},
		{"no key", "want key=value", []string{"-D", "=x"}},
		{"memory", "--memory 1 mb: want at least 24MB", []string{"--memory", "1MB"}},
		{"size", "want a whole number and a unit", []string{"--memory", "lots"}},
		{"address", "want HOST:PORT", []string{"--rest-address", "8081"}},
		{"together", "a fresh start has no state", []string{"--fresh", "--check"}},
		{"rpc address", "--rpc-address \"6123\": want HOST:PORT", []string{"jobmanager", "--rpc-address", "6123"}},
		{"jobmanager", "--jobmanager \"b\": want HOST:PORT", []string{"taskmanager", "--jobmanager", "a:1,b"}},
		{"job's own at a task manager", "unknown option --topic", []string{"taskmanager", "--topic", "x"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs, _ := jobFlags()
			var stderr bytes.Buffer
			code := Run(t.Context(), Program{Name: "visits", Flags: fs, Build: noJob}, c.args, nil, &stderr)
			if code != exitUsage || !strings.Contains(stderr.String(), c.want) {
				t.Errorf("exit %d, %s", code, stderr.String())
			}
		})
	}
}

func noJob(*stream.Env) error { return errors.New("no job here") }

func TestClashIsSaid(t *testing.T) {
	fs := flag.NewFlagSet("job", flag.ContinueOnError)
	fs.Bool("fresh", false, "")
	var stderr bytes.Buffer
	if code := Run(t.Context(), Program{Name: "x", Flags: fs, Build: noJob}, nil, nil, &stderr); code != exitUsage || !strings.Contains(stderr.String(), "the program defines --fresh") {
		t.Errorf("exit %d, %s", code, stderr.String())
	}
}

var update = flag.Bool("update", false, "write testdata anew")

func TestHelp(t *testing.T) {
	fs, _ := jobFlags()
	job := Program{Name: "visits", Flags: fs, Build: noJob}
	for name, c := range map[string]struct {
		p    Program
		args []string
	}{
		"job": {job, nil}, "mini": {Program{Name: "mini"}, nil},
		"job-jobmanager": {job, []string{"jobmanager"}}, "job-taskmanager": {job, []string{"taskmanager"}},
		"jobmanager": {Program{Name: "jobmanager", Role: "jobmanager"}, nil}, "taskmanager": {Program{Name: "taskmanager", Role: "taskmanager"}, nil},
	} {
		var stdout, stderr bytes.Buffer
		if code := Run(t.Context(), c.p, append(c.args, "--help"), &stdout, &stderr); code != exitOK || stderr.Len() > 0 {
			t.Fatalf("exit %d: %s", code, stderr.String())
		}
		file := filepath.Join("testdata", "help-"+name+".txt")
		if *update {
			if err := os.WriteFile(file, stdout.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), stdout.String()); d != "" {
			t.Error(d)
		}
	}
}

func TestConsoleKeepsProgressBelow(t *testing.T) {
	var b bytes.Buffer
	c := newConsole(&b, true)
	c.draw([]string{"one", "two"})
	_, _ = c.Write([]byte("log\n"))
	c.draw(nil)
	want := "one\ntwo\n" + "\x1b[2A\r\x1b[J" + "log\n" + "one\ntwo\n" + "\x1b[2A\r\x1b[J"
	if b.String() != want {
		t.Errorf("%q", b.String())
	}
	b.Reset()
	piped := newConsole(&b, false)
	piped.draw([]string{"one"})
	if _, err := piped.Write([]byte("log\n")); err != nil || b.String() != "log\n" {
		t.Errorf("%q, %v", b.String(), err)
	}
}

func TestCount(t *testing.T) {
	var got []string
	for _, n := range []float64{0, 950, 9999, 12345, 4.561e6, 2e9} {
		got = append(got, count(n))
	}
	if d := cmp.Diff([]string{"0", "950", "9999", "12.3 k", "4.56 M", "2 G"}, got); d != "" {
		t.Error(d)
	}
}

func TestMiniWithoutJobRunsUntilTold(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stderr bytes.Buffer
	if code := Run(ctx, Program{Name: "mini"}, []string{"--data-dir", filepath.Join(t.TempDir(), "d"), "--rest-address", "off"}, nil, &stderr); code != exitOK {
		t.Errorf("exit %d: %s", code, stderr.String())
	}
}

// TestLayers: the file is weaker than the environment, that than options, and those than -D.
func TestLayers(t *testing.T) {
	dir := t.TempDir()
	file := "rest:\n  port: 1001\n  bind-address: 127.0.0.2\nparallelism.default: 1\ntaskmanager.numberOfTaskSlots: 1\nstate.savepoints.dir: /from-file\n"
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv(envConfDir, dir)
	t.Setenv(envProperties, "rest.port: 1002\nparallelism.default: 2\ntaskmanager.numberOfTaskSlots: 2\n")
	read := func(r role, args ...string) *Options {
		t.Helper()
		o, _, err := parse("x", r, nil, args)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	if o := read(mini); o.RESTAddress != "127.0.0.2:1002" || len(o.Config.Settings()) != 5 {
		t.Errorf("%s, %v", o.RESTAddress, o.Config.Settings())
	}
	if o := read(mini, "--rest-address", "127.0.0.3:1003"); o.RESTAddress != "127.0.0.3:1003" {
		t.Error(o.RESTAddress)
	}
	if o := read(mini, "--rest-address", "127.0.0.3:1003", "-D", "rest.port=1004"); o.RESTAddress != "127.0.0.2:1004" {
		t.Error(o.RESTAddress)
	}
	if o := read(taskManager); o.Slots != 2 || o.JobManagers != nil || o.RPCAddress != "" || o.RESTAddress != "127.0.0.1:0" {
		t.Errorf("%+v", o)
	}
	if o := read(taskManager, "--slots", "3", "--jobmanager", "a:1,b:2"); o.Slots != 3 || strings.Join(o.JobManagers, " ") != "a:1 b:2" {
		t.Errorf("%+v", o)
	}
	if o := read(taskManager, "--slots", "3", "-Dtaskmanager.numberOfTaskSlots=4"); o.Slots != 4 {
		t.Errorf("%+v", o)
	}
	t.Setenv(envProperties, "parallelism.defalt: 2")
	_, _, err := parse("x", mini, nil, nil)
	if err == nil || !strings.Contains(err.Error(), "did you mean parallelism.default? ($RIVULET_PROPERTIES:1)") {
		t.Errorf("got %v", err)
	}
	_, _, err = parse("x", mini, nil, []string{"--config-dir", filepath.Join(dir, "none")})
	if err == nil || !strings.Contains(err.Error(), "config.yaml") {
		t.Errorf("got %v", err)
	}
}

// TestStoreThatIsNotLinked says which import a program lacks.
func TestStoreThatIsNotLinked(t *testing.T) {
	var stderr bytes.Buffer
	code := Run(t.Context(), Program{Name: "x", Build: noJob}, []string{
		"jobmanager", "-Dhigh-availability.type=etcd", "-Dhigh-availability.etcd.endpoints=http://127.0.0.1:1", "-Dhigh-availability.storageDir=" + t.TempDir(), "--rest-address", "off",
	}, nil, &stderr)
	if code != exitFailed || !strings.Contains(stderr.String(), `import _ "github.com/rivulet-io/rivulet/pkg/ha/etcd"`) {
		t.Errorf("exit %d, %s", code, stderr.String())
	}
}
