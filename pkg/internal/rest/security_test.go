package rest_test

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/internal/rest"
)

// TestTraversal (attack G1): no encoding of a path leaves the routes. Nothing here reads files, and nothing must begin to.
func TestTraversal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		secret := "root:"
		for _, path := range []string{
			"/jobmanager/logs/..%252f..%252f..%252fetc%252fpasswd",
			"/jobmanager/logs/..%2f..%2f..%2fetc%2fpasswd",
			"/jobmanager/logs/..%5c..%5cetc%5cpasswd",
			"/jobmanager/logs/%00",
			"/jobmanager/logs//etc/passwd",
			"/jobmanager/logs/%2fetc%2fpasswd",
			"/jobmanager/logs/../../../etc/passwd",
			"/v1/jobmanager/../../etc/passwd",
			"/taskmanagers/..%2f..%2fetc%2fpasswd",
			"/taskmanagers/mini-1/logs/..%2fpasswd",
			"/jobs/..%2f..%2fetc",
			"//etc/passwd",
			"/./overview",
			"/static/../../etc/passwd",
		} {
			rec := w.do("GET", path, "")
			if rec.Code != 400 && rec.Code != 404 || strings.Contains(rec.Body.String(), secret) || !isError(rec.Body.String()) {
				t.Errorf("%s: %d %s", path, rec.Code, rec.Body)
			}
		}
	})
}

// isError says whether a body is Flink's error body: one key, errors.
func isError(body string) bool {
	return strings.HasPrefix(body, `{"errors":[`) && strings.HasSuffix(body, "]}")
}

// TestOtherOrigins (attack G8): what a page of another origin can make a browser send is refused, under whatever name it reaches the port.
func TestOtherOrigins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, config.Setting{Key: "rest.address", Value: "rivulet.example"})
		for _, c := range []struct {
			name, method string
			header       []string
			want         int
		}{
			{"a program", "PATCH", nil, 308},
			{"our own page", "PATCH", []string{"Origin", "http://127.0.0.1:8081", "Sec-Fetch-Site", "same-origin"}, 308},
			{"our own page in an old browser", "PATCH", []string{"Origin", "http://127.0.0.1:8081"}, 308},
			{"another page", "PATCH", []string{"Origin", "http://evil.example", "Sec-Fetch-Site", "cross-site"}, 403},
			{"another page in an old browser", "POST", []string{"Origin", "http://evil.example"}, 403},
			{"another port", "POST", []string{"Origin", "http://127.0.0.1:9999", "Sec-Fetch-Site", "same-site"}, 403},
			{"no origin", "POST", []string{"Origin", "null"}, 403},
			{"a name that points here", "GET", []string{"Host", "evil.example:8081"}, 403},
			{"a name like ours", "GET", []string{"Host", "localhost.evil.example"}, 403},
			{"an address in a name", "GET", []string{"Host", "127.0.0.1.evil.example"}, 403},
			{"no name", "GET", []string{"Host", ""}, 403},
			{"localhost", "GET", []string{"Host", "LOCALHOST:8081"}, 200},
			{"an address", "GET", []string{"Host", "[::1]:8081"}, 200},
			{"the configured name", "GET", []string{"Host", "rivulet.example:8081"}, 200},
		} {
			path := "/jobs/" + w.names["JOB"] + "?mode=stop"
			if c.method == "POST" {
				path = "/jobs/" + w.names["JOB"] + "/stop"
			}
			rec := w.do(c.method, path, "", c.header...)
			if rec.Code != c.want || rec.Code >= 300 && !isError(rec.Body.String()) {
				t.Errorf("%s: %d %s", c.name, rec.Code, rec.Body)
			}
			if h := rec.Header(); h.Get("Access-Control-Allow-Origin") != "" || h.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s: header %v", c.name, h)
			}
		}
		if rec := w.do("OPTIONS", "/jobs", "", "Origin", "http://evil.example", "Access-Control-Request-Method", "PATCH"); rec.Code < 400 || rec.Header().Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("preflight: %d %v", rec.Code, rec.Header())
		}
		// GET changes nothing, also where Flink lets it.
		for _, path := range []string{"/yarn-cancel", "/yarn-stop"} {
			if rec := w.do("GET", "/jobs/"+w.names["JOB"]+path, ""); rec.Code != 404 {
				t.Errorf("%s: %d", path, rec.Code)
			}
		}
	})
}

// TestTargets (attack G9): savepoints are written, and disposed of, below configured roots only.
func TestTargets(t *testing.T) {
	data, outside := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(data, "link")); err != nil {
		t.Fatal(err)
	}
	real, err := filepath.EvalSymlinks(data)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, []string{data}, config.Setting{Key: "execution.checkpointing.savepoint-dir", Value: "mem:///mini/savepoints"})
		for _, target := range []string{
			"/etc", "file:///etc", "file:/etc", "file://../..", "file://host" + data, "../../etc", "relative", data + "/../x", "file://" + data + "/../x", data + "/link/x",
			data + "x", "mem:///mini/savepoints/../other", "mem:///mini/savepointsx", "mem:///", "s3://bucket/x", "http://127.0.0.1:1/x", `C:\x`, data + "/\x00", "file:" + data + "?x",
		} {
			for _, path := range []string{"savepoints", "stop"} {
				field := map[string]string{"savepoints": "target-directory", "stop": "targetDirectory"}[path]
				rec := w.do("POST", "/jobs/"+w.names["JOB"]+"/"+path, `{"`+field+`":`+quote(target)+`}`)
				if rec.Code != 400 || !isError(rec.Body.String()) {
					t.Errorf("%s %q: %d %s", path, target, rec.Code, rec.Body)
				}
			}
			if rec := w.do("POST", "/savepoint-disposal", `{"savepoint-path":`+quote(target)+`}`); rec.Code != 400 {
				t.Errorf("dispose of %q: %d %s", target, rec.Code, rec.Body)
			}
		}
		for target, want := range map[string]string{
			data: real, data + "/": real, "file://" + data + "/a/b": real + "/a/b", "file:" + data + "/c": real + "/c",
		} {
			if got, err := w.server.Target(target); err != nil || got != "file://"+want {
				t.Errorf("%q: %q, %v", target, got, err)
			}
		}
		if got, err := w.server.Target("mem:///mini/savepoints/mine"); err != nil || got != "mem:///mini/savepoints/mine" {
			t.Errorf("%q, %v", got, err)
		}
	})
}

func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, "\x00", `\u0000`).Replace(s) + `"`
}

// TestSecretsAreMasked (attack G6): in the process's configuration, and in that of the job.
func TestSecretsAreMasked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, config.Setting{Key: "security.ssl.rest.keystore-password", Value: "hunter2"})
		job := "/jobs/" + w.names["JOB"]
		for _, path := range []string{"/jobmanager/config", job + "/config", job + "/jobmanager/config", job, job + "/exceptions", "/jobmanager/environment"} {
			rec := w.do("GET", path, "")
			if rec.Code != 200 || strings.Contains(rec.Body.String(), "hunter2") {
				t.Errorf("%s: %d %s", path, rec.Code, rec.Body)
			}
		}
		if rec := w.do("GET", "/jobmanager/config", ""); !strings.Contains(rec.Body.String(), `{"key":"security.ssl.rest.keystore-password","value":"******"}`) {
			t.Errorf("%s", rec.Body)
		}
	})
}

// TestLimits (attack G11): of the body, its nesting and its compression; of the headers, and of how long they take.
func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		path := "/jobs/" + w.names["JOB"] + "/checkpoints"
		for _, c := range []struct {
			name, body string
			want       int
			header     []string
		}{
			{"giant", `{"triggerId":"` + strings.Repeat("x", 11<<20) + `"}`, 413, nil},
			{"deep", strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000), 400, nil},
			{"deep list", strings.Repeat("[", 1<<20), 400, nil},
			{"compressed", "\x1f\x8b\x08", 415, []string{"Content-Encoding", "gzip"}},
			{"not JSON", "triggerId=1", 400, nil},
			{"name", `{"triggerId":"';DROP TABLE jobs;--"}`, 400, nil},
			{"markup", `{"checkpointType":"<iframe>"}`, 400, nil},
		} {
			if rec := w.do("POST", path, c.body, c.header...); rec.Code != c.want || !isError(rec.Body.String()) {
				t.Errorf("%s: %d %.200s", c.name, rec.Code, rec.Body)
			}
		}
	})
}

func TestConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		dial := w.dial

		slow := dial()
		began := time.Now()
		_, _ = io.WriteString(slow, "GET /overview HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
		if _, err := io.ReadAll(slow); err != nil && !errors.Is(err, io.EOF) {
			t.Error(err)
		}
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("slow headers were cut off after %v", took)
		}

		large := dial()
		go func() {
			_, _ = io.WriteString(large, "GET /overview HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Large: "+strings.Repeat("x", 128<<10)+"\r\n\r\n")
		}()
		if resp, err := http.ReadResponse(bufio.NewReader(large), nil); err != nil || resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%v, %v", resp, err)
		} else {
			_ = resp.Body.Close()
		}

		c := dial()
		r := bufio.NewReader(c)
		for range 2 { // one connection serves several requests, then is closed when it is idle
			_, _ = io.WriteString(c, "GET /v1/overview/ HTTP/1.1\r\nHost: localhost:1\r\n\r\n")
			resp, err := http.ReadResponse(r, nil)
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("%v, %v", resp, err)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
		}
		began = time.Now()
		if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
		if took := time.Since(began); took != 30*time.Second {
			t.Errorf("an idle connection was closed after %v", took)
		}
	})
}

// TestListen says what is told about addresses that cannot be listened on, and that a range of ports is tried in turn.
func TestListen(t *testing.T) {
	taken, err := rest.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	for address, want := range map[string]string{
		taken.Addr().String(): "the port is in use",
		"192.0.2.1:0":         "this machine has no such address",
		"8081":                "want HOST:PORT",
		"127.0.0.1:99999":     "invalid port",
	} {
		if l, err := rest.Listen(t.Context(), address); err == nil {
			_ = l.Close()
			t.Errorf("%s is listened on", address)
		} else if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), address) {
			t.Errorf("%v", err)
		}
	}
	l, err := rest.Listen(t.Context(), taken.Addr().String(), 0)
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
}

// TestConnectionsAreCounted: the hundred-and-first waits until another is closed.
func TestConnectionsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		var open []io.ReadWriteCloser
		for range 100 {
			c := w.dial()
			ask(t, c, "GET", "/overview")
			open = append(open, c)
		}
		served := make(chan string, 1)
		go func() { served <- ask(t, w.dial(), "GET", "/overview") }()
		synctest.Wait()
		select {
		case <-served:
			t.Error("one more is served")
		default:
		}
		_ = open[7].Close()
		if body := <-served; !strings.Contains(body, "taskmanagers") {
			t.Errorf("%s", body)
		}
	})
}

// FuzzTarget: whatever a request names, what becomes of it lies below a root.
func FuzzTarget(f *testing.F) {
	for _, s := range []string{"/data", "/data/x", "file:///data/x", "file:/data/../etc", "file://data", "/data/./x//y", "mem:///data/x", "s3://data@x/y", "/data\x00", "", ":", "//data", "file:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, dir string) {
		got, err := rest.Below([]string{"file:///data", "s3://bucket/data"}, dir)
		if err != nil {
			return
		}
		u, err := url.Parse(got)
		if err != nil {
			return // a file name may be anything; it is not read as a URL
		}
		if u.Scheme == "file" && got != "file:///data" && (!strings.HasPrefix(got, "file:///data/") || path.Clean(got[7:]) != got[7:]) ||
			u.Scheme == "s3" && (u.Host != "bucket" || u.Path != path.Clean(u.Path) && u.Path != path.Clean(u.Path)+"/" && strings.Contains(u.Path, "..")) {
			t.Errorf("%q became %q", dir, got)
		}
	})
}
