package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPortInUse: nothing begins, and the message says what to do.
func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	dir := filepath.Join(t.TempDir(), "d")
	var stderr bytes.Buffer
	code := Run(t.Context(), Program{Name: "mini"}, []string{"--data-dir", dir, "--rest-address", l.Addr().String()}, nil, &stderr)
	if code != exitFailed || !strings.Contains(stderr.String(), "the port is in use") || !strings.Contains(stderr.String(), "--rest-address HOST:PORT") {
		t.Errorf("exit %d: %s", code, stderr.String())
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the data directory was made: %v", err)
	}
}

// TestServed runs a mini without a job, asks it over TCP, and ends it.
func TestServed(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	done := make(chan int, 1)
	go func() {
		done <- Run(ctx, Program{Name: "mini"}, []string{"--data-dir", filepath.Join(t.TempDir(), "d"), "-Drest.port=0"}, nil, w)
		_ = w.Close()
	}()
	var log bytes.Buffer
	address := regexp.MustCompile(`address=(http://127\.0\.0\.1:\d+)`)
	b := make([]byte, 4096)
	for address.FindSubmatch(log.Bytes()) == nil {
		n, err := r.Read(b)
		if err != nil {
			t.Fatalf("%v: %s", err, log.String())
		}
		log.Write(b[:n])
	}
	go func() { _, _ = io.Copy(io.Discard, r) }()
	base := string(address.FindSubmatch(log.Bytes())[1])
	for path, want := range map[string]string{"/v1/overview": `"taskmanagers":`, "/metrics": "", "/health/ready": "ok"} {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("%s: %d %s %v", path, resp.StatusCode, body, err)
		}
		_ = resp.Body.Close()
	}
	cancel()
	if code := <-done; code != exitOK {
		t.Errorf("exit %d", code)
	}
}

// TestRoots: only as long as this machine alone can ask, savepoints may be written where its user keeps things.
func TestRoots(t *testing.T) {
	t.Chdir(t.TempDir())
	work, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", "/home/me")
	for address, want := range map[string][]string{
		"127.0.0.1": {filepath.Join(work, "d"), work, "/home/me", os.TempDir()},
		"::1":       {filepath.Join(work, "d"), work, "/home/me", os.TempDir()},
		"0.0.0.0":   {filepath.Join(work, "d")},
		"10.0.0.1":  {filepath.Join(work, "d")},
	} {
		if d := cmp.Diff(want, roots(&Options{DataDir: "d", listener: at{ip: net.ParseIP(address)}})); d != "" {
			t.Errorf("%s: %s", address, d)
		}
	}
}

// at is a listener at an address.
type at struct {
	net.Listener
	ip net.IP
}

func (a at) Addr() net.Addr { return &net.TCPAddr{IP: a.ip, Port: 1} }
