package rest_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/internal/ha"
	"github.com/rivulet-io/rivulet/pkg/internal/jobmanager"
	"github.com/rivulet-io/rivulet/pkg/internal/rest"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc/grpcrpc"
	"github.com/rivulet-io/rivulet/pkg/metrics"
)

// TestStandbyForwards says that a JobManager which does not lead passes requests on to the one that does, once, and otherwise answers as Flink does during an election.
func TestStandbyForwards(t *testing.T) {
	store, network := ha.NewMemory(), grpcrpc.NewMemory()
	var stops []func()
	start := func(version string) (*jobmanager.JobManager, string) {
		l, err := rest.Listen(t.Context(), "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		cfg, err := config.New()
		if err != nil {
			t.Fatal(err)
		}
		base := "http://" + l.Addr().String()
		registry := metrics.NewRegistry()
		jm := jobmanager.New(jobmanager.Config{Network: network, Store: store, Metrics: registry, REST: base})
		s, err := rest.New(l, rest.Config{JobManager: jm, Metrics: registry, Config: cfg, Version: version})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 2)
		go func() { ended <- jm.Run(ctx) }()
		go func() { ended <- s.Run(ctx) }()
		stop := func() {
			cancel()
			for range cap(ended) {
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}
		}
		stops = append(stops, stop)
		return jm, base
	}
	ask := func(method, url string, header http.Header, body string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if header != nil {
			r.Header = header
		}
		if h := header.Get("Host"); h != "" {
			r.Host = h
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	first, leading := start("leads")
	<-first.Ready()
	second, standing := start("stands by")
	knows := make(chan ha.Member, 16)
	go func() { _ = store.Watch(t.Context(), func(m ha.Member) { knows <- m }) }()
	for m := range knows { // it is told on another goroutine than the JobManager: ask until that has heard too
		if m.REST == leading {
			break
		}
	}
	for own, m := true, (ha.Member{}); own || m.REST != leading; m, own = second.CurrentLeader() {
		runtime.Gosched()
	}

	const election = `{"errors":["Service temporarily unavailable due to an ongoing leader election. Please refresh."]}`
	for _, c := range []struct {
		name, method, url string
		header            http.Header
		body              string
		status            int
		want              string
	}{
		{"a question", "GET", standing + "/config", nil, "", 200, `"flink-version":"leads"`},
		{"under v1, with a slash", "GET", standing + "/v1/config/", nil, "", 200, `"flink-version":"leads"`},
		{"with a query", "GET", standing + "/jobmanager/metrics?get=numRegisteredTaskManagers", nil, "", 200, `"value":"0"`},
		{"an order", "POST", standing + "/jobs/" + strings.Repeat("0", 32) + "/savepoints", nil, `{"target-directory":"file:///x"}`, 404, "not found"},
		{"a large body", "POST", standing + "/jobs/" + strings.Repeat("0", 32) + "/savepoints", nil, strings.Repeat("x", 11<<20), 413, "bytes"},
		{"about the process itself", "GET", standing + "/health/ready", nil, "", 200, "ok"},
		{"passed on already", "GET", standing + "/config", http.Header{"X-Rivulet-Forwarded": {"elsewhere"}}, "", 503, election},
		{"passed on to the leader", "GET", leading + "/config", http.Header{"X-Rivulet-Forwarded": {"elsewhere"}}, "", 200, `"leads"`},
		{"under a foreign name", "GET", standing + "/config", http.Header{"Host": {"evil.example"}}, "", 403, "host name"},
		{"of another origin", "POST", standing + "/jobs/x/stop", http.Header{"Origin": {"http://evil.example"}}, "", 403, "origin"},
		{"of our own origin", "POST", standing + "/jobs/x/stop", http.Header{"Origin": {standing}}, "", 400, "jobid"},
	} {
		if status, body := ask(c.method, c.url, c.header, c.body); status != c.status || !strings.Contains(body, c.want) {
			t.Errorf("%s: %d %s", c.name, status, body)
		}
	}

	// The leader is one that nobody reaches, then one without REST, then nobody is.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	heard := func(want string) {
		for m, _ := second.CurrentLeader(); m.ID != want; m, _ = second.CurrentLeader() {
			runtime.Gosched()
		}
	}
	gone := store.Replace(ha.Member{ID: "gone", RPC: "gone:1", REST: "http://" + l.Addr().String()})
	heard("gone")
	if status, body := ask("GET", standing+"/config", nil, ""); status != 503 || !strings.Contains(body, election) {
		t.Errorf("the leader has gone: %d %s", status, body)
	}
	silent := store.Replace(ha.Member{ID: "silent", RPC: "silent:1"})
	heard("silent")
	if status, body := ask("GET", standing+"/config", nil, ""); status != 503 || !strings.Contains(body, "silent:1") {
		t.Errorf("the leader has no REST: %d %s", status, body)
	}
	for _, l := range []ha.Leadership{gone, silent} {
		if err := l.Resign(); err != nil {
			t.Error(err)
		}
	}
	for _, stop := range stops {
		stop()
	}
}
