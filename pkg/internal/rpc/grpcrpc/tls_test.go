package grpcrpc_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc/grpcrpc"
	"github.com/rivulet-io/rivulet/test/program"
)

// buffer is a log that may be read while it is written.
type buffer struct {
	mu      sync.Mutex
	b       bytes.Buffer
	written chan struct{}
}

func newBuffer() *buffer { return &buffer{written: make(chan struct{}, 100)} }

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.written <- struct{}{}:
	default:
	}
	return b.b.Write(p)
}

// line waits for the next line, and returns all.
func (b *buffer) line(t *testing.T) string {
	t.Helper()
	select {
	case <-b.written:
	case <-time.After(20 * time.Second):
		t.Fatal("nothing was logged")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.b.Reset()
	return b.b.String()
}

// call makes a call to an address over a network of its own.
func call(t *testing.T, n grpcrpc.Network, address string) error {
	t.Helper()
	c, err := grpcrpc.Dial(n, address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err = c.JobManager().Heartbeat(ctx, &rpcv1.HeartbeatRequest{})
	return err
}

// TestTLS: who has a certificate of the CA is let in; who has none, or one that is wrong or has expired, is told why, at both ends, and each names the other.
func TestTLS(t *testing.T) {
	dir, later := t.TempDir(), time.Now().Add(time.Hour)
	ca, other := program.NewCA(t, dir, "ca"), program.NewCA(t, dir, "other")
	cert, key := ca.Issue("server", later)
	log := newBuffer()
	tlsOf := func(cert, key, ca string) *grpcrpc.TLS { return &grpcrpc.TLS{Cert: cert, Key: key, CA: ca} }
	server := &grpcrpc.TCP{TLS: &grpcrpc.TLS{Cert: cert, Key: key, CA: ca.File, Logger: slog.New(slog.NewTextHandler(log, nil))}}
	address, stop := serveAt(t, server, "127.0.0.1:0")
	defer stop()
	clientCert, clientKey := ca.Issue("client", later)
	good := &grpcrpc.TCP{TLS: tlsOf(clientCert, clientKey, ca.File)}
	if err := call(t, good, address); err != nil {
		t.Fatal(err)
	}
	want := func(what, got string, parts ...string) {
		t.Helper()
		for _, p := range parts {
			if !strings.Contains(got, p) {
				t.Errorf("%s: %q is not in: %s", what, p, got)
			}
		}
	}

	// A client of another CA, which trusts this one.
	wrongCert, wrongKey := other.Issue("stranger", later)
	err := call(t, &grpcrpc.TCP{TLS: tlsOf(wrongCert, wrongKey, ca.File)}, address)
	if err == nil {
		t.Fatal("a stranger was let in")
	}
	want("stranger", err.Error(), "TLS with "+address, "refuses this process's certificate", "bad certificate")
	want("stranger's log", log.line(t), "connection refused", "TLS with 127.0.0.1:", "(CN=stranger) is not signed by the CA of "+ca.File)

	// A server that the client does not trust.
	err = call(t, &grpcrpc.TCP{TLS: tlsOf(clientCert, clientKey, other.File)}, address)
	if err == nil {
		t.Fatal("the client trusted it")
	}
	want("untrusted", err.Error(), "TLS with "+address, "(CN=server) is not signed by the CA of "+other.File)
	log.line(t)

	// One that has expired: its owner is told at once, and so is who is shown it all the same.
	oldCert, oldKey := ca.Issue("old", time.Now().Add(-time.Minute))
	err = call(t, &grpcrpc.TCP{TLS: tlsOf(oldCert, oldKey, ca.File)}, address)
	if err == nil {
		t.Fatal("an expired certificate was used")
	}
	want("own expired", err.Error(), oldCert, "CN=old", "expired on 20")
	pair, err := tls.LoadX509KeyPair(oldCert, oldKey)
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		cfg  *tls.Config
		want string
	}{
		"expired": {&tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}}, "(CN=old) expired on 20"},
		"missing": {&tls.Config{InsecureSkipVerify: true}, "client didn't provide a certificate"},
	} {
		conn, err := tls.Dial("tcp", address, c.cfg)
		if err == nil {
			_, err = io.ReadAll(conn) // what the server thinks of it
			_ = conn.Close()
		}
		if err == nil {
			t.Errorf("%s: was let in", what)
		}
		want(what+"'s log", log.line(t), "TLS with 127.0.0.1:", c.want)
	}

	// One without TLS, at either end.
	if err := call(t, &grpcrpc.TCP{}, address); err == nil {
		t.Error("a connection without TLS was let in")
	}
	want("plain client's log", log.line(t), "does not speak TLS: is security.ssl.internal.enabled set there too?")
	plain, stopPlain := serveAt(t, &grpcrpc.TCP{}, "127.0.0.1:0")
	defer stopPlain()
	if err = call(t, good, plain); err == nil {
		t.Fatal("a server without TLS was spoken to")
	}
	want("plain server", err.Error(), "TLS with "+plain, "does not speak TLS")

	// Files that are not there.
	if _, err := (&grpcrpc.TCP{TLS: tlsOf(dir+"/none", key, ca.File)}).Listen("127.0.0.1:0"); err == nil || !strings.Contains(err.Error(), dir+"/none") {
		t.Errorf("got %v", err)
	}
	if _, err := (&grpcrpc.TCP{TLS: tlsOf(cert, key, key)}).Listen("127.0.0.1:0"); err == nil || !strings.Contains(err.Error(), "there is no certificate") {
		t.Errorf("got %v", err)
	}
}

// TestTLSReload: certificates are read anew for each connection, at both ends: those of a new CA replace all of the old one's without a restart.
func TestTLSReload(t *testing.T) {
	dir, later := t.TempDir(), time.Now().Add(time.Hour)
	ca := program.NewCA(t, dir, "ca")
	cert, key := ca.Issue("process", later)
	n := &grpcrpc.TCP{TLS: &grpcrpc.TLS{Cert: cert, Key: key, CA: ca.File}}
	address, stop := serveAt(t, n, "127.0.0.1:0")
	defer stop()
	old, err := grpcrpc.Dial(n, address)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if _, err := old.JobManager().Heartbeat(t.Context(), &rpcv1.HeartbeatRequest{}); err != nil {
		t.Fatal(err)
	}
	before := &grpcrpc.TCP{TLS: &grpcrpc.TLS{CA: dir + "/before.pem"}}
	before.TLS.Cert, before.TLS.Key = ca.Issue("before", later)
	program.NewCA(t, dir, "ca").Issue("process", later) // the same files
	if err := call(t, n, address); err != nil {
		t.Errorf("with the new certificates: %v", err)
	}
	before.TLS.CA = ca.File
	if err := call(t, before, address); err == nil {
		t.Error("a certificate of the old CA was let in")
	}
	if _, err := old.JobManager().Heartbeat(t.Context(), &rpcv1.HeartbeatRequest{}); err != nil {
		t.Errorf("a connection that was there: %v", err)
	}
}
