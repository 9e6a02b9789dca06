// Package realkafka starts real Apache Kafka brokers (KRaft, on loopback) for tests. It needs Java 17 and Maven, which fetches the broker's jars once.
//
// Start with Start. Its law: a test that cannot have a broker is skipped, and says so in one line.
package realkafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Version is the release of Kafka.
const Version = "4.4.0"

// ErrMissing is wrapped when there is no Java or no Maven.
var ErrMissing = errors.New("real Kafka: java and mvn are not both on the path")

// Options change how a cluster is started. The zero Options are one broker without authentication.
type Options struct {
	// Nodes is the number of brokers (1). Three replicate everything, with min.insync.replicas 2.
	Nodes int
	// Properties are added to each broker's settings.
	Properties map[string]string
	// Security, when set, makes clients use a listener with SASL over TLS.
	Security *Security
	// Heap is the size of each broker's heap ("256m").
	Heap string
	// Host is the address of this machine at which clients find the brokers (127.0.0.1).
	Host string
}

// Security is a listener with SCRAM over TLS.
type Security struct {
	// Users and their passwords, for SCRAM-SHA-256 and SCRAM-SHA-512.
	Users map[string]string
}

// Cluster is running brokers. Its methods are used by one goroutine.
type Cluster struct {
	dir, jars string
	opts      Options
	ports     []int  // of the brokers' client listeners, then of the controllers, then of the brokers' own listeners
	cert, key []byte // of the client listeners with Security, in PEM
	nodes     []*exec.Cmd
}

// Start starts brokers that end with the test, or skips the test when there is no Java or Maven.
func Start(t testing.TB, opts ...Options) *Cluster {
	t.Helper()
	dir := t.TempDir()
	var o Options
	if len(opts) > 0 {
		o = opts[0]
	}
	c, err := New(t.Context(), dir, o)
	if errors.Is(err, ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		if t.Failed() {
			for n := range c.nodes {
				if log, err := os.ReadFile(c.log(n)); err == nil && len(log) > 0 {
					t.Logf("broker %d said:\n%s", n+1, tail(log, 4<<10))
				}
			}
		}
	})
	return c
}

var shared struct {
	sync.Once
	c   *Cluster
	dir string
	err error
}

// Shared returns the broker of the test's package, which is started at the first call and has no authentication; the package's TestMain is Main. It skips as Start does.
func Shared(t testing.TB) *Cluster {
	t.Helper()
	shared.Do(func() {
		if shared.dir, shared.err = os.MkdirTemp("", "realkafka-"); shared.err == nil { //nolint:usetesting // it outlives the test
			// Transactions are aborted soon after their timeout.
			shared.c, shared.err = New(context.WithoutCancel(t.Context()), shared.dir, Options{Properties: map[string]string{"transaction.abort.timed.out.transaction.cleanup.interval.ms": "500"}})
		}
	})
	if errors.Is(shared.err, ErrMissing) {
		t.Skip(shared.err)
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.c
}

// Main runs the tests of a package that calls Shared, and ends its broker: func TestMain(m *testing.M) { os.Exit(realkafka.Main(m)) }.
func Main(m *testing.M) int {
	code := m.Run()
	if shared.c != nil {
		shared.c.Close()
	}
	if shared.dir != "" {
		if err := os.RemoveAll(shared.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	return code
}

// BootstrapPlain is where the brokers are reached without authentication, whatever Options.Security says.
func (c *Cluster) BootstrapPlain() string {
	if c.opts.Security == nil {
		return c.Bootstrap()
	}
	var out []string
	for n := range c.nodes {
		out = append(out, fmt.Sprintf("127.0.0.1:%d", c.ports[2*len(c.nodes)+n]))
	}
	return strings.Join(out, ",")
}

// Certificate is what the certificate of Options.Security's listener is checked against, in PEM: it signs itself.
func (c *Cluster) Certificate() []byte { return c.cert }

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

// New starts brokers that keep their data in dir. Close ends them.
func New(ctx context.Context, dir string, o Options) (*Cluster, error) {
	if o.Nodes == 0 {
		o.Nodes = 1
	}
	if o.Heap == "" {
		o.Heap = "256m"
	}
	if o.Host == "" {
		o.Host = "127.0.0.1"
	}
	jars, err := fetch(ctx)
	if err != nil {
		return nil, err
	}
	c := &Cluster{dir: dir, jars: jars, opts: o, nodes: make([]*exec.Cmd, o.Nodes)}
	if c.ports, err = freePorts(3 * o.Nodes); err != nil {
		return nil, err
	}
	if o.Security != nil {
		if c.cert, c.key, err = certificate(); err != nil {
			return nil, err
		}
	}
	for n := range o.Nodes {
		if err := c.configure(ctx, n); err != nil {
			return nil, err
		}
	}
	for n := range o.Nodes {
		if err := c.launch(n); err != nil {
			c.Close()
			return nil, err
		}
	}
	for n := range o.Nodes {
		if err := c.await(ctx, n); err != nil {
			c.Close()
			return nil, err
		}
	}
	return c, nil
}

// Bootstrap is where clients find the brokers, as HOST:PORT,...
func (c *Cluster) Bootstrap() string {
	var out []string
	for n := range c.nodes {
		out = append(out, fmt.Sprintf("%s:%d", c.opts.Host, c.ports[n]))
	}
	return strings.Join(out, ",")
}

// Kill kills brokers at once (all, or those named, from 0).
func (c *Cluster) Kill(t testing.TB, nodes ...int) {
	t.Helper()
	c.Down(nodes...)
}

// Down is Kill for programs.
func (c *Cluster) Down(nodes ...int) {
	for _, n := range c.pick(nodes) {
		c.end(n, syscall.SIGKILL)
	}
}

// Restart starts brokers again that were killed, on their old ports and data, and waits until they answer.
func (c *Cluster) Restart(t testing.TB, nodes ...int) {
	t.Helper()
	if err := c.Up(t.Context(), nodes...); err != nil {
		t.Fatal(err)
	}
}

// Up is Restart for programs.
func (c *Cluster) Up(ctx context.Context, nodes ...int) error {
	for _, n := range c.pick(nodes) {
		if err := c.launch(n); err != nil {
			return err
		}
	}
	for _, n := range c.pick(nodes) {
		if err := c.await(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// Pid is the process of a broker, from 0, that runs.
func (c *Cluster) Pid(node int) int { return c.nodes[node].Process.Pid }

func (c *Cluster) pick(nodes []int) []int {
	if len(nodes) == 0 {
		for n := range c.nodes {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// Close kills all brokers.
func (c *Cluster) Close() {
	for n := range c.nodes {
		c.end(n, syscall.SIGKILL)
	}
}

func (c *Cluster) end(n int, sig syscall.Signal) {
	cmd := c.nodes[n]
	if cmd == nil {
		return
	}
	_ = cmd.Process.Signal(sig)
	_ = cmd.Wait() // it was killed
	c.nodes[n] = nil
}

var fetching sync.Mutex

// fetch returns the directory with the broker's jars.
func fetch(ctx context.Context) (string, error) {
	if runtime.GOOS == "windows" {
		return "", ErrMissing
	}
	for _, tool := range []string{"java", "mvn"} {
		if _, err := exec.LookPath(tool); err != nil {
			return "", ErrMissing
		}
	}
	fetching.Lock()
	defer fetching.Unlock()
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	lib := filepath.Join(cache, "rivulet-test", "kafka-"+Version)
	if _, err := os.Stat(lib); err == nil {
		return lib, nil
	}
	if err := os.MkdirAll(filepath.Dir(lib), 0o755); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(lib), "fetch-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	pom := `<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>test</groupId><artifactId>broker</artifactId><version>1</version><dependencies><dependency>
<groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>` + Version + `</version></dependency></dependencies></project>`
	if err := os.WriteFile(filepath.Join(tmp, "pom.xml"), []byte(pom), 0o600); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "mvn", "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+filepath.Join(tmp, "lib"))
	cmd.Dir = tmp
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("real Kafka: mvn could not fetch release %s: %w\n%s", Version, err, tail(out, 2<<10))
	}
	if err := os.Rename(filepath.Join(tmp, "lib"), lib); err != nil {
		if _, serr := os.Stat(lib); serr != nil { // another process may have been first
			return "", err
		}
	}
	return lib, nil
}

func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }() // all are held until all are known
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

func (c *Cluster) home(n int) string { return filepath.Join(c.dir, fmt.Sprintf("broker-%d", n+1)) }
func (c *Cluster) log(n int) string  { return filepath.Join(c.home(n), "kafka.log") }

// configure writes a broker's settings and formats its storage.
func (c *Cluster) configure(ctx context.Context, n int) error {
	count := c.opts.Nodes
	var voters []string
	for i := range count {
		voters = append(voters, fmt.Sprintf("%d@127.0.0.1:%d", i+1, c.ports[count+i]))
	}
	replicas, insync := min(count, 3), 1
	if replicas > 1 {
		insync = 2
	}
	home := c.home(n)
	if err := os.MkdirAll(home, 0o755); err != nil {
		return err
	}
	protocol := "PLAINTEXT"
	if c.opts.Security != nil {
		protocol = "SASL_SSL"
	}
	settings := map[string]any{
		"process.roles": "broker,controller", "node.id": n + 1, "controller.quorum.voters": strings.Join(voters, ","),
		"listeners":                      fmt.Sprintf("CLIENTS://%s:%d,BROKERS://127.0.0.1:%d,CONTROLLER://127.0.0.1:%d", c.opts.Host, c.ports[n], c.ports[2*count+n], c.ports[count+n]),
		"advertised.listeners":           fmt.Sprintf("CLIENTS://%s:%d,BROKERS://127.0.0.1:%d", c.opts.Host, c.ports[n], c.ports[2*count+n]),
		"listener.security.protocol.map": "CLIENTS:" + protocol + ",BROKERS:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"inter.broker.listener.name":     "BROKERS", "controller.listener.names": "CONTROLLER", "log.dirs": filepath.Join(home, "data"),
		"offsets.topic.num.partitions": 4, "offsets.topic.replication.factor": replicas,
		"transaction.state.log.num.partitions": 4, "transaction.state.log.replication.factor": replicas, "transaction.state.log.min.isr": insync,
		"share.coordinator.state.topic.replication.factor": replicas, "share.coordinator.state.topic.min.isr": 1,
		"default.replication.factor": replicas, "min.insync.replicas": insync,
		"group.initial.rebalance.delay.ms": 0, "auto.create.topics.enable": false,
		// Tests give records times of their own: by those, a broker deletes them half a minute after its start, and every five minutes.
		"log.retention.ms": -1,
	}
	format := []string{"format", "--cluster-id", "rivulet-test-cluster-i", "--config", filepath.Join(home, "server.properties")}
	if s := c.opts.Security; s != nil {
		settings["sasl.enabled.mechanisms"] = "SCRAM-SHA-256,SCRAM-SHA-512"
		for k, v := range map[string]any{"keystore.type": "PEM", "keystore.certificate.chain": c.cert, "keystore.key": c.key} {
			if pem, ok := v.([]byte); ok {
				v = strings.ReplaceAll(string(pem), "\n", " \\\n")
			}
			settings["listener.name.clients.ssl."+k] = v
		}
		for _, mechanism := range []string{"scram-sha-256", "scram-sha-512"} {
			settings["listener.name.clients."+mechanism+".sasl.jaas.config"] = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
			for user, password := range s.Users {
				format = append(format, "--add-scram", fmt.Sprintf("%s=[name=%s,password=%s]", strings.ToUpper(mechanism), user, password))
			}
		}
	}
	for k, v := range c.opts.Properties {
		settings[k] = v
	}
	var b bytes.Buffer
	for k, v := range settings {
		fmt.Fprintf(&b, "%s=%v\n", k, v)
	}
	if err := os.WriteFile(filepath.Join(home, "server.properties"), b.Bytes(), 0o600); err != nil {
		return err
	}
	logging := "status = ERROR\nappender.f.type = File\nappender.f.name = F\nappender.f.fileName = " + c.log(n) +
		"\nappender.f.layout.type = PatternLayout\nappender.f.layout.pattern = %d %p %m (%c)%n%ex\nrootLogger.level = WARN\nrootLogger.appenderRef.f.ref = F\n"
	if err := os.WriteFile(filepath.Join(home, "log4j2.properties"), []byte(logging), 0o600); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "java", append([]string{"-Xmx64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", filepath.Join(c.jars, "*"), "kafka.tools.StorageTool"}, format...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("real Kafka: format the storage of broker %d: %w\n%s", n+1, err, tail(out, 2<<10))
	}
	return nil
}

func (c *Cluster) launch(n int) error {
	home := c.home(n)
	out, err := os.OpenFile(filepath.Join(home, "out.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }() // the broker has its own
	cmd := exec.Command("java", "-Xms64m", "-Xmx"+c.opts.Heap, "-XX:+UseSerialGC", "-Djava.net.preferIPv4Stack=true",
		"-Dlog4j2.configurationFile="+filepath.Join(home, "log4j2.properties"), "-cp", filepath.Join(c.jars, "*"), "kafka.Kafka", filepath.Join(home, "server.properties"))
	cmd.Stdout, cmd.Stderr = out, out
	endWithParent(cmd)
	if err := cmd.Start(); err != nil {
		return err
	}
	c.nodes[n] = cmd
	return nil
}

// await waits until a broker accepts connections at both of its listeners.
func (c *Cluster) await(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	// Its listeners come one after the other.
	addresses := []string{fmt.Sprintf("%s:%d", c.opts.Host, c.ports[n]), fmt.Sprintf("127.0.0.1:%d", c.ports[2*c.opts.Nodes+n])}
	var d net.Dialer
	for {
		conn, err := d.DialContext(ctx, "tcp", addresses[0])
		if err == nil {
			if err := conn.Close(); err != nil {
				return err
			}
			if addresses = addresses[1:]; len(addresses) == 0 {
				return nil
			}
			continue
		}
		if c.nodes[n].Process.Signal(syscall.Signal(0)) != nil || ended(c.nodes[n]) {
			out, _ := os.ReadFile(filepath.Join(c.home(n), "out.log"))
			log, _ := os.ReadFile(c.log(n))
			return fmt.Errorf("real Kafka: broker %d ended:\n%s\n%s", n+1, tail(out, 2<<10), tail(log, 2<<10))
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("real Kafka: broker %d does not answer at %s: %w", n+1, addresses[0], context.Cause(ctx))
		}
	}
}

// ended reports whether a process is a zombie.
func ended(cmd *exec.Cmd) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
	if err != nil {
		return false
	}
	_, rest, ok := strings.Cut(string(b), ") ")
	return ok && strings.HasPrefix(rest, "Z")
}
