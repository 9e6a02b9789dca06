// Package s3_test holds the file system of package fs/s3, and a job's checkpoints on it, against a real server: versitygw, built from its module.
package s3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rivulet-io/rivulet/examples/count/job"
	"github.com/rivulet-io/rivulet/pkg/app"
	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/fs"
	"github.com/rivulet-io/rivulet/pkg/fs/s3"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/storage"
	"github.com/rivulet-io/rivulet/test/program"
)

// server is the address of the store, which has the bucket "bucket".
var server string

func TestMain(m *testing.M) {
	program.RunIfAsked(func() { app.Main("count", job.Build) })
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "s3")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "versitygw")
	if out, err := exec.Command("go", "build", "-o", program, "github.com/versity/versitygw/cmd/versitygw").CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build the server: %w: %s", err, out)
	}
	data := filepath.Join(dir, "data")
	if err := os.MkdirAll(filepath.Join(data, "bucket"), 0o755); err != nil {
		return 0, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	address := l.Addr().String() // free a moment ago: it cannot take a listener over
	if err := l.Close(); err != nil {
		return 0, err
	}
	cmd := exec.Command(program, "--port", address, "posix", data)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY=access", "ROOT_SECRET_KEY=hidden")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = io.Discard, &said
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() {
		err = errors.Join(err, cmd.Process.Kill())
		_ = cmd.Wait() // it was killed
		if code != 0 {
			fmt.Fprintf(os.Stderr, "the server says:\n%s", said.Bytes())
		}
	}()
	server = "http://" + address
	for range 1_000_000 { // until it answers; go test's own limit ends it otherwise
		if resp, err := http.Get(server); err == nil {
			return m.Run(), resp.Body.Close()
		}
	}
	return 0, fmt.Errorf("the server does not answer at %s", address)
}

func settings(more ...string) []config.Setting {
	out := []config.Setting{{Key: "s3.endpoint", Value: server}, {Key: "s3.access-key", Value: "access"}, {Key: "s3.secret-key", Value: "hidden"}, {Key: "s3.path.style.access", Value: "true"}}
	for _, s := range more {
		k, v, _ := strings.Cut(s, "=")
		out = append(out, config.Setting{Key: k, Value: v})
	}
	return out
}

func open(t *testing.T, more ...string) *s3.FS {
	t.Helper()
	c, err := config.New(settings(more...)...)
	if err != nil {
		t.Fatal(err)
	}
	f, err := s3.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func write(f fs.FS, name string, b []byte) error {
	w, err := f.Create(name)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	if err == nil {
		err = w.Sync()
	}
	return errors.Join(err, w.Close())
}

func TestFiles(t *testing.T) {
	f := open(t)
	for _, n := range []int{0, 1, 5 << 20, 5<<20 + 1, 17 << 20} {
		want := bytes.Repeat([]byte{1, 2, 3, 4, 5, 6, 7}, n/7+1)[:n]
		name := fmt.Sprintf("/bucket/files/d/%d", n)
		if err := write(f, name, want); err != nil {
			t.Fatal(err)
		}
		got, err := fs.ReadFile(f, name, 1<<30)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: read %d, %v", n, len(got), err)
		}
	}
	entries, err := f.ReadDir("/bucket/files/d")
	if err != nil || len(entries) != 5 {
		t.Errorf("%v %v", entries, err)
	}
	if _, err := f.Open("/bucket/files/none"); !errors.Is(err, iofs.ErrNotExist) {
		t.Error(err)
	}
	for range 2 {
		if err := fs.WriteFile(f, "/bucket/files/_metadata", []byte("whole")); err != nil {
			t.Fatal(err)
		}
	}
	// One upload is given up, and one is left by a process that died.
	for _, name := range []string{"/bucket/files/up/given-up", "/bucket/files/up/dead"} {
		w, err := f.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, 11<<20)); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "dead") {
			err = f.Sweep("/bucket/files/up")
		} else {
			err = w.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "dead") && w.Sync() == nil {
			t.Error("an upload that was swept was completed")
		}
	}
	if err := f.RemoveAll("/bucket/files"); err != nil {
		t.Fatal(err)
	}
	if entries, err := f.ReadDir("/bucket/files"); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("left: %v %v", entries, err)
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct{ more, name, want string }{
		{"", "/other/f", `the bucket "other" does not exist`},
		{"s3.secret-key=wrong", "/bucket/f", "check s3.access-key and s3.secret-key"},
		{"s3.access-key=nobody", "/bucket/f", "check s3.access-key and s3.secret-key"},
		{"s3.endpoint.region=eu-west-7", "/bucket/f", "another region"},
	} {
		var more []string
		if c.more != "" {
			more = append(more, c.more)
		}
		err := write(open(t, more...), c.name, []byte("x"))
		if err == nil || !strings.Contains(err.Error(), c.want) || base.ClassOf(err) != base.ClassPermanent {
			t.Errorf("%s %s: class %v: %v", c.more, c.name, base.ClassOf(err), err)
		}
	}
}

// TestStorage finds the store by its scheme, as the processes of a cluster do.
func TestStorage(t *testing.T) {
	c, err := config.New(settings()...)
	if err != nil {
		t.Fatal(err)
	}
	s := storage.New(nil, c)
	dir := "s3://bucket/chk/" + base.NewJobID().String()
	if err := s.WriteLedger(context.Background(), dir, 7); err != nil {
		t.Fatal(err)
	}
	if n, err := s.ReadLedger(context.Background(), dir); n != 7 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := s.Load(context.Background(), dir+"/chk-1"); !errors.Is(err, iofs.ErrNotExist) {
		t.Error(err)
	}
	if err := s.Sweep(context.Background(), dir, nil); err != nil {
		t.Error(err)
	}
}
