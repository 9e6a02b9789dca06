// Package realetcd runs real etcd clusters for tests: processes of the etcd module, which are killed and paused, and proxies before them, which are cut.
//
// Start with Start. A program that starts clusters runs ServeIfAsked first: a member is another process of the same binary.
package realetcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// Options say what a cluster is like.
type Options struct {
	// Members is how many there are (1).
	Members int
	// CA, Cert and Key are files in PEM: members speak TLS and want a client's certificate of the same CA.
	CA, Cert, Key string
	// QuotaBytes is how large the database may become (etcd's default).
	QuotaBytes int64
	// Host is the address of this machine at which the proxies listen (127.0.0.1).
	Host string
}

// Cluster is a running one. Its methods are not safe for concurrent use.
type Cluster struct {
	opts    Options
	dir     string
	cluster string // of all members, as etcd takes it
	members []*member
}

type member struct {
	n             int
	peer, address string // host and port
	proxy         *Proxy
	cmd           *exec.Cmd
	exited        chan struct{}
}

// asked is the environment variable that makes a process a member: its arguments.
const asked = "RIVULET_REAL_ETCD"

// ServeIfAsked makes the process a member of a cluster, if it was started for that; then it does not return.
func ServeIfAsked() {
	args := strings.Split(os.Getenv(asked), "|")
	if len(args) != 9 {
		return
	}
	if err := serve(args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Main runs the tests of a package that starts clusters: func TestMain(m *testing.M) { os.Exit(realetcd.Main(m)) }.
func Main(m *testing.M) int {
	ServeIfAsked()
	return m.Run()
}

func serve(args []string) error {
	name, dir, peer, address, cluster, ca, cert, key, quota := args[0], args[1], args[2], args[3], args[4], args[5], args[6], args[7], args[8]
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir, cfg.InitialCluster, cfg.ClusterState = name, dir, cluster, embed.ClusterStateFlagNew
	cfg.LogLevel = "warn"
	// Fast elections: tests wait for them.
	cfg.TickMs, cfg.ElectionMs = 50, 500
	cfg.UnsafeNoFsync = false
	scheme := "http"
	if ca != "" {
		scheme = "https"
		cfg.ClientTLSInfo.TrustedCAFile, cfg.ClientTLSInfo.CertFile, cfg.ClientTLSInfo.KeyFile, cfg.ClientTLSInfo.ClientCertAuth = ca, cert, key, true
	}
	var err error
	if cfg.QuotaBackendBytes, err = strconv.ParseInt(quota, 10, 64); err != nil {
		return err
	}
	peers, err := urls("http", peer)
	if err != nil {
		return err
	}
	clients, err := urls(scheme, address)
	if err != nil {
		return err
	}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls, cfg.ListenClientUrls, cfg.AdvertiseClientUrls = peers, peers, clients, clients
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return err
	}
	select {
	case err := <-e.Err():
		return err
	case <-e.Server.StopNotify():
		return errors.New("etcd has stopped")
	}
}

func urls(scheme, address string) ([]url.URL, error) {
	u, err := url.Parse(scheme + "://" + address)
	if err != nil {
		return nil, err
	}
	return []url.URL{*u}, nil
}

// Start starts a cluster that ends with the test, and waits until it answers.
func Start(t testing.TB, o Options) *Cluster {
	t.Helper()
	c, err := New(t.Context(), t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// New starts a cluster with its data below a directory, and waits until it answers.
func New(ctx context.Context, dir string, o Options) (*Cluster, error) {
	c := &Cluster{opts: o, dir: dir}
	addresses, err := freeAddresses(2 * max(o.Members, 1))
	if err != nil {
		return nil, err
	}
	var names []string
	for n := range max(o.Members, 1) {
		m := &member{n: n, peer: addresses[2*n], address: addresses[2*n+1]}
		names = append(names, fmt.Sprintf("m%d=http://%s", n, m.peer))
		c.members = append(c.members, m)
	}
	c.cluster = strings.Join(names, ",")
	for _, m := range c.members {
		if m.proxy, err = newProxy(cmp.Or(o.Host, "127.0.0.1"), m.address); err != nil {
			c.Close()
			return nil, err
		}
	}
	for n := range c.members {
		if err := c.launch(n); err != nil {
			c.Close()
			return nil, err
		}
	}
	if err := c.Await(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// freeAddresses returns addresses of this machine that nobody listens at now.
func freeAddresses(n int) ([]string, error) {
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		out = append(out, l.Addr().String())
	}
	return out, nil
}

func (c *Cluster) launch(n int) error {
	m := c.members[n]
	self, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(c.dir, fmt.Sprintf("m%d.log", n)), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	m.cmd = exec.Command(self)
	m.cmd.Env = append(os.Environ(), asked+"="+strings.Join([]string{
		fmt.Sprintf("m%d", n), filepath.Join(c.dir, fmt.Sprintf("m%d", n)), m.peer, m.address, c.cluster, c.opts.CA, c.opts.Cert, c.opts.Key, strconv.FormatInt(c.opts.QuotaBytes, 10),
	}, "|"))
	m.cmd.Stdout, m.cmd.Stderr = log, log
	endWithParent(m.cmd)
	if err := m.cmd.Start(); err != nil {
		return err
	}
	m.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) { // ends with the process, which end kills; its error is that it was killed
		_ = cmd.Wait()
		close(exited)
	}(m.cmd, m.exited)
	return nil
}

// Await waits until a majority answers.
func (c *Cluster) Await(ctx context.Context) error {
	client, err := c.Client()
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		call, stop := context.WithTimeout(ctx, time.Second)
		_, err := client.Get(call, "there")
		stop()
		if err == nil || strings.Contains(err.Error(), "user name is empty") {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			var logs strings.Builder
			for n := range c.members {
				b, _ := os.ReadFile(filepath.Join(c.dir, fmt.Sprintf("m%d.log", n)))
				logs.Write(b[max(0, len(b)-2000):])
			}
			return fmt.Errorf("etcd does not answer: %w\n%s", err, logs.String())
		}
	}
}

// Client returns a client of the members themselves, past the proxies.
func (c *Cluster) Client() (*clientv3.Client, error) {
	cfg := clientv3.Config{Logger: zap.NewNop(), DialTimeout: 5 * time.Second, MaxUnaryRetries: 3}
	for _, m := range c.members {
		cfg.Endpoints = append(cfg.Endpoints, c.scheme()+"://"+m.address)
	}
	if c.opts.CA != "" {
		var err error
		if cfg.TLS, err = clientTLS(c.opts); err != nil {
			return nil, err
		}
	}
	return clientv3.New(cfg)
}

func (c *Cluster) scheme() string {
	if c.opts.CA != "" {
		return "https"
	}
	return "http"
}

// Endpoints are the addresses of the proxies before the members, as high-availability.etcd.endpoints takes them.
func (c *Cluster) Endpoints() string {
	var out []string
	for _, m := range c.members {
		out = append(out, c.scheme()+"://"+m.proxy.Address())
	}
	return strings.Join(out, ",")
}

// Proxy is the one before member n; further ones are made with NewProxy and Address.
func (c *Cluster) Proxy(n int) *Proxy { return c.members[n].proxy }

// Address is HOST:PORT of member n itself.
func (c *Cluster) Address(n int) string { return c.members[n].address }

// Kill kills a member, as kill -9 does.
func (c *Cluster) Kill(t testing.TB, n int) {
	t.Helper()
	c.signal(t, n, syscall.SIGKILL)
	<-c.members[n].exited
}

// Down is Kill for programs.
func (c *Cluster) Down(n int) error {
	err := c.members[n].cmd.Process.Signal(syscall.SIGKILL)
	<-c.members[n].exited
	return err
}

// Up is Restart for programs.
func (c *Cluster) Up(n int) error { return c.launch(n) }

// Pid is the process of a member.
func (c *Cluster) Pid(n int) int { return c.members[n].cmd.Process.Pid }

// Pause stops a member.
func (c *Cluster) Pause(t testing.TB, n int) { t.Helper(); c.signal(t, n, syscall.SIGSTOP) }

// Resume lets a member that was stopped go on.
func (c *Cluster) Resume(t testing.TB, n int) { t.Helper(); c.signal(t, n, syscall.SIGCONT) }

func (c *Cluster) signal(t testing.TB, n int, sig syscall.Signal) {
	t.Helper()
	if err := c.members[n].cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// Restart starts a member that was killed.
func (c *Cluster) Restart(t testing.TB, n int) {
	t.Helper()
	if err := c.launch(n); err != nil {
		t.Fatal(err)
	}
}

// Wipe removes the data of a member that was killed.
func (c *Cluster) Wipe(t testing.TB, n int) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(c.dir, fmt.Sprintf("m%d", n))); err != nil {
		t.Fatal(err)
	}
}

// Leader is the member that leads the etcd cluster.
func (c *Cluster) Leader(t testing.TB) int {
	t.Helper()
	client, err := c.Client()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for n, m := range c.members {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		s, err := client.Status(ctx, c.scheme()+"://"+m.address)
		cancel()
		if err == nil && s.Leader == s.Header.GetMemberId() {
			return n
		}
	}
	t.Fatal("no member leads")
	return 0
}

// Close ends all members.
func (c *Cluster) Close() {
	for _, m := range c.members {
		if m.proxy != nil {
			m.proxy.Close()
		}
		if m.cmd == nil || m.exited == nil {
			continue
		}
		_ = m.cmd.Process.Kill() // it may have ended
		<-m.exited
	}
}

// Proxy carries connections to an address, until it is cut. It is safe for concurrent use.
type Proxy struct {
	to string
	l  net.Listener
	wg sync.WaitGroup

	mu    sync.Mutex
	mode  mode
	conns map[net.Conn]bool
}

type mode int

const (
	open mode = iota
	// silent swallows: bytes arrive nowhere, and connections stay.
	silent
	// closed refuses.
	closed
)

// NewProxy listens at an address of its own choice.
func NewProxy(to string) (*Proxy, error) { return newProxy("127.0.0.1", to) }

func newProxy(host, to string) (*Proxy, error) {
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{to: to, l: l, conns: map[net.Conn]bool{}}
	p.wg.Go(p.accept)
	return p, nil
}

// Address is where it listens.
func (p *Proxy) Address() string { return p.l.Addr().String() }

// Cut swallows all bytes, both ways, from now on: as a network that drops packets.
func (p *Proxy) Cut() { p.set(silent, false) }

// Refuse closes all connections, and new ones.
func (p *Proxy) Refuse() { p.set(closed, true) }

// Heal carries again. What was swallowed is lost, so connections of before are closed.
func (p *Proxy) Heal() { p.set(open, true) }

func (p *Proxy) set(m mode, reset bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mode = m
	if reset {
		for c := range p.conns {
			_ = c.Close() // that is the purpose
		}
	}
}

// Close ends it.
func (p *Proxy) Close() {
	_ = p.l.Close()
	p.set(closed, true)
	p.wg.Wait()
}

func (p *Proxy) accept() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.serve(c) })
	}
}

// add counts a connection; false says that it is to be closed.
func (p *Proxy) add(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[c] = true
	return p.mode != closed
}

func (p *Proxy) serve(in net.Conn) {
	defer p.drop(in)
	if !p.add(in) {
		return
	}
	out, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer p.drop(out)
	if !p.add(out) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.copy(out, in) })
	both.Go(func() { p.copy(in, out) })
	both.Wait()
}

func (p *Proxy) drop(c net.Conn) {
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
	_ = c.Close()
}

func (p *Proxy) copy(to, from net.Conn) {
	defer to.Close()
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		p.mu.Lock()
		m := p.mode
		p.mu.Unlock()
		if m == open && n > 0 {
			if _, werr := to.Write(b[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
