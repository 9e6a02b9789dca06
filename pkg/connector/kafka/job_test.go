package kafka_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/connector/kafka"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/checkpoint"
	"github.com/rivulet-io/rivulet/pkg/internal/execution"
	"github.com/rivulet-io/rivulet/pkg/stream"
	"github.com/rivulet-io/rivulet/test/realkafka"
)

// feed writes records of each partition at a steady pace, in a goroutine, until all are written; done is closed then.
func (b *broker) feed(topic string, parts, to int, every time.Duration) (done chan struct{}) {
	done = make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; i < to; i += 10 {
			for p := range parts {
				b.produce(topic, int32(p), i, min(i+10, to))
			}
			pass(every)
		}
	}()
	return done
}

// ordered checks that the values of each input partition are in order within each output partition.
func ordered(t *testing.T, rs []*kgo.Record) {
	t.Helper()
	last := map[string]int{}
	for _, r := range rs {
		part, num, _ := strings.Cut(string(r.Value), ":")
		n, err := strconv.Atoi(num)
		if err != nil {
			t.Fatal(err)
		}
		at := fmt.Sprint(r.Partition, "/", part)
		if before, ok := last[at]; ok && n < before {
			t.Errorf("in partition %d, %s:%d comes after %s:%d", r.Partition, part, n, part, before)
		}
		last[at] = n
	}
}

// TestKill kills the process at random moments, twice in a row now and then, and starts it again with another parallelism: each value is seen once, in order.
func TestKill(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { kill(t, seed) })
	}
}

// TestKillVersion1 (D18) is TestKill on a broker whose transactions do not raise epochs.
func TestKillVersion1(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { kill(t, seed, kfake.MaxVersions(kversion.V3_6_0())) })
	}
}

func kill(t *testing.T, seed uint64, opts ...kfake.Opt) {
	t.Helper()
	onFake(t, func(t *testing.T, b *broker) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		b.topic("in", 4)
		b.topic("out", 3)
		mem := cluster.NewMemory()
		fed := b.feed("in", 4, 600, 300*time.Millisecond)
		for range 6 {
			plug := b.plug()
			p := mini(t, mem, copyJob(b.on(plug), kafka.ExactlyOnce()), "parallelism.default", fmt.Sprint(1+rnd.IntN(5)), "execution.checkpointing.interval", "300 ms")
			pass(time.Duration(rnd.IntN(6000)) * time.Millisecond)
			mem = p.kill(plug, rnd.IntN(101))
			if rnd.IntN(3) == 0 {
				plug := b.plug()
				p := mini(t, mem, copyJob(b.on(plug), kafka.ExactlyOnce()), "execution.checkpointing.interval", "300 ms")
				pass(time.Duration(rnd.IntN(100)) * time.Millisecond)
				mem = p.kill(plug, rnd.IntN(101))
			}
		}
		p := mini(t, mem, copyJob(b, kafka.ExactlyOnce()), "parallelism.default", "2")
		<-fed
		b.once("out", 4, 600)
		ordered(t, b.read("out", true))
		if err := p.stop(); err != nil {
			t.Fatal(err)
		}
		if open := b.ongoing("rivulet-"); len(open) > 0 {
			t.Errorf("still open: %v", open)
		}
	}, opts...)
}

// TestKillAtLeastOnce loses nothing.
func TestKillAtLeastOnce(t *testing.T) {
	onFake(t, func(t *testing.T, b *broker) {
		b.topic("in", 2)
		b.topic("out", 2)
		mem := cluster.NewMemory()
		fed := b.feed("in", 2, 1000, 100*time.Millisecond)
		for i := range 5 {
			plug := b.plug()
			p := mini(t, mem, copyJob(b.on(plug), kafka.AtLeastOnce()), "execution.checkpointing.interval", "300 ms")
			pass(time.Duration(700+i*313) * time.Millisecond)
			mem = p.kill(plug, 50)
		}
		mini(t, mem, copyJob(b, kafka.AtLeastOnce()))
		<-fed
		wait(t, "all is there", func() bool { return len(values(b.read("out", true))) == 2000 })
	})
}

// TestBrokerRestart (D1): the broker is killed and comes back.
func TestBrokerRestart(t *testing.T) {
	k := realkafka.Shared(t)
	b := newReal(t, k)
	in, out := b.name("in"), b.name("out")
	b.topic(in, 2)
	b.topic(out, 2)
	b.produce(in, 0, 0, 500)
	p := mini(t, cluster.NewMemory(), copyTopics(b, in, out, kafka.ExactlyOnce()), "execution.checkpointing.interval", "200 ms")
	b.await(out, 100)
	k.Kill(t)
	k.Restart(t)
	b.produce(in, 1, 0, 500)
	b.once(out, 2, 500)
	if s := p.state(); s != execution.JobRunning {
		t.Errorf("the job is %v", s)
	}
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
}

// TestLeadersMove (D2, D3): partition leaders and coordinators move under load; nothing restarts.
func TestLeadersMove(t *testing.T) {
	onFake(t, func(t *testing.T, b *broker) {
		b.topic("in", 4)
		b.topic("out", 4)
		p := mini(t, cluster.NewMemory(), copyJob(b, kafka.ExactlyOnce()), "parallelism.default", "2", "execution.checkpointing.interval", "300 ms")
		fed := b.feed("in", 4, 1000, 50*time.Millisecond)
		for range 20 {
			pass(230 * time.Millisecond)
			b.fake.ShufflePartitionLeaders()
			b.fake.RehashCoordinators()
		}
		<-fed
		b.once("out", 4, 1000)
		ordered(t, b.read("out", true))
		if n := p.metric("numRestarts"); n != 0 {
			t.Errorf("%v restarts", n)
		}
	}, kfake.NumBrokers(3), kfake.Ports(9092, 9093, 9094))
}

// TestEndTxnLost (D4, D5): requests and answers of commits are lost, in a running job.
func TestEndTxnLost(t *testing.T) {
	for _, answer := range []bool{false, true} {
		t.Run(fmt.Sprintf("answer=%v", answer), func(t *testing.T) {
			onFake(t, func(t *testing.T, b *broker) {
				b.topic("in", 2)
				b.topic("out", 2)
				cut := b.cutter(26, answer, 15)
				c := *b
				c.dial = cut.DialContext
				mini(t, cluster.NewMemory(), copyJob(&c, kafka.ExactlyOnce()), "execution.checkpointing.interval", "300 ms")
				<-b.feed("in", 2, 1000, 100*time.Millisecond)
				b.once("out", 2, 1000)
				if n := cut.left.Load(); n >= 0 {
					t.Errorf("%d of 15 were not cut", n)
				}
			})
		})
	}
}

// TestOutageLongerThanTheTimeout (D7): a process dies after a checkpoint and before its commit, and the broker aborts what was prepared. The next run goes back to the
// checkpoint before, and so does the one after it.
func TestOutageLongerThanTheTimeout(t *testing.T) {
	for _, twice := range []bool{false, true} {
		t.Run(fmt.Sprintf("twice=%v", twice), func(t *testing.T) {
			onFake(t, func(t *testing.T, b *broker) {
				b.topic("in", 2)
				b.topic("out", 2)
				opts := []kafka.SinkOption{kafka.ExactlyOnce(), kafka.TransactionTimeout(20 * time.Second)}
				// Commits get lost from the third on, so that checkpoints are complete that are not committed.
				cut := &cutter{dial: b.dial, key: 26}
				c := *b
				c.dial = cut.DialContext
				plug := c.plug()
				mem := cluster.NewMemory()
				p := mini(t, mem, copyJob(c.on(plug), opts...))
				b.produce("in", 0, 0, 500)
				b.await("out", 500)
				wait(t, "the commit is recorded", func() bool { return p.metric("numberOfCompletedCheckpoints") >= 2 })
				cut.left.Store(1 << 30)
				b.produce("in", 0, 500, 700)
				b.produce("in", 1, 0, 700)
				n := p.metric("numberOfCompletedCheckpoints")
				wait(t, "a checkpoint that is not committed", func() bool { return p.metric("numberOfCompletedCheckpoints") > n && len(b.ongoing("rivulet-")) > 0 })
				mem = p.kill(plug, 100)
				pass(time.Minute)
				b.visible("out", 500)
				if twice {
					plug := b.plug()
					p := mini(t, mem, copyJob(b.on(plug), opts...), "execution.checkpointing.interval", "1 h")
					wait(t, "the job runs", func() bool { return p.state() == execution.JobRunning })
					pass(50 * time.Millisecond)
					mem = p.kill(plug, 100)
				}
				p = mini(t, mem, copyJob(b, opts...))
				b.once("out", 2, 700)
				if err := p.stop(); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// TestLingering (D9): what a larger run left open is aborted before a smaller one starts, so that consumers are not blocked.
func TestLingering(t *testing.T) {
	onFake(t, func(t *testing.T, b *broker) {
		b.topic("in", 5)
		b.topic("out", 5)
		for p := range 5 {
			b.produce("in", int32(p), 0, 100)
		}
		plug := b.plug()
		p := mini(t, cluster.NewMemory(), copyJob(b.on(plug), kafka.ExactlyOnce()), "parallelism.default", "5", "execution.checkpointing.interval", "10 s")
		wait(t, "open transactions", func() bool { return len(b.ongoing("rivulet-")) == 5 })
		mem := p.kill(plug, 0)
		before := time.Now()
		p = mini(t, mem, copyJob(b, kafka.ExactlyOnce()), "parallelism.default", "2")
		wait(t, "lingering transactions are aborted", func() bool { return len(b.ongoing("rivulet-")) <= 2 && p.state() == execution.JobRunning })
		b.once("out", 5, 100)
		if took := time.Since(before); took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// TestSavepointUnderAnotherName: a job of another id and prefix commits what the savepoint had prepared.
func TestSavepointUnderAnotherName(t *testing.T) {
	onFake(t, func(t *testing.T, b *broker) {
		b.topic("in", 2)
		b.topic("out", 2)
		plug := b.plug()
		mem := cluster.NewMemory()
		p := mini(t, mem, copyJob(b.on(plug), kafka.ExactlyOnce()), "execution.checkpointing.interval", "1 h")
		b.produce("in", 0, 0, 300)
		b.produce("in", 1, 0, 300)
		wait(t, "records are read", func() bool { return len(b.read("out", false)) == 600 })
		id := p.Jobs()[0]
		req, err := p.JobManager().TriggerSavepoint(id, "", "mem:///mini/there")
		if err != nil {
			t.Fatal(err)
		}
		path := ""
		wait(t, "savepoint", func() bool {
			r, err := p.JobManager().Request(id, req)
			if err != nil {
				t.Fatal(err)
			}
			path = r.Path
			return r.Done
		})
		b.visible("out", 0)
		left := p.kill(plug, 100)
		q := start(t, left, cluster.Job{Name: "other", Build: copyJob(b, kafka.ExactlyOnce()), FromSavepoint: path}, "parallelism.default", "3")
		b.once("out", 2, 300)
		b.produce("in", 0, 300, 400)
		b.produce("in", 1, 300, 400)
		b.once("out", 2, 400)
		if open := b.ongoing("rivulet-" + id.String()); len(open) > 0 {
			t.Errorf("of the first job are open: %v", open)
		}
		if err := q.stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestWakesUp: a process is cut off inside a transaction, its newest retained checkpoint is restored elsewhere, under another id and parallelism, and it comes back. Readers are
// not held up by what it had begun, its job fails and says why, and each record is there once.
func TestWakesUp(t *testing.T) {
	onBoth(t, func(t *testing.T, b *broker) {
		in, out := b.name("in"), b.name("out")
		b.topic(in, 2)
		b.topic(out, 2)
		plug := b.plug()
		p := mini(t, cluster.NewMemory(), copyTopics(b.on(plug), in, out, kafka.ExactlyOnce()), "execution.checkpointing.interval", "1 s")
		b.produce(in, 0, 0, 100)
		b.produce(in, 1, 0, 100)
		b.await(out, 200)
		job, path := p.Jobs()[0], ""
		prefix := "rivulet-" + job.String()
		b.produce(in, 0, 100, 200)
		wait(t, "an open transaction", func() bool { return len(b.ongoing(prefix)) > 0 })
		plug.pull()
		if err := p.JobManager().Checkpoints(job, func(s *checkpoint.Stats) { path = s.LatestCompleted.Path }); err != nil {
			t.Fatal(err)
		}
		before := time.Now()
		q := start(t, p.mem.CrashClone(100), cluster.Job{Name: "other", Build: copyTopics(b, in, out, kafka.ExactlyOnce()), FromSavepoint: path}, "parallelism.default", "3")
		wait(t, "readers are unblocked", func() bool { return len(b.ongoing(prefix)) == 0 && len(b.read(out, true)) >= 300 })
		t.Logf("readers had everything %v after the restore began", time.Since(before))
		b.produce(in, 1, 100, 200)
		b.once(out, 2, 200)
		plug.push()
		b.produce(in, 0, 200, 300)
		b.produce(in, 1, 200, 300)
		if err := p.failed(); !strings.Contains(err, prefix) || !strings.Contains(err, "fenced") {
			t.Errorf("the one that came back ended with %v", err)
		}
		b.once(out, 2, 300)
		if err := q.stop(); err != nil {
			t.Fatal(err)
		}
		if open := b.ongoing(prefix); len(open) > 0 {
			t.Errorf("still open: %v", open)
		}
	})
}

// TestTopicDeleted (D10): a topic that is deleted, or made anew, ends the job, and no offset is reset.
func TestTopicDeleted(t *testing.T) {
	for _, anew := range []bool{false, true} {
		t.Run(fmt.Sprintf("anew=%v", anew), func(t *testing.T) {
			onFake(t, func(t *testing.T, b *broker) {
				b.topic("in", 1)
				b.topic("out", 1)
				b.produce("in", 0, 0, 100)
				p := mini(t, cluster.NewMemory(), func(env *stream.Env) error {
					in := stream.From(env, kafka.Source(kafka.String(), b.source(kafka.Topic("in"), kafka.DiscoverPartitions(10*time.Second))...), event.NoWatermarks[string](), stream.UID("in"))
					stream.To(in, kafka.Sink(kafka.String(), b.sink(kafka.Topic("out"), kafka.ExactlyOnce())...), stream.UID("out"))
					return nil
				})
				b.once("out", 1, 100)
				if _, err := kadm.NewClient(b.cl).DeleteTopics(t.Context(), "in"); err != nil {
					t.Fatal(err)
				}
				if anew {
					b.topic("in", 1)
					b.client() // whose metadata are new
					cl := b.client()
					if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "in", Value: []byte("new")}).FirstErr(); err != nil {
						t.Fatal(err)
					}
				}
				if err := p.failed(); !strings.Contains(err, "in-0") && !strings.Contains(err, `"in"`) || !strings.Contains(err, "deleted") {
					t.Errorf("got %v", err)
				}
				b.visible("out", 100)
			})
		})
	}
}

// TestRetentionPassedTheOffset (D11): the job ends with partition and offsets in its error.
func TestRetentionPassedTheOffset(t *testing.T) {
	onBoth(t, func(t *testing.T, b *broker) {
		in, out := b.name("in"), b.name("out")
		b.topic(in, 1)
		b.topic(out, 1)
		b.produce(in, 0, 0, 10)
		plug := b.plug()
		mem := cluster.NewMemory()
		p := mini(t, mem, copyTopics(b.on(plug), in, out, kafka.ExactlyOnce()))
		b.once(out, 1, 10)
		mem = p.kill(plug, 100)
		b.produce(in, 0, 10, 30)
		offsets := kadm.Offsets{}
		offsets.AddOffset(in, 0, 20, -1)
		if _, err := kadm.NewClient(b.cl).DeleteRecords(t.Context(), offsets); err != nil {
			t.Fatal(err)
		}
		p = mini(t, mem, copyTopics(b, in, out, kafka.ExactlyOnce()))
		if err := p.failed(); !strings.Contains(err, in+"-0: offset 10") || !strings.Contains(err, "20 to 30") {
			t.Errorf("got %v", err)
		}
		b.visible(out, 10)
	})
}

// TestPartitionsAdded (D12): new partitions are found and read from their first record.
func TestPartitionsAdded(t *testing.T) {
	onFake(t, func(t *testing.T, b *broker) {
		b.topic("in", 1)
		b.topic("out", 1)
		b.produce("in", 0, 0, 100)
		build := func(b *broker) func(*stream.Env) error {
			return func(env *stream.Env) error {
				in := stream.From(env, kafka.Source(kafka.String(), b.source(kafka.Topic("in"), kafka.StartFrom(kafka.Earliest()), kafka.DiscoverPartitions(5*time.Second))...), event.NoWatermarks[string](), stream.UID("in"))
				stream.To(in, kafka.Sink(kafka.String(), b.sink(kafka.Topic("out"), kafka.ExactlyOnce())...), stream.UID("out"))
				return nil
			}
		}
		plug := b.plug()
		p := mini(t, cluster.NewMemory(), build(b.on(plug)), "parallelism.default", "2")
		b.once("out", 1, 100)
		if _, err := kadm.NewClient(b.cl).CreatePartitions(t.Context(), 2, "in"); err != nil {
			t.Fatal(err)
		}
		before := time.Now()
		other := b.client()
		for i := range 2 {
			for n := range 100 {
				if err := other.ProduceSync(t.Context(), &kgo.Record{Topic: "in", Partition: int32(i + 1), Value: fmt.Appendf(nil, "%d:%d", i+1, n)}).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}
		}
		b.once("out", 3, 100)
		if took := time.Since(before); took > 7*time.Second {
			t.Errorf("they were found after %v", took)
		}
		mem := p.kill(plug, 0)
		mini(t, mem, build(b))
		pass(10 * time.Second)
		b.once("out", 3, 100)
	})
}

// TestThrottled (D15): a quota makes the job slower, and nothing else.
func TestThrottled(t *testing.T) {
	t.Parallel()
	b := newReal(t, realkafka.Shared(t))
	in, out := b.name("in"), b.name("out")
	b.topic(in, 1)
	b.topic(out, 1)
	b.produce(in, 0, 0, 2000)
	id := b.name("throttled")
	quota := func(remove bool) {
		var ops []kadm.AlterClientQuotaOp
		for _, key := range []string{"producer_byte_rate", "consumer_byte_rate"} {
			ops = append(ops, kadm.AlterClientQuotaOp{Key: key, Value: 20_000, Remove: remove})
		}
		if _, err := kadm.NewClient(b.cl).AlterClientQuotas(t.Context(), []kadm.AlterClientQuotaEntry{{Entity: kadm.ClientQuotaEntity{{Type: "client-id", Name: &id}}, Ops: ops}}); err != nil {
			t.Fatal(err)
		}
	}
	quota(false)
	b.auth = []kafka.Option{kafka.Property("client.id", id)}
	p := mini(t, cluster.NewMemory(), copyTopics(b, in, out, kafka.ExactlyOnce()), "execution.checkpointing.interval", "300 ms")
	b.once(out, 1, 2000)
	b.produce(in, 0, 2000, 4000)
	b.once(out, 1, 4000)
	if n := p.metric("numRestarts"); n != 0 {
		t.Errorf("%v restarts", n)
	}
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
}

// copyTopics copies one topic to another.
func copyTopics(b *broker, from, to string, opts ...kafka.SinkOption) func(*stream.Env) error {
	return func(env *stream.Env) error {
		in := stream.From(env, kafka.Source(kafka.String(), b.source(kafka.Topic(from))...), event.NoWatermarks[string](), stream.UID("in"))
		stream.To(in, kafka.Sink(kafka.String(), b.sink(append(opts, kafka.Topic(to))...)...), stream.UID("out"))
		return nil
	}
}
