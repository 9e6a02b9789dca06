package kafka_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/connector/kafka"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/test/realkafka"
)

// The rules of exactly once into Kafka, each with its test. Those that are marked * run on kfake only, because only it can be made to answer so.
//
//	rule                                                                        test
//	a prepared transaction is committed by id, producer and epoch, by anyone    TestCommitByAnyone
//	a second commit changes nothing                                             TestCommitByAnyone
//	the same on brokers that do not raise epochs (transaction version 1)        TestCommitByAnyoneVersion1
//	a commit whose request is lost is asked again, never aborted                TestCommitRequestLost
//	a commit whose answer is lost is asked again                                TestCommitAnswerLost
//	a flush that succeeds says nothing: every record's promise counts           TestEveryPromiseCounts
//	nothing written, nothing to commit                                          TestEmptyTransaction
//	an id is used again only when its commit is recorded                        TestIDsWaitForTheLedger
//	a later checkpoint holds what is not committed yet (savepoints, late ones)  TestLaterCheckpointHoldsTheOlder
//	the transaction timeout is checked when the job starts                      TestTimeoutTooLong
//	a transaction survives an outage shorter than its timeout *                 TestOutage
//	aborted by its timeout: all lost is ErrAborted, and N-1 is exact            TestAbortedByTimeout
//	some lost, some committed: the job stops                                    TestLostAndCommitted
//	unknown to the broker: the ledger decides                                   TestIDUsedAgain
//	DescribeTransactions decides, not the error code *                          TestFateByDescription
//	commit the restored, then abort every other, then fence                     TestRecoverOrder
//	another sink's transactions are left alone                                  TestRecoverOrder
//	a zombie writes nothing that is seen                                        TestZombie
//	a dead process's request that comes late is refused *                       TestLateRequest
//	a rival on the same id fails the job, which names it                        TestRival
//	CONCURRENT_TRANSACTIONS is waited for *                                     TestConcurrentTransactions
//	the coordinator moves during a commit *                                     TestCoordinatorMoves
//	the broker is killed between prepare and commit                             TestBrokerKilledBetweenPrepareAndCommit
//	the broker is upgraded between prepare and commit *                        TestUpgradeBetween
//	rescaled, up and down: all committed, none left open                        TestRecoverRescaled
//	closing a writer leaves what is prepared, and aborts what is not            TestClose

// testWriter is a writer under test.
type testWriter struct {
	connector.Writer[string]
	t *testing.T
	// failed is what it failed the task with.
	failed chan error
}

// newSink returns an exactly-once sink.
func (b *broker) newSink(topic, prefix string, opts ...kafka.SinkOption) connector.Sink[string] {
	return kafka.Sink(kafka.String(), b.sink(append([]kafka.SinkOption{kafka.Topic(topic), kafka.ExactlyOnce(), kafka.TransactionalIDPrefix(prefix)}, opts...)...)...)
}

func open(t *testing.T, s connector.Sink[string], subtask, parallelism int) *testWriter {
	t.Helper()
	failed := make(chan error, 1)
	w, err := s.NewWriter(connector.WriterContext{
		Context: t.Context(), Job: "job", JobID: "id", Operator: "out", Subtask: subtask, Parallelism: parallelism, BufferBytes: 1 << 20, Logger: logger(t),
		Fail: func(err error) {
			select {
			case failed <- err:
			default: // the first one counts
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return &testWriter{Writer: w, t: t, failed: failed}
}

// write writes values p:from..to-1.
func (w *testWriter) write(p, from, to int) {
	w.t.Helper()
	for i := from; i < to; i++ {
		if err := w.Write(fmt.Sprintf("%d:%d", p, i), event.None); err != nil {
			w.t.Fatal(err)
		}
	}
}

// prepare ends the first phase of a checkpoint.
func (w *testWriter) prepare(checkpoint int64) [][]byte {
	w.t.Helper()
	if err := w.Flush(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	c, err := w.Prepare(w.t.Context(), checkpoint)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func recoverSink(t *testing.T, s connector.Sink[string], parallelism int, r connector.Recovery) error {
	t.Helper()
	c, err := s.NewCommitter(connector.CommitterContext{Job: "job", JobID: "id", Operator: "out", Parallelism: parallelism, Logger: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.Recover(t.Context(), r)
}

// ongoing lists the open transactions whose ids begin with a prefix.
func (b *broker) ongoing(prefix string) (ids []string) {
	b.t.Helper()
	l, err := kadm.NewClient(b.cl).ListTransactions(b.t.Context(), nil, []string{"Ongoing"})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, id := range l.TransactionalIDs() {
		if strings.HasPrefix(id, prefix) {
			ids = append(ids, id)
		}
	}
	return ids
}

// visible checks how many records readers of committed data see.
func (b *broker) visible(topic string, want int) {
	b.t.Helper()
	b.await(topic, want)
	if n := len(b.read(topic, true)); n != want {
		b.t.Errorf("%d records are visible, want %d", n, want)
	}
}

// setup makes a topic and a prefix.
func (b *broker) setup() (topic, prefix string) {
	b.t.Helper()
	topic, prefix = b.name("out"), b.name("tx")
	b.topic(topic, 2)
	return topic, prefix
}

func commitByAnyone(t *testing.T, b *broker) {
	topic, prefix := b.setup()
	s := b.newSink(topic, prefix)
	w := open(t, s, 0, 1)
	w.write(0, 0, 50)
	c := w.prepare(1)
	state := w.SinkState()
	if len(c) != 1 {
		t.Fatalf("%d committables", len(c))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	b.visible(topic, 0)
	for range 2 { // the second time as after a crash before the ledger was written
		if err := recoverSink(t, b.newSink(topic, b.name("other")), 1, connector.Recovery{Checkpoint: 1, Committables: c, Sink: state}); err != nil {
			t.Fatal(err)
		}
		b.visible(topic, 50)
	}
	if open := b.ongoing(prefix); len(open) > 0 {
		t.Errorf("still open: %v", open)
	}
}

func TestCommitByAnyone(t *testing.T) { onBoth(t, commitByAnyone) }

func TestCommitByAnyoneVersion1(t *testing.T) {
	t.Run("kfake", func(t *testing.T) { onFake(t, commitByAnyone, kfake.MaxVersions(kversion.V3_6_0())) })
}

// cutter is a dialer that loses a request, or its answer.
type cutter struct {
	dial func(ctx context.Context, network, host string) (net.Conn, error)
	key  int16
	// answer: the request is sent, and its answer lost; else the request is lost.
	answer bool
	left   atomic.Int32 // how many
}

func (b *broker) cutter(key int16, answer bool, times int32) *cutter {
	dial := b.dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	c := &cutter{dial: dial, key: key, answer: answer}
	c.left.Store(times)
	return c
}

func (c *cutter) DialContext(ctx context.Context, network, host string) (net.Conn, error) {
	conn, err := c.dial(ctx, network, host)
	return &cutConn{Conn: conn, c: c}, err
}

type cutConn struct {
	net.Conn
	c   *cutter
	cut atomic.Bool
}

func (c *cutConn) Write(b []byte) (int, error) {
	if len(b) > 6 && int16(binary.BigEndian.Uint16(b[4:])) == c.c.key && c.c.left.Add(-1) >= 0 {
		if !c.c.answer {
			_ = c.Close()
			return 0, net.ErrClosed
		}
		c.cut.Store(true)
	}
	return c.Conn.Write(b)
}

func (c *cutConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && c.cut.Load() {
		_ = c.Close()
		return 0, net.ErrClosed
	}
	return n, err
}

func commitCut(t *testing.T, b *broker, answer bool) {
	topic, prefix := b.setup()
	cut := b.cutter(26, answer, 3)
	s := b.newSink(topic, prefix, kafka.Dialer(cut.DialContext))
	w := open(t, s, 0, 1)
	w.write(0, 0, 50)
	w.prepare(1)
	if err := w.Commit(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if n := cut.left.Load(); n >= 0 {
		t.Errorf("%d of 3 were not cut", n)
	}
	b.visible(topic, 50)
	w.Recorded(1)
	w.write(0, 50, 60)
	w.prepare(2)
	if err := w.Commit(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	b.once(topic, 1, 60)
}

func TestCommitRequestLost(t *testing.T) {
	onBoth(t, func(t *testing.T, b *broker) { commitCut(t, b, false) })
	t.Run("version 1", func(t *testing.T) {
		onFake(t, func(t *testing.T, b *broker) { commitCut(t, b, false) }, kfake.MaxVersions(kversion.V3_6_0()))
	})
}

func TestCommitAnswerLost(t *testing.T) {
	onBoth(t, func(t *testing.T, b *broker) { commitCut(t, b, true) })
	t.Run("version 1", func(t *testing.T) {
		onFake(t, func(t *testing.T, b *broker) { commitCut(t, b, true) }, kfake.MaxVersions(kversion.V3_6_0()))
	})
}

func TestEveryPromiseCounts(t *testing.T) {
	onBoth(t, func(t *testing.T, b *broker) {
		topic, prefix := b.name("out"), b.name("tx")
		b.topic(topic, 1, "max.message.bytes", "1000")
		w := open(t, b.newSink(topic, prefix), 0, 1)
		w.write(0, 0, 1)
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := w.Write(strings.Repeat("x", 5000), event.None); err != nil {
			t.Fatal(err)
		}
		err := w.Flush(t.Context())
		if !errors.Is(err, kerr.MessageTooLarge) || base.ClassOf(err) != base.ClassPermanent || !strings.Contains(err.Error(), topic) {
			t.Errorf("flush: %v", err)
		}
		if err := <-w.failed; !errors.Is(err, kerr.MessageTooLarge) {
			t.Errorf("the task failed with %v", err)
		}
		if err := w.Write("more", event.None); err == nil {
			t.Error("a failed writer takes more")
		}
		_ = w.Close()
		b.visible(topic, 0)
	})
}

func TestEmptyTransaction(t *testing.T) {
	f := func(t *testing.T, b *broker) {
		topic, prefix := b.setup()
		w := open(t, b.newSink(topic, prefix), 0, 1)
		for n := range int64(3) {
			if c := w.prepare(n + 1); len(c) > 0 {
				t.Errorf("checkpoint %d: %d committables", n+1, len(c))
			}
			if err := w.Commit(t.Context(), n+1); err != nil {
				t.Fatal(err)
			}
		}
		w.write(0, 0, 5)
		c := w.prepare(4)
		if err := w.Commit(t.Context(), 4); err != nil {
			t.Fatal(err)
		}
		if id := kafka.TransactionID(c[0]); !strings.HasSuffix(id, "-0-0") {
			t.Errorf("the first transaction is %q", id)
		}
		b.visible(topic, 5)
	}
	onBoth(t, f)
	t.Run("version 1", func(t *testing.T) { onFake(t, f, kfake.MaxVersions(kversion.V3_6_0())) })
}

// TestClientThatForgot: a client whose table of topics is empty takes a transaction for one without records, and says that its commit succeeded. That is so for a moment after
// the first records of a topic, and the commit must not be lost then.
func TestClientThatForgot(t *testing.T) {
	f := func(t *testing.T, b *broker) {
		topic, prefix := b.setup()
		w := open(t, b.newSink(topic, prefix), 0, 1)
		for n := range int64(2) {
			w.write(0, int(n)*5, int(n)*5+5)
			w.prepare(n + 1)
			kafka.Forget(w.Writer)
			if err := w.Commit(t.Context(), n+1); err != nil {
				t.Fatal(err)
			}
			w.Recorded(n + 1)
		}
		b.once(topic, 1, 10)
	}
	onBoth(t, f)
	t.Run("version 1", func(t *testing.T) { onFake(t, f, kfake.MaxVersions(kversion.V3_6_0())) })
}

func TestIDsWaitForTheLedger(t *testing.T) {
	f := func(t *testing.T, b *broker) {
		topic, prefix := b.setup()
		w := open(t, b.newSink(topic, prefix), 0, 1)
		seen := map[string]int64{}
		for n := int64(1); n <= 9; n++ {
			w.write(0, int(n-1)*10, int(n)*10)
			id := kafka.TransactionID(w.prepare(n)[0])
			if last := seen[id]; last != 0 && last > n-3 {
				t.Errorf("checkpoint %d uses %q, which was used for %d and is not recorded", n, id, last)
			}
			seen[id] = n
			if err := w.Commit(t.Context(), n); err != nil {
				t.Fatal(err)
			}
			w.Recorded(n - 2) // two behind
		}
		if len(seen) != 3 {
			t.Errorf("%d ids were used, want 3: %v", len(seen), seen)
		}
		b.once(topic, 1, 90)
	}
	onBoth(t, f)
	t.Run("version 1", func(t *testing.T) { onFake(t, f, kfake.MaxVersions(kversion.V3_6_0())) })
}

func TestLaterCheckpointHoldsTheOlder(t *testing.T) {
	onBoth(t, func(t *testing.T, b *broker) {
		topic, prefix := b.setup()
		s := b.newSink(topic, prefix)
		w := open(t, s, 0, 1)
		w.write(0, 0, 10)
		w.prepare(1) // a savepoint: nothing is committed
		w.write(0, 10, 20)
		c := w.prepare(2)
		if len(c) != 2 {
			t.Fatalf("checkpoint 2 holds %d committables, want 2", len(c))
		}
		state := w.SinkState()
		w.write(0, 20, 30) // of checkpoint 3, which never is
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := recoverSink(t, s, 1, connector.Recovery{Checkpoint: 2, Committables: c, Sink: state}); err != nil {
			t.Fatal(err)
		}
		b.once(topic, 1, 20)
	})
}

func TestTimeoutTooLong(t *testing.T) {
	onBoth(t, func(t *testing.T, b *broker) {
		topic, prefix := b.setup()
		err := recoverSink(t, b.newSink(topic, prefix, kafka.TransactionTimeout(time.Hour)), 1, connector.Recovery{})
		if base.ClassOf(err) != base.ClassPermanent || !strings.Contains(err.Error(), "transaction.max.timeout.ms") {
			t.Errorf("got %v", err)
		}
		if err := recoverSink(t, b.newSink(topic, prefix), 1, connector.Recovery{}); err != nil {
			t.Errorf("the default of 15 minutes: %v", err)
		}
	})
}

func TestOutage(t *testing.T) {
	for outage, lost := range map[time.Duration]bool{14 * time.Minute: false, 16 * time.Minute: true} {
		t.Run(outage.String(), func(t *testing.T) {
			onFake(t, func(t *testing.T, b *broker) {
				topic, prefix := b.setup()
				s := b.newSink(topic, prefix)
				w := open(t, s, 0, 1)
				w.write(0, 0, 50)
				c, state := w.prepare(1), w.SinkState()
				_ = w.Close()
				pass(outage)
				err := recoverSink(t, s, 1, connector.Recovery{Checkpoint: 1, Committables: c, Sink: state})
				switch {
				case lost && !errors.Is(err, connector.ErrAborted):
					t.Errorf("got %v", err)
				case !lost && err != nil:
					t.Error(err)
				case !lost:
					b.visible(topic, 50)
				}
			})
		})
	}
}

// expire waits until the broker has aborted a transaction for its timeout.
func (b *broker) expire(prefix string) {
	b.t.Helper()
	wait(b.t, "timeout", func() bool { return len(b.ongoing(prefix)) == 0 })
}

func TestAbortedByTimeout(t *testing.T) {
	onBoth(t, func(t *testing.T, b *broker) {
		topic, prefix := b.setup()
		s := b.newSink(topic, prefix, kafka.TransactionTimeout(time.Second))
		w, w2 := open(t, s, 0, 2), open(t, s, 1, 2)
		w.write(0, 0, 50)
		w2.write(1, 0, 50)
		c, state := append(w.prepare(2), w2.prepare(2)...), w.SinkState()
		b.expire(prefix)
		err := recoverSink(t, s, 2, connector.Recovery{Checkpoint: 2, Committed: 1, Committables: c, Sink: state})
		if !errors.Is(err, connector.ErrAborted) || !strings.Contains(err.Error(), prefix) {
			t.Fatalf("got %v", err)
		}
		// The checkpoint before it.
		if err := recoverSink(t, s, 2, connector.Recovery{Checkpoint: 1, Committed: 1, Sink: state}); err != nil {
			t.Fatal(err)
		}
		// The writer, when it comes to commit, finds the same.
		if err := w.Commit(t.Context(), 2); err == nil {
			t.Error("the commit of an aborted transaction succeeded")
		}
		b.visible(topic, 0)
	})
}

func TestOpenTransactionTimesOut(t *testing.T) {
	onBoth(t, func(t *testing.T, b *broker) {
		topic, prefix := b.setup()
		w := open(t, b.newSink(topic, prefix, kafka.TransactionTimeout(time.Second)), 0, 1)
		w.write(0, 0, 50)
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.expire(prefix)
		w.write(0, 50, 60)
		err := w.Flush(t.Context())
		if err == nil || base.ClassOf(err) != base.ClassRestart || !strings.Contains(err.Error(), "TransactionTimeout") {
			t.Errorf("got %v (class %v), want one that restarts the job", err, base.ClassOf(err))
		}
	})
}

func TestLostAndCommitted(t *testing.T) {
	onBoth(t, func(t *testing.T, b *broker) {
		topic, prefix := b.setup()
		s := b.newSink(topic, prefix, kafka.TransactionTimeout(time.Second))
		w, w2 := open(t, s, 0, 2), open(t, s, 1, 2)
		w.write(0, 0, 50)
		w2.write(1, 0, 50)
		c, state := append(w.prepare(2), w2.prepare(2)...), w.SinkState()
		if err := w.Commit(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		b.expire(prefix)
		err := recoverSink(t, s, 2, connector.Recovery{Checkpoint: 2, Committed: 1, Committables: c, Sink: state})
		if errors.Is(err, connector.ErrAborted) || base.ClassOf(err) != base.ClassPermanent || !strings.Contains(err.Error(), "sink_lost_transactions") {
			t.Fatalf("got %v", err)
		}
	})
}

func TestIDUsedAgain(t *testing.T) {
	onBoth(t, func(t *testing.T, b *broker) {
		topic, prefix := b.setup()
		s := b.newSink(topic, prefix)
		w := open(t, s, 0, 1)
		w.write(0, 0, 50)
		c, state := w.prepare(5), w.SinkState()
		if err := w.Commit(t.Context(), 5); err != nil {
			t.Fatal(err)
		}
		w.Recorded(5)
		w.write(0, 50, 60) // under the same id
		if id := kafka.TransactionID(w.prepare(6)[0]); id != kafka.TransactionID(c[0]) {
			t.Fatalf("the next transaction is %q", id)
		}
		if err := w.Commit(t.Context(), 6); err != nil {
			t.Fatal(err)
		}
		_ = w.Close()
		for _, r := range []struct {
			committed int64
			ok        bool
		}{{5, true}, {4, false}, {0, true}} {
			err := recoverSink(t, s, 1, connector.Recovery{Checkpoint: 5, Committed: r.committed, Committables: c, Sink: state})
			if (err == nil) != r.ok || err != nil && base.ClassOf(err) != base.ClassPermanent {
				t.Errorf("ledger %d: %v", r.committed, err)
			}
		}
		b.once(topic, 1, 60)
	})
}

// answers has kfake answer requests of a key by f until f returns nil.
func (b *broker) answers(key int16, f func(kmsg.Request) kmsg.Response) {
	b.fake.ControlKey(key, func(req kmsg.Request) (kmsg.Response, error, bool) {
		resp := f(req)
		if resp != nil {
			b.fake.KeepControl()
		}
		return resp, nil, resp != nil
	})
}

func TestFateByDescription(t *testing.T) {
	for _, c := range []struct {
		name, state string
		epoch       int16 // less the committable's
		code        *kerr.Error
		want        string // "": recovered
	}{
		{"committed, version 1", "CompleteCommit", 0, nil, ""},
		{"committed, version 2", "CompleteCommit", 1, nil, ""},
		{"committed long ago", "CompleteCommit", 7, nil, "sink_lost_transactions"},
		{"aborted, version 1", "CompleteAbort", 0, nil, "aborted"},
		{"aborted, version 2", "CompleteAbort", 1, nil, "aborted"},
		{"another one is open", "Ongoing", 2, nil, "sink_lost_transactions"},
		{"expired", "", 0, kerr.TransactionalIDNotFound, "sink_lost_transactions"},
	} {
		t.Run(c.name, func(t *testing.T) {
			onFake(t, func(t *testing.T, b *broker) {
				topic, prefix := b.setup()
				s := b.newSink(topic, prefix)
				w := open(t, s, 0, 1)
				w.write(0, 0, 50)
				prepared, state := w.prepare(5), w.SinkState()
				pid, epoch := int64(0), int16(0)
				d, err := kadm.NewClient(b.cl).DescribeTransactions(t.Context(), kafka.TransactionID(prepared[0]))
				if err != nil {
					t.Fatal(err)
				}
				for _, x := range d {
					pid, epoch = x.ProducerID, x.ProducerEpoch
				}
				asked := 0
				b.answers(65, func(req kmsg.Request) kmsg.Response {
					asked++
					resp := req.ResponseKind().(*kmsg.DescribeTransactionsResponse)
					st := kmsg.NewDescribeTransactionsResponseTransactionState()
					st.TransactionalID, st.State, st.ProducerID, st.ProducerEpoch = kafka.TransactionID(prepared[0]), c.state, pid, epoch+c.epoch
					if asked < 3 && c.code == nil && c.epoch < 2 {
						st.State = "PrepareCommit" // and it is asked again
					}
					if c.code != nil {
						st.ErrorCode = c.code.Code
					}
					resp.TransactionStates = append(resp.TransactionStates, st)
					return resp
				})
				err = recoverSink(t, s, 1, connector.Recovery{Checkpoint: 5, Committed: 4, Committables: prepared, Sink: state})
				switch {
				case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
					t.Errorf("got %v, want %q", err, c.want)
				case (c.want == "aborted") != errors.Is(err, connector.ErrAborted):
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

func recoverOrder(t *testing.T, b *broker) {
	topic, prefix := b.setup()
	s := b.newSink(topic, prefix)
	other := open(t, b.newSink(topic, prefix+"x"), 0, 1)
	other.write(9, 0, 1)
	if err := other.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := open(t, s, 0, 1)
	w.write(0, 0, 50)
	c, state := w.prepare(1), w.SinkState()
	w.write(0, 50, 60)
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(b.ongoing(prefix + "-")); n != 2 {
		t.Fatalf("%d transactions are open", n)
	}
	if err := recoverSink(t, s, 1, connector.Recovery{Checkpoint: 1, Committables: c, Sink: state}); err != nil {
		t.Fatal(err)
	}
	if open := b.ongoing(prefix + "-"); len(open) > 0 {
		t.Errorf("still open: %v", open)
	}
	if open := b.ongoing(prefix + "x-"); len(open) != 1 {
		t.Errorf("of the other sink are open: %v", open)
	}
	if err := other.Close(); err != nil { // which aborts it
		t.Fatal(err)
	}
	b.once(topic, 1, 50)
}

func TestRecoverOrder(t *testing.T) {
	onBoth(t, recoverOrder)
	t.Run("version 1", func(t *testing.T) { onFake(t, recoverOrder, kfake.MaxVersions(kversion.V3_6_0())) })
}

func zombie(t *testing.T, b *broker) {
	topic, prefix := b.setup()
	s := b.newSink(topic, prefix)
	old := open(t, s, 0, 1)
	old.write(0, 0, 10)
	old.prepare(1) // which does not become complete
	old.write(0, 10, 20)
	if err := old.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	state := old.SinkState()
	if err := recoverSink(t, s, 1, connector.Recovery{Sink: state}); err != nil {
		t.Fatal(err)
	}
	w := open(t, s, 0, 1)
	w.write(1, 0, 30)
	w.prepare(1)
	// The old one wakes up, and has heard nothing.
	for range 10 {
		if err := old.Write("zombie", event.None); err != nil {
			break
		}
	}
	if err := old.Flush(t.Context()); err == nil || !strings.Contains(err.Error(), prefix) {
		t.Errorf("the zombie's flush: %v", err)
	}
	if err := old.Commit(t.Context(), 1); err == nil {
		t.Error("the zombie's commit succeeded")
	}
	if err := w.Commit(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	m := values(b.read(topic, true))
	if len(m) != 30 || m["1:0"] != 1 {
		t.Errorf("visible: %v", m)
	}
}

func TestZombie(t *testing.T) {
	onBoth(t, zombie)
	t.Run("version 1", func(t *testing.T) { onFake(t, zombie, kfake.MaxVersions(kversion.V3_6_0())) })
}

// TestZombieElsewhere: a run is paused between two transactions, and its checkpoint is restored under another prefix. What it writes when it wakes up never becomes visible,
// although it takes an id that the new run has fenced already, or never knew.
func TestZombieElsewhere(t *testing.T) {
	f := func(t *testing.T, b *broker) {
		topic, prefix := b.setup()
		s := b.newSink(topic, prefix)
		committer, err := s.NewCommitter(connector.CommitterContext{Job: "job", JobID: "id", Operator: "out", Parallelism: 1, Logger: logger(t)})
		if err != nil {
			t.Fatal(err)
		}
		defer committer.Close()
		for range 2 { // a restart is no other run
			if err := committer.Recover(t.Context(), connector.Recovery{}); err != nil {
				t.Fatal(err)
			}
		}
		old := open(t, s, 0, 1)
		old.write(0, 0, 10)
		r := connector.Recovery{Checkpoint: 1, Committables: old.prepare(1), Sink: old.SinkState()}
		there := b.newSink(topic, b.name("there"))
		if err := recoverSink(t, there, 2, r); err != nil {
			t.Fatal(err)
		}
		w := open(t, there, 1, 2)
		w.write(0, 10, 30)
		w.prepare(2)
		if err := w.Commit(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		// It wakes up. What it had prepared is committed already.
		if err := old.Commit(t.Context(), 1); err != nil {
			t.Error(err)
		}
		fenced := func(what string, err error) {
			if err == nil || !strings.Contains(err.Error(), "restored elsewhere") || !strings.Contains(err.Error(), prefix) {
				t.Errorf("%s: %v", what, err)
			}
		}
		fenced("write", old.Write("zombie", event.None))
		fenced("restart", committer.Recover(t.Context(), r))
		if b.fake == nil { // kfake leaves a timeout as it was first
			fenced("a process that starts on the old data directory", recoverSink(t, s, 1, r))
		}
		b.once(topic, 1, 30)
	}
	onBoth(t, f)
	t.Run("version 1", func(t *testing.T) { onFake(t, f, kfake.MaxVersions(kversion.V3_6_0())) })
}

// TestLateRequest: a process is killed with its first record of a new transaction on the way. When the broker gets it, its id is fenced, although nobody knew of it.
// (kfake refuses the record and opens the transaction all the same, which Kafka does not: what is checked is the fence.)
func TestLateRequest(t *testing.T) {
	onFake(t, func(t *testing.T, b *broker) {
		topic, prefix := b.setup()
		s := b.newSink(topic, prefix)
		old := open(t, s, 0, 1)
		old.write(0, 0, 10)
		c, state := old.prepare(1), old.SinkState()
		held := make(chan struct{})
		b.fake.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
			b.fake.SleepControl(func() { <-held })
			return nil, nil, false
		})
		old.write(0, 10, 20)
		pass(time.Second)
		if open := b.ongoing(prefix); len(open) != 1 {
			t.Errorf("open are %v", open)
		}
		if err := recoverSink(t, s, 1, connector.Recovery{Checkpoint: 1, Committables: c, Sink: state}); err != nil {
			t.Fatal(err)
		}
		close(held)
		if err := old.Flush(t.Context()); !errors.Is(err, kerr.InvalidProducerEpoch) {
			t.Errorf("the late record: %v", err)
		}
	})
}

func TestRival(t *testing.T) {
	onBoth(t, func(t *testing.T, b *broker) {
		topic, prefix := b.setup()
		w := open(t, b.newSink(topic, prefix), 0, 1)
		w.write(0, 0, 10)
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		id := b.ongoing(prefix)[0]
		rival := b.client(kgo.TransactionalID(id))
		if _, _, err := rival.ProducerID(t.Context()); err != nil {
			t.Fatal(err)
		}
		var err error
		for i := 10; i < 20 && err == nil; i++ { // a write tells that one before it was refused, if that is known by then
			err = w.Write(fmt.Sprintf("0:%d", i), event.None)
		}
		if err == nil {
			err = w.Flush(t.Context())
		}
		if base.ClassOf(err) != base.ClassPermanent || !strings.Contains(err.Error(), "fenced") || !strings.Contains(err.Error(), id) {
			t.Errorf("got %v", err)
		}
		b.visible(topic, 0)
	})
}

func TestConcurrentTransactions(t *testing.T) {
	onFake(t, func(t *testing.T, b *broker) {
		topic, prefix := b.setup()
		w := open(t, b.newSink(topic, prefix), 0, 1)
		w.write(0, 0, 50)
		w.prepare(1)
		until := time.Now().Add(20 * time.Second)
		b.answers(26, func(req kmsg.Request) kmsg.Response {
			if time.Now().After(until) {
				return nil
			}
			resp := req.ResponseKind().(*kmsg.EndTxnResponse)
			resp.ErrorCode = kerr.ConcurrentTransactions.Code
			return resp
		})
		if err := w.Commit(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if time.Now().Before(until) {
			t.Error("it was committed before")
		}
		b.visible(topic, 50)
	})
}

func TestCoordinatorMoves(t *testing.T) {
	onFake(t, func(t *testing.T, b *broker) {
		topic, prefix := b.setup()
		s := b.newSink(topic, prefix)
		for n := int64(1); n <= 10; n++ {
			w := open(t, s, 0, 1)
			w.write(0, int(n-1)*10, int(n)*10)
			c, state := w.prepare(n), w.SinkState()
			b.fake.RehashCoordinators()
			b.fake.ShufflePartitionLeaders()
			if n%2 == 0 {
				if err := w.Commit(t.Context(), n); err != nil {
					t.Fatal(err)
				}
			}
			_ = w.Close()
			if err := recoverSink(t, s, 1, connector.Recovery{Checkpoint: n, Committed: n - 1, Committables: c, Sink: state}); err != nil {
				t.Fatal(err)
			}
		}
		b.once(topic, 1, 100)
	}, kfake.NumBrokers(3), kfake.Ports(9092, 9093, 9094))
}

func TestBrokerKilledBetweenPrepareAndCommit(t *testing.T) {
	check := func(t *testing.T, b *broker, restart func()) {
		topic, prefix := b.setup()
		s := b.newSink(topic, prefix)
		w, gone := open(t, s, 0, 2), open(t, s, 1, 2)
		w.write(0, 0, 50)
		gone.write(1, 0, 50)
		w.prepare(1)
		c, state := gone.prepare(1), gone.SinkState()
		_ = gone.Close()
		restart()
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := w.Commit(t.Context(), 1); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		if err := recoverSink(t, s, 2, connector.Recovery{Checkpoint: 1, Committables: c, Sink: state}); err != nil {
			t.Fatal(err)
		}
		b.once(topic, 2, 50)
	}
	t.Run("kafka", func(t *testing.T) {
		k := realkafka.Shared(t)
		check(t, newReal(t, k), func() {
			k.Kill(t)
			k.Restart(t)
		})
	})
	t.Run("kfake", func(t *testing.T) {
		dir := t.TempDir()
		port := freePort(t)
		start := func() *kfake.Cluster {
			c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port), kfake.DataDir(dir), kfake.SyncWrites())
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		c := start()
		b := &broker{t: t, fake: c, addr: c.ListenAddrs(), topics: new([]string)}
		b.cl = b.client()
		check(t, b, func() {
			b.fake.Close()
			b.fake = start()
		})
		b.fake.Close()
	})
}

// TestUpgradeBetween (D18): prepared on a broker that does not raise epochs, committed on one that does.
func TestUpgradeBetween(t *testing.T) {
	dir, port := t.TempDir(), freePort(t)
	start := func(opts ...kfake.Opt) *broker {
		c, err := kfake.NewCluster(append(opts, kfake.NumBrokers(1), kfake.Ports(port), kfake.DataDir(dir), kfake.SyncWrites())...)
		if err != nil {
			t.Fatal(err)
		}
		b := &broker{t: t, fake: c, addr: c.ListenAddrs(), topics: new([]string)}
		b.cl = b.client()
		return b
	}
	b := start(kfake.MaxVersions(kversion.V3_6_0()))
	topic, prefix := b.setup()
	w := open(t, b.newSink(topic, prefix), 0, 1)
	w.write(0, 0, 50)
	c, state := w.prepare(1), w.SinkState()
	_ = w.Close()
	b.fake.Close()
	b = start()
	defer b.fake.Close()
	s := b.newSink(topic, prefix)
	for range 2 {
		if err := recoverSink(t, s, 1, connector.Recovery{Checkpoint: 1, Committables: c, Sink: state}); err != nil {
			t.Fatal(err)
		}
		b.visible(topic, 50)
	}
	w = open(t, s, 0, 1)
	w.write(0, 50, 60)
	w.prepare(2)
	if err := w.Commit(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	b.once(topic, 1, 60)
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func TestRecoverRescaled(t *testing.T) {
	onBoth(t, func(t *testing.T, b *broker) {
		topic, prefix := b.setup()
		s := b.newSink(topic, prefix)
		steps := []int{1, 2, 3, 5, 6, 5, 2, 5, 3, 2, 1}
		var committables [][]byte
		var state []byte
		total := 0
		for n, par := range steps {
			checkpoint := int64(n + 1)
			if err := recoverSink(t, s, par, connector.Recovery{Checkpoint: checkpoint - 1, Committables: committables, Sink: state}); err != nil {
				t.Fatal(err)
			}
			if open := b.ongoing(prefix); len(open) > 0 {
				t.Fatalf("to %d: still open: %v", par, open)
			}
			committables = nil
			var ws []*testWriter
			for sub := range par {
				w := open(t, s, sub, par)
				ws = append(ws, w)
				w.write(0, total, total+3)
				total += 3
				committables = append(committables, w.prepare(checkpoint)...)
				state = w.SinkState()
				w.write(8, 0, 2) // of the next checkpoint, which never is
				if err := w.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if n%3 == 2 { // crashed after its commit, but before the ledger
				for _, w := range ws {
					if err := w.Commit(t.Context(), checkpoint); err != nil {
						t.Fatal(err)
					}
				}
			}
			slices.Reverse(committables)
		}
		if err := recoverSink(t, s, 1, connector.Recovery{Checkpoint: int64(len(steps)), Committables: committables, Sink: state}); err != nil {
			t.Fatal(err)
		}
		b.once(topic, 1, total)
	})
}

func TestClose(t *testing.T) {
	onBoth(t, func(t *testing.T, b *broker) {
		topic, prefix := b.setup()
		w := open(t, b.newSink(topic, prefix), 0, 1)
		w.write(0, 0, 10)
		prepared := kafka.TransactionID(w.prepare(1)[0])
		w.write(0, 10, 20)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if open := b.ongoing(prefix); !slices.Equal(open, []string{prepared}) {
			t.Errorf("open are %v, want %q alone", open, prepared)
		}
	})
}
