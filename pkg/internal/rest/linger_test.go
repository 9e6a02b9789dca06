package rest_test

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// ask makes a request over a connection.
func ask(t *testing.T, c io.ReadWriter, method, path string) string {
	t.Helper()
	if _, err := io.WriteString(c, method+" "+path+" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"); err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestOutcomeIsTold: a process that ends with its job answers how that went to who has ended it, and does not wait when nobody asks.
func TestOutcomeIsTold(t *testing.T) {
	for _, c := range []struct {
		name, method, path string
		wait               time.Duration // of the client, before it asks
		ends               time.Duration // of the process, after the order
		poll, want         string
	}{
		{"stop", "POST", "/stop", 2 * time.Second, 2 * time.Second, "/savepoints/$REQUEST", `"location":"mem:///mini/savepoints/savepoint-`},
		{"cancel", "PATCH", "", 2 * time.Second, 2 * time.Second, "/execution-result", `"application-status":"CANCELED"`},
		{"stop and forget", "POST", "/stop", 0, 3 * time.Second, "", ""},
		{"cancel and forget", "PATCH", "", 0, 3 * time.Second, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorldThat(t, false, nil)
				w.wait("running", func() bool { j := w.mini.JobManager().Jobs()[0]; return j.Tasks[5] == j.Total })
				conn := w.dial()
				began := time.Now()
				if body := ask(t, conn, c.method, w.expand("/jobs/$JOB"+c.path)); strings.Contains(body, "request-id") {
					w.names["REQUEST"] = body[len(`{"request-id":"`):][:32]
				}
				if c.poll != "" {
					time.Sleep(c.wait)
					if body := ask(t, conn, "GET", w.expand("/jobs/$JOB"+c.poll)); !strings.Contains(body, c.want) {
						t.Errorf("%s", body)
					}
				}
				if err := <-w.done; err != nil {
					t.Error(err)
				}
				if took := time.Since(began); took < c.ends || took > c.ends+time.Second {
					t.Errorf("the process ended after %v, want about %v", took, c.ends)
				}
			})
		})
	}
}

// TestNobodyAsked: without an order the process ends at once.
func TestNobodyAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorldThat(t, false, nil)
		w.wait("running", func() bool { j := w.mini.JobManager().Jobs()[0]; return j.Tasks[5] == j.Total })
		began := time.Now()
		if err := w.mini.JobManager().Cancel(w.mini.Jobs()[0]); err != nil {
			t.Fatal(err)
		}
		<-w.done
		if took := time.Since(began); took > time.Second {
			t.Errorf("the process ended after %v", took)
		}
	})
}

// TestHold: a process that ends with its job waits for who fetches the files of its savepoint, until that one lets go, or has not been heard of for a while; one that is
// told to end does not.
func TestHold(t *testing.T) {
	for _, c := range []struct {
		name          string
		release, kill bool
		want          time.Duration
	}{{"released", true, false, 10 * time.Second}, {"forgotten", false, false, 15 * time.Second}, {"told to end", false, true, 0}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorldThat(t, false, nil)
				w.wait("running", func() bool { j := w.mini.JobManager().Jobs()[0]; return j.Tasks[5] == j.Total })
				conn := w.dial()
				hold := "/savepoint-holds/" + strings.Repeat("0a", 16)
				if body := ask(t, conn, "PUT", hold); body != "{}" {
					t.Fatal(body)
				}
				began := time.Now()
				if c.kill {
					w.stop()
				} else if err := w.mini.JobManager().Cancel(w.mini.Jobs()[0]); err != nil {
					t.Fatal(err)
				}
				if c.release {
					time.Sleep(10 * time.Second)
					if body := ask(t, conn, "DELETE", hold); body != "{}" {
						t.Error(body)
					}
				}
				<-w.done
				if took := time.Since(began); took < c.want || took > c.want+time.Second {
					t.Errorf("the process ended after %v, want about %v", took, c.want)
				}
			})
		})
	}
}
