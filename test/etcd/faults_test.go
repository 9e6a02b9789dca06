package realetcd_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/ha"
	clientv3 "go.etcd.io/etcd/client/v3"

	realetcd "github.com/rivulet-io/rivulet/pkg/test/etcd"
)

// lead waits until it leads.
func lead(t *testing.T, store ha.Election, id string) ha.Leadership {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	l, err := store.Lead(ctx, ha.Member{ID: id, RPC: id + ":1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Resign() })
	return l
}

// candidate is a campaign that goes on in the background.
type candidate struct {
	led    chan ha.Leadership
	failed chan error
}

func campaign(t *testing.T, store ha.Election, id string) candidate {
	c := candidate{led: make(chan ha.Leadership, 1), failed: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		l, err := store.Lead(ctx, ha.Member{ID: id, RPC: id + ":1"})
		if err != nil {
			c.failed <- err
			return
		}
		c.led <- l
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		select {
		case l := <-c.led:
			_ = l.Resign()
		default:
		}
	})
	return c
}

// wait waits until it leads.
func (c candidate) wait(t *testing.T) ha.Leadership {
	t.Helper()
	select {
	case l := <-c.led:
		t.Cleanup(func() { _ = l.Resign() })
		return l
	case err := <-c.failed:
		t.Fatal(err)
	case <-time.After(time.Minute):
		t.Fatal("it does not lead within a minute")
	}
	return nil
}

// holds waits until a leader may decide, or may not.
func holds(t *testing.T, l ha.Leadership, want bool) {
	t.Helper()
	timeout := time.After(time.Minute)
	for {
		got, changed := l.Holds()
		if got == want {
			return
		}
		select {
		case <-changed:
		case <-time.After(50 * time.Millisecond): // what hangs on the clock is not told
		case <-l.Lost():
			t.Fatal(l.Err())
		case <-timeout:
			t.Fatalf("the leader holds: %v, for a minute", got)
		}
	}
}

func lost(t *testing.T, l ha.Leadership) {
	t.Helper()
	select {
	case <-l.Lost():
	case <-time.After(time.Minute):
		t.Fatal("the leadership is not lost within a minute")
	}
	if !errors.Is(l.Err(), base.ErrFenced) {
		t.Errorf("lost: %v", l.Err())
	}
	if err := l.PutJob(t.Context(), record("stale")); !errors.Is(err, base.ErrFenced) {
		t.Errorf("a write after it: %v", err)
	}
}

func put(t *testing.T, l ha.Leadership, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := l.PutJob(ctx, record(name)); err != nil {
		t.Fatal(err)
	}
}

// TestMemberKilled says that a leader goes on when one member of three is killed, be it the one that leads etcd: rows C1 and C2 of the fault matrix.
func TestMemberKilled(t *testing.T) {
	c := realetcd.Start(t, realetcd.Options{Members: 3})
	store := open(t, t.TempDir(), c.Endpoints(), "high-availability.etcd.leader-election.lease-duration=5 s")
	l := lead(t, store, "a")
	standby := campaign(t, store, "b")
	for range 2 {
		n := c.Leader(t)
		c.Kill(t, n)
		put(t, l, "after a kill")
		c.Restart(t, n)
		if err := c.Await(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	n := c.Leader(t)
	c.Pause(t, n)
	put(t, l, "while one is paused")
	c.Resume(t, n)
	put(t, l, "after it")
	select {
	case <-l.Lost():
		t.Errorf("lost: %v", l.Err())
	case <-standby.led:
		t.Error("another one leads")
	default:
	}
}

// TestQuorumLost says that a leader without a majority stops deciding before its lease ends, writes nothing meanwhile, and goes on under its epoch when the majority is back:
// row C3.
func TestQuorumLost(t *testing.T) {
	c := realetcd.Start(t, realetcd.Options{Members: 3})
	store := open(t, t.TempDir(), c.Endpoints())
	l := lead(t, store, "a")
	epoch := l.Epoch()
	c.Kill(t, 0)
	c.Kill(t, 1)
	began := time.Now()
	holds(t, l, false)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it held for %v without a store, with a lease of 2 s", took)
	}
	written := make(chan error, 1)
	go func() { written <- l.PutJob(t.Context(), record("waits")) }()
	c.Restart(t, 0)
	c.Restart(t, 1)
	holds(t, l, true)
	if err := <-written; err != nil {
		t.Errorf("a write that waited: %v", err)
	}
	if l.Epoch() != epoch {
		t.Errorf("epoch %d, before %d", l.Epoch(), epoch)
	}
}

// TestCutOff says that a leader which is cut off from etcd stops deciding before another can lead, and that its writes are refused when it is heard again: rows B4 and C5.
func TestCutOff(t *testing.T) {
	c := realetcd.Start(t, realetcd.Options{})
	dir := t.TempDir()
	own, err := realetcd.NewProxy(c.Address(0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(own.Close)
	l := lead(t, open(t, dir, "http://"+own.Address()), "a")
	put(t, l, "x")
	standby := campaign(t, open(t, dir, c.Endpoints()), "b")
	own.Cut()
	next := standby.wait(t)
	if held, _ := l.Holds(); held {
		t.Error("two lead")
	}
	if next.Epoch() <= l.Epoch() {
		t.Errorf("epoch %d after %d", next.Epoch(), l.Epoch())
	}
	put(t, next, "x")
	own.Heal()
	lost(t, l)
	if j, err := next.Job(t.Context(), "stale"); j != nil || err != nil {
		t.Errorf("the old leader wrote: %v, %v", j, err)
	}
}

// TestAway says that a leader whose etcd is away for longer than its lease, for everybody, goes on under its epoch: nobody led meanwhile.
func TestAway(t *testing.T) {
	c := realetcd.Start(t, realetcd.Options{})
	store := open(t, t.TempDir(), c.Endpoints())
	l := lead(t, store, "a")
	epoch := l.Epoch()
	c.Proxy(0).Cut()
	holds(t, l, false)
	gone(t, c) // the lease has ended
	c.Proxy(0).Heal()
	holds(t, l, true)
	put(t, l, "x")
	if l.Epoch() != epoch {
		t.Errorf("epoch %d, before %d", l.Epoch(), epoch)
	}
}

// gone waits until etcd has no leader's key.
func gone(t *testing.T, c *realetcd.Cluster) {
	t.Helper()
	client, err := c.Client()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range client.Watch(ctx, "/rivulet/default/election/leader", clientv3.WithFilterPut()) {
		return
	}
	t.Fatal("the leader's key is there after a minute")
}

// TestAwayForLong says that a leader gives up when the store was away for longer than high-availability.suspended-timeout.
func TestAwayForLong(t *testing.T) {
	c := realetcd.Start(t, realetcd.Options{})
	l := lead(t, open(t, t.TempDir(), c.Endpoints(), "high-availability.suspended-timeout=1 s"), "a")
	c.Proxy(0).Cut()
	lost(t, l)
	if !strings.Contains(l.Err().Error(), "out of reach for 1s") {
		t.Errorf("got %v", l.Err())
	}
}

// TestLeaseRevoked says that a leader whose lease is revoked never decides beside another one: either it goes on, or its writes are refused: row C5.
func TestLeaseRevoked(t *testing.T) {
	c := realetcd.Start(t, realetcd.Options{})
	store := open(t, t.TempDir(), c.Endpoints())
	client, err := c.Client()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	l := lead(t, store, "a")
	epoch := l.Epoch()
	for range 3 {
		leases, err := client.Leases(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range leases.Leases {
			if _, err := client.Revoke(t.Context(), x.ID); err != nil {
				t.Fatal(err)
			}
		}
		put(t, l, "x") // waits until it leads again
	}
	if l.Epoch() != epoch {
		t.Errorf("epoch %d, before %d", l.Epoch(), epoch)
	}
	// Somebody takes the key at the same moment.
	r, err := client.Get(t.Context(), "/rivulet/default/election/leader")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Txn(t.Context()).Then(clientv3.OpDelete("/rivulet/default/election/leader")).Commit(); err != nil {
		t.Fatal(err)
	}
	_, err = client.Txn(t.Context()).If(clientv3.Compare(clientv3.CreateRevision("/rivulet/default/election/leader"), "=", 0)).
		Then(clientv3.OpPut("/rivulet/default/election/leader", string(r.Kvs[0].Value)), clientv3.OpPut("/rivulet/default/election/crown", string(r.Kvs[0].Value))).Commit()
	if err != nil {
		t.Fatal(err)
	}
	if now, err := client.Get(t.Context(), "/rivulet/default/election/leader"); err != nil {
		t.Fatal(err)
	} else if now.Kvs[0].Lease == 0 {
		lost(t, l) // the rival was faster
	}
}

// TestLeaseLostWhileCampaigning says that a candidate whose lease is revoked at any moment leads only with a key in etcd: row C6.
func TestLeaseLostWhileCampaigning(t *testing.T) {
	c := realetcd.Start(t, realetcd.Options{})
	store := open(t, t.TempDir(), c.Endpoints())
	client, err := c.Client()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	first := lead(t, store, "a")
	standby := campaign(t, store, "b")
	if err := first.Resign(); err != nil {
		t.Fatal(err)
	}
	for range 20 { // whichever lease there is, ours before, in or after its campaign
		leases, err := client.Leases(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range leases.Leases {
			_, _ = client.Revoke(t.Context(), x.ID) // it may have ended
		}
	}
	l := standby.wait(t)
	put(t, l, "x")
	if r, err := client.Get(t.Context(), "/rivulet/default/election/leader"); err != nil || len(r.Kvs) != 1 {
		t.Errorf("a leader without a key: %v, %v", r, err)
	}
}

// TestCompacted says that a standby hears of a new leader although what it watches from was compacted: row C7.
func TestCompacted(t *testing.T) {
	c := realetcd.Start(t, realetcd.Options{})
	dir := t.TempDir()
	l := lead(t, open(t, dir, c.Endpoints()), "a")
	heard := make(chan ha.Member, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	own, err := realetcd.NewProxy(c.Address(0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(own.Close)
	go func() {
		ended <- open(t, dir, "http://"+own.Address()).Watch(ctx, func(m ha.Member) { heard <- m })
	}()
	hear := func(id string) {
		t.Helper()
		for m := range heard {
			if m.ID == id {
				return
			}
		}
	}
	hear("a")
	own.Refuse()
	if err := l.Resign(); err != nil {
		t.Fatal(err)
	}
	next := lead(t, open(t, dir, c.Endpoints()), "b")
	put(t, next, "x")
	client, err := c.Client()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	r, err := client.Get(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Compact(t.Context(), r.Header.GetRevision()); err != nil {
		t.Fatal(err)
	}
	own.Heal()
	hear("b")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestDatabaseFull says that writes fail with etcd's reason when its database is full, and that the leader leads on and writes again when there is room: row C8.
func TestDatabaseFull(t *testing.T) {
	c := realetcd.Start(t, realetcd.Options{QuotaBytes: 4 << 20})
	l := lead(t, open(t, t.TempDir(), c.Endpoints()), "a")
	put(t, l, "x")
	large := record("large")
	large.Args = []string{strings.Repeat("x", 900<<10)}
	var err error
	for range 20 {
		if err = l.PutJob(t.Context(), large); err != nil {
			break
		}
	}
	if err == nil || !strings.Contains(err.Error(), "database space exceeded") || errors.Is(err, ha.ErrUnknownOutcome) || errors.Is(err, base.ErrFenced) {
		t.Fatalf("got %v", err)
	}
	if held, _ := l.Holds(); !held {
		t.Error("it does not lead any more")
	}
	client, err := c.Client()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	r, err := client.Get(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Compact(t.Context(), r.Header.GetRevision(), clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Defragment(t.Context(), "http://"+c.Address(0)); err != nil {
		t.Fatal(err)
	}
	alarms, err := client.AlarmList(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range alarms.Alarms {
		if _, err := client.AlarmDisarm(t.Context(), (*clientv3.AlarmMember)(a)); err != nil {
			t.Fatal(err)
		}
	}
	put(t, l, "x")
}

// TestOtherStore says that an etcd which was wiped, or is another cluster's, is refused by name, and never taken for a new cluster: row C9.
func TestOtherStore(t *testing.T) {
	c := realetcd.Start(t, realetcd.Options{})
	dir := t.TempDir()
	l := lead(t, open(t, dir, c.Endpoints()), "a")
	put(t, l, "x")
	other := realetcd.Start(t, realetcd.Options{})
	_, err := open(t, dir, other.Endpoints()).Lead(t.Context(), ha.Member{ID: "b"})
	if !errors.Is(err, ha.ErrOtherCluster) || !strings.Contains(err.Error(), filepath.Join(dir, "ha", "default", "ETCD")) {
		t.Errorf("another etcd: %v", err)
	}
	if err := open(t, dir, other.Endpoints()).Watch(t.Context(), func(ha.Member) {}); !errors.Is(err, ha.ErrOtherCluster) {
		t.Errorf("another etcd, watched: %v", err)
	}
	// Another cluster has begun there under the same name.
	elsewhere := lead(t, open(t, t.TempDir(), other.Endpoints()), "c")
	if err := elsewhere.Resign(); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, dir, other.Endpoints()).Lead(t.Context(), ha.Member{ID: "b"}); !errors.Is(err, ha.ErrOtherCluster) || !strings.Contains(err.Error(), "instance") {
		t.Errorf("another cluster's data: %v", err)
	}
	// Wiped, under the leader.
	c.Kill(t, 0)
	c.Wipe(t, 0)
	c.Restart(t, 0)
	select {
	case <-l.Lost():
	case <-time.After(time.Minute):
		t.Fatal("it leads on in a store without data")
	}
	if _, err := open(t, dir, c.Endpoints()).Lead(t.Context(), ha.Member{ID: "b"}); !errors.Is(err, ha.ErrOtherCluster) {
		t.Errorf("wiped: %v", err)
	}
	// What a newer release has written is left alone.
	client, err := other.Client()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Put(t.Context(), "/rivulet/newer/format", `{"version":99,"instance":"x"}`); err != nil {
		t.Fatal(err)
	}
	_, err = open(t, t.TempDir(), other.Endpoints(), "high-availability.cluster-id=newer").Lead(t.Context(), ha.Member{ID: "b"})
	if !errors.Is(err, ha.ErrNewerFormat) || !strings.Contains(err.Error(), "version 99") {
		t.Errorf("a newer format: %v", err)
	}
}

// TestAnswersLost says that a write whose answer is lost is found out about, and is made once: row C10.
func TestAnswersLost(t *testing.T) {
	c := realetcd.Start(t, realetcd.Options{})
	l := lead(t, open(t, t.TempDir(), c.Endpoints(), "high-availability.etcd.leader-election.lease-duration=10 s"), "a")
	put(t, l, "x")
	for i := range 20 {
		written := make(chan error, 1)
		j := record("x")
		j.NextCheckpoint = int64(100 + i)
		go func() { written <- l.PutJob(t.Context(), j) }()
		c.Proxy(0).Refuse() // before, in, or after it
		c.Proxy(0).Heal()
		if err := <-written; err != nil {
			t.Fatal(err)
		}
		got, err := l.Job(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		if got.NextCheckpoint != j.NextCheckpoint {
			t.Fatalf("wrote %d, read %d", j.NextCheckpoint, got.NextCheckpoint)
		}
	}
	// Who does not wait for the end is told that it is not known.
	c.Proxy(0).Cut()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := l.PutJob(ctx, record("x")); !errors.Is(err, ha.ErrUnknownOutcome) {
		t.Errorf("got %v", err)
	}
	c.Proxy(0).Heal()
	put(t, l, "x")
}

// TestSecured says that etcd is spoken to in TLS, with a certificate and a password, that certificates are read anew when they are replaced, and that what is wrong is said: row C11.
func TestSecured(t *testing.T) {
	dir := t.TempDir()
	ca, err := realetcd.NewCA(dir, "ca")
	if err != nil {
		t.Fatal(err)
	}
	server, serverKey, err := ca.Sign("server", time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	c := realetcd.Start(t, realetcd.Options{CA: ca.File, Cert: server, Key: serverKey})
	admin, err := c.Client()
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	ctx := t.Context()
	for _, f := range []func() error{
		func() error { _, err := admin.UserAdd(ctx, "root", "r"); return err },
		func() error { _, err := admin.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := admin.UserAdd(ctx, "rivulet", "secret"); return err },
		func() error { _, err := admin.RoleAdd(ctx, "jobmanagers"); return err },
		func() error {
			_, err := admin.RoleGrantPermission(ctx, "jobmanagers", "/rivulet/default/", clientv3.GetPrefixRangeEnd("/rivulet/default/"), clientv3.PermissionType(clientv3.PermReadWrite))
			return err
		},
		func() error { _, err := admin.UserGrantRole(ctx, "rivulet", "jobmanagers"); return err },
		func() error { _, err := admin.AuthEnable(ctx); return err },
	} {
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
	cert, key, err := ca.Sign("client", time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	with := func(more ...string) []string {
		return append([]string{
			"high-availability.etcd.ssl.ca=" + ca.File, "high-availability.etcd.ssl.cert=" + cert, "high-availability.etcd.ssl.key=" + key,
			"high-availability.etcd.username=rivulet", "high-availability.etcd.password=secret",
		}, more...)
	}
	data := t.TempDir()
	l := lead(t, open(t, data, c.Endpoints(), with()...), "a")
	put(t, l, "x")

	if _, err := open(t, data, c.Endpoints(), with("high-availability.etcd.password=wrong")...).Lead(ctx, ha.Member{}); err == nil || !strings.Contains(err.Error(), "authentication failed") || strings.Contains(err.Error(), "wrong") {
		t.Errorf("a wrong password: %v", err)
	}
	if _, err := open(t, data, c.Endpoints(), with("high-availability.cluster-id=foreign")...).Lead(ctx, ha.Member{}); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("another cluster's keys: %v", err)
	}
	// The certificate expires while it leads, and new connections are refused; it is replaced, and all is well without a restart.
	if _, _, err := ca.Sign("client", time.Now().Add(-time.Minute)); err != nil {
		t.Fatal(err)
	}
	c.Proxy(0).Refuse()
	c.Proxy(0).Heal()
	holds(t, l, false)
	if _, _, err := ca.Sign("client", time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	holds(t, l, true)
	put(t, l, "x")
	// A CA that did not sign etcd's certificate.
	foreign, err := realetcd.NewCA(t.TempDir(), "foreign")
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if _, err := open(t, data, c.Endpoints(), with("high-availability.etcd.ssl.ca="+foreign.File)...).Lead(short, ha.Member{}); err == nil {
		t.Error("etcd's certificate is by nobody that is trusted, and was taken")
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
}
