package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/connector/kafka"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/execution"
	"github.com/rivulet-io/rivulet/pkg/metrics"
	"github.com/rivulet-io/rivulet/pkg/stream"
	"github.com/rivulet-io/rivulet/test/realkafka"
)

// broker is a Kafka that tests run against: kfake over a network in memory, inside a synctest bubble, or a real one.
type broker struct {
	t    *testing.T
	fake *kfake.Cluster     // nil for a real one
	real *realkafka.Cluster // nil for kfake
	addr []string
	dial func(ctx context.Context, network, host string) (net.Conn, error)
	cl   *kgo.Client
	auth []kafka.Option // of sources and sinks
	own  []kgo.Opt      // of the test's own clients
	// topics are those that the test made.
	topics *[]string
}

// newFake starts a kfake; call it inside a bubble.
func newFake(t *testing.T, opts ...kfake.Opt) *broker {
	t.Helper()
	var network kfake.VirtualNetwork
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.ListenFn(network.Listen)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	b := &broker{t: t, fake: c, addr: c.ListenAddrs(), dial: network.DialContext, topics: new([]string)}
	t.Cleanup(c.Close)
	b.cl = b.client()
	return b
}

// onBoth runs a test on kfake, and on a real broker where there can be one.
func onBoth(t *testing.T, f func(t *testing.T, b *broker), opts ...kfake.Opt) {
	t.Parallel() // a real broker mostly lets wait
	t.Run("kfake", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { f(t, newFake(t, opts...)) })
	})
	t.Run("kafka", func(t *testing.T) { f(t, newReal(t, realkafka.Shared(t))) })
}

// onFake runs a test on kfake alone.
func onFake(t *testing.T, f func(t *testing.T, b *broker), opts ...kfake.Opt) {
	synctest.Test(t, func(t *testing.T) { f(t, newFake(t, opts...)) })
}

func TestMain(m *testing.M) { os.Exit(realkafka.Main(m)) }

// newReal uses a real broker.
func newReal(t *testing.T, c *realkafka.Cluster) *broker {
	t.Helper()
	b := &broker{t: t, real: c, addr: []string{c.Bootstrap()}, topics: new([]string)}
	b.cl = b.client()
	return b
}

// names counts topics, prefixes and groups, which tests on one real broker share.
var names atomic.Int64

// name returns a name that no other test has.
func (b *broker) name(s string) string { return fmt.Sprintf("%s-%d-%d", s, os.Getpid(), names.Add(1)) }

// client returns a client of the test's own.
func (b *broker) client(opts ...kgo.Opt) *kgo.Client {
	b.t.Helper()
	all := append([]kgo.Opt{kgo.SeedBrokers(b.addr...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(100 * time.Millisecond)}, slices.Concat(b.own, opts)...)
	if b.dial != nil {
		all = append(all, kgo.Dialer(b.dial))
	}
	cl, err := kgo.NewClient(all...)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(cl.Close)
	return cl
}

// options are those of every source and sink.
func (b *broker) options() []kafka.Option {
	out := []kafka.Option{kafka.Bootstrap(b.addr...)}
	if b.dial != nil {
		out = append(out, kafka.Dialer(b.dial))
	}
	return append(out, b.auth...)
}

func (b *broker) source(opts ...kafka.SourceOption) (out []kafka.SourceOption) {
	for _, o := range b.options() {
		out = append(out, o)
	}
	return append(out, opts...)
}

func (b *broker) sink(opts ...kafka.SinkOption) (out []kafka.SinkOption) {
	for _, o := range b.options() {
		out = append(out, o)
	}
	return append(out, opts...)
}

// topic makes a topic.
func (b *broker) topic(name string, partitions int32, config ...string) {
	b.t.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = name, partitions, -1
	for i := 0; i < len(config); i += 2 {
		rc := kmsg.NewCreateTopicsRequestTopicConfig()
		rc.Name, rc.Value = config[i], &config[i+1]
		rt.Configs = append(rt.Configs, rc)
	}
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(b.t.Context(), b.cl)
	if err != nil || resp.Topics[0].ErrorCode != 0 {
		b.t.Fatalf("create topic %s: %v %v", name, err, resp)
	}
	*b.topics = append(*b.topics, name)
}

// produce writes values from..to-1 to a partition.
func (b *broker) produce(topic string, part int32, from, to int) {
	b.t.Helper()
	var rs []*kgo.Record
	for i := from; i < to; i++ {
		rs = append(rs, &kgo.Record{Topic: topic, Partition: part, Key: fmt.Appendf(nil, "%d", part), Value: fmt.Appendf(nil, "%d:%d", part, i), Timestamp: time.UnixMilli(int64(i))})
	}
	if err := b.cl.ProduceSync(b.t.Context(), rs...).FirstErr(); err != nil {
		b.t.Fatal(err)
	}
}

// read returns what a topic holds: to a reader of committed data, or to any.
func (b *broker) read(topic string, committed bool) (out []*kgo.Record) {
	b.t.Helper()
	level := kgo.ReadUncommitted()
	if committed {
		level = kgo.ReadCommitted()
	}
	cl := b.client(kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(level), kgo.KeepControlRecords(), kgo.FetchMaxWait(100*time.Millisecond))
	defer cl.Close()
	ends := b.ends(topic, committed)
	for {
		done := true
		for _, end := range ends {
			done = done && end == 0
		}
		if done {
			return out
		}
		ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
		fetches := cl.PollFetches(ctx)
		cancel()
		if err := fetches.Err(); err != nil {
			b.t.Fatalf("read %s: %v, ends %v, have %d", topic, err, ends, len(out))
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				out = append(out, r)
			}
			if r.Offset+1 >= ends[r.Partition] {
				ends[r.Partition] = 0
			}
		})
	}
}

// ends returns the ends of a topic's partitions; partitions without records are left out.
func (b *broker) ends(topic string, committed bool) map[int32]int64 {
	b.t.Helper()
	md := kmsg.NewPtrMetadataRequest()
	mt := kmsg.NewMetadataRequestTopic()
	mt.Topic = &topic
	md.Topics = append(md.Topics, mt)
	mresp, err := md.RequestWith(b.t.Context(), b.cl)
	if err != nil {
		b.t.Fatal(err)
	}
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	if committed {
		req.IsolationLevel = 1
	}
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = topic
	for _, p := range mresp.Topics[0].Partitions {
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Partition, rp.Timestamp = p.Partition, -1
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	out := map[int32]int64{}
	for _, s := range b.cl.RequestSharded(b.t.Context(), req) {
		if s.Err != nil {
			b.t.Fatal(s.Err)
		}
		for _, t := range s.Resp.(*kmsg.ListOffsetsResponse).Topics {
			for _, p := range t.Partitions {
				if p.Offset > 0 {
					out[p.Partition] = p.Offset
				}
			}
		}
	}
	return out
}

// logs says which offsets the broker has of the topics that the test made.
func (b *broker) logs() string {
	adm := kadm.NewClient(b.cl)
	starts, err := adm.ListStartOffsets(context.Background(), *b.topics...)
	if err != nil {
		return err.Error()
	}
	ends, err := adm.ListEndOffsets(context.Background(), *b.topics...)
	if err != nil {
		return err.Error()
	}
	var out []string
	ends.Each(func(o kadm.ListedOffset) {
		first, _ := starts.Lookup(o.Topic, o.Partition)
		out = append(out, fmt.Sprintf("%s-%d holds %d to %d", o.Topic, o.Partition, first.Offset, o.Offset))
	})
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// values counts the values of records.
func values(rs []*kgo.Record) map[string]int {
	m := map[string]int{}
	for _, r := range rs {
		m[string(r.Value)]++
	}
	return m
}

// once checks that the values from..to-1 of the partitions are there once each, and nothing else.
func once(t *testing.T, rs []*kgo.Record, parts, to int) {
	t.Helper()
	m := values(rs)
	for p := range parts {
		for i := range to {
			v := fmt.Sprintf("%d:%d", p, i)
			if m[v] != 1 {
				t.Errorf("%q is there %d times", v, m[v])
			}
			delete(m, v)
		}
	}
	if len(m) > 0 {
		t.Errorf("and more: %v", m)
	}
}

// once is once for what readers of committed data see.
func (b *broker) once(topic string, parts, to int) {
	b.t.Helper()
	b.await(topic, parts*to)
	once(b.t, b.read(topic, true), parts, to)
}

// await waits until readers of committed data see n records: a real broker answers a commit before it writes its markers.
func (b *broker) await(topic string, n int) {
	b.t.Helper()
	done := false
	defer func() {
		if !done {
			b.t.Logf("there are %d, and %d uncommitted; open transactions: %v; %s", len(b.read(topic, true)), len(b.read(topic, false)), b.ongoing(""), b.logs())
		}
	}()
	wait(b.t, fmt.Sprintf("%d records", n), func() bool {
		sum := int64(0)
		for _, end := range b.ends(topic, true) {
			sum += end
		}
		return sum >= int64(n) && len(b.read(topic, true)) >= n // offsets are spent on the ends of transactions too
	})
	done = true
}

func logger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

func settings(kv ...string) (out []config.Setting) {
	for i := 0; i < len(kv); i += 2 {
		out = append(out, config.Setting{Key: kv[i], Value: kv[i+1]})
	}
	return out
}

// plug is a process's network, which can be pulled.
type plug struct {
	dial func(ctx context.Context, network, host string) (net.Conn, error)

	mu     sync.Mutex
	conns  []net.Conn
	pulled bool
}

func (b *broker) plug() *plug {
	p := &plug{dial: b.dial}
	if p.dial == nil {
		p.dial = new(net.Dialer).DialContext
	}
	return p
}

func (p *plug) DialContext(ctx context.Context, network, host string) (net.Conn, error) {
	p.mu.Lock()
	pulled := p.pulled
	p.mu.Unlock()
	if pulled {
		return nil, errors.New("the plug is pulled")
	}
	conn, err := p.dial(ctx, network, host)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, conn)
	return conn, nil
}

// pull cuts all connections; none is made any more until push.
func (p *plug) pull() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pulled = true
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

func (p *plug) push() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pulled = false
}

// on returns the same broker over another network.
func (b *broker) on(p *plug) *broker {
	c := *b
	c.dial = p.DialContext
	return &c
}

// process is a mini in the background.
type process struct {
	*cluster.Mini
	t    *testing.T
	mem  *cluster.Memory
	stop func() error
}

// mini runs a job in the background; stop suspends it and returns its error.
func mini(t *testing.T, mem *cluster.Memory, build func(*stream.Env) error, kv ...string) *process {
	t.Helper()
	return start(t, mem, cluster.Job{Name: "job", Build: build}, kv...)
}

func start(t *testing.T, mem *cluster.Memory, job cluster.Job, kv ...string) *process {
	t.Helper()
	m, err := cluster.NewMini(cluster.MiniConfig{Jobs: []cluster.Job{job}, Memory: mem, Logger: logger(t), Settings: settings(append([]string{"execution.checkpointing.interval", "1 s"}, kv...)...)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	p := &process{Mini: m, t: t, mem: mem, stop: sync.OnceValue(func() error { cancel(); return <-done })}
	t.Cleanup(func() { _ = p.stop() }) // a test that failed must not go on
	return p
}

// kill ends the process as kill -9 does, with its network, and returns what it leaves.
func (p *process) kill(plug *plug, keep int) *cluster.Memory {
	plug.pull()
	left := p.mem.CrashClone(keep)
	pass(time.Millisecond) // what is on the way arrives: kfake opens transactions for records that it refuses
	_ = p.stop()
	return left
}

// state returns the job's state.
func (p *process) state() execution.JobState {
	if jobs := p.JobManager().Jobs(); len(jobs) > 0 {
		return jobs[0].State
	}
	return execution.JobInitializing
}

// failed waits until the job has FAILED, and returns its error.
func (p *process) failed() string {
	p.t.Helper()
	wait(p.t, "job FAILED", func() bool { return p.state() == execution.JobFailed })
	err := p.stop()
	if err == nil {
		p.t.Fatal("the process of a failed job ended without an error")
	}
	return err.Error()
}

// metric returns the sum of a metric over the process; -1 when there is none.
func (p *process) metric(name string) float64 {
	sum, found := 0.0, false
	p.Metrics().Each(func(v metrics.Value) {
		if v.Name == name {
			sum, found = sum+v.Number, true
		}
	})
	if !found {
		return -1
	}
	return sum
}

// pass lets time pass in a bubble.
func pass(d time.Duration) { time.Sleep(d) }

// wait lets time pass until ok, a minute at most.
func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	const limit = time.Minute
	start := time.Now()
	for step := 10 * time.Millisecond; ; step = min(step+step/20, 200*time.Millisecond) {
		if ok() {
			return
		}
		if passed := time.Since(start); passed > limit {
			t.Fatalf("did not happen within %v: %s", passed.Round(time.Second), what)
		}
		time.Sleep(step)
	}
}

// copyJob copies topic in to topic out.
func copyJob(b *broker, opts ...kafka.SinkOption) func(*stream.Env) error {
	return func(env *stream.Env) error {
		in := stream.From(env, kafka.Source(kafka.String(), b.source(kafka.Topic("in"))...), event.NoWatermarks[string](), stream.UID("in"))
		same := stream.Map(in, func(v string) string { return v })
		stream.To(same, kafka.Sink(kafka.String(), b.sink(append(opts, kafka.Topic("out"))...)...), stream.UID("out"))
		return nil
	}
}

func TestCopy(t *testing.T) {
	for name, g := range map[string]kafka.SinkOption{"none": kafka.NoGuarantee(), "at-least-once": kafka.AtLeastOnce(), "exactly-once": kafka.ExactlyOnce()} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newFake(t)
				b.topic("in", 3)
				b.topic("out", 2)
				for p := range 3 {
					b.produce("in", int32(p), 0, 500)
				}
				m := mini(t, cluster.NewMemory(), copyJob(b, g), "parallelism.default", "2")
				wait(t, "all is copied", func() bool { return len(b.read("out", true)) >= 1500 })
				for p := range 3 {
					b.produce("in", int32(p), 500, 600)
				}
				wait(t, "more is copied", func() bool { return len(b.read("out", true)) >= 1800 })
				if err := m.stop(); err != nil {
					t.Fatal(err)
				}
				once(t, b.read("out", false), 3, 600)
			})
		})
	}
}
