package kafka_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/connector/kafka"
	"github.com/rivulet-io/rivulet/test/realkafka"
)

// TestSecurity is SCRAM over TLS on a real broker: kfake hangs up where a broker says that a password is wrong.
func TestSecurity(t *testing.T) {
	t.Parallel()
	k := realkafka.Start(t, realkafka.Options{
		Security: &realkafka.Security{Users: map[string]string{"alice": "s3cret", "bob": "s3cret"}},
		Properties: map[string]string{
			"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer", "super.users": "User:alice;User:ANONYMOUS",
		},
	})
	plainly := &broker{t: t, real: k, addr: []string{k.BootstrapPlain()}, topics: new([]string)}
	plainly.cl = plainly.client()
	plainly.topic("in", 1)
	plainly.topic("out", 1)
	plainly.produce("in", 0, 0, 100)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(k.Certificate())
	config := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	secure := func(opts ...kafka.Option) *broker {
		return &broker{t: t, real: k, addr: []string{k.Bootstrap()}, auth: opts, topics: new([]string)}
	}
	// more waits until n more records are visible than at its making.
	more := func(t *testing.T) func(n int) {
		mine := *plainly
		mine.t = t
		before := len(mine.read("out", true))
		return func(n int) { mine.await("out", before+n) }
	}
	run := func(t *testing.T, b *broker) *process {
		t.Helper()
		return mini(t, cluster.NewMemory(), copyJob(b, kafka.ExactlyOnce()))
	}

	t.Run("options", func(t *testing.T) {
		await := more(t)
		p := run(t, secure(kafka.TLS(config), kafka.SASL("SCRAM-SHA-512", "alice", "s3cret")))
		await(100)
		if err := p.stop(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("properties", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "ca.pem")
		if err := os.WriteFile(file, k.Certificate(), 0o600); err != nil {
			t.Fatal(err)
		}
		await := more(t)
		p := run(t, secure(kafka.Properties(map[string]string{
			"security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-256", "ssl.truststore.location": file, "ssl.truststore.type": "PEM",
			"sasl.jaas.config": `org.apache.kafka.common.security.scram.ScramLoginModule required username="alice" password="s3cret";`,
		})))
		await(100)
		if err := p.stop(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("refused", func(t *testing.T) {
		for _, c := range []struct {
			name, want string
			opts       []kafka.Option
		}{
			{"wrong password", "refuses the credentials", []kafka.Option{kafka.TLS(config), kafka.SASL("SCRAM-SHA-512", "alice", "wr0ng")}},
			{"no rights", "access right", []kafka.Option{kafka.TLS(config), kafka.SASL("SCRAM-SHA-512", "bob", "s3cret")}},
			{"unknown certificate", "certificate", []kafka.Option{kafka.TLS(nil), kafka.SASL("SCRAM-SHA-512", "alice", "s3cret")}},
			{"no TLS", "plaintext connection", []kafka.Option{kafka.SASL("SCRAM-SHA-512", "alice", "s3cret")}},
		} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				start := time.Now()
				p := run(t, secure(c.opts...))
				err := p.failed()
				if !strings.Contains(err, c.want) || strings.Contains(err, "s3cret") || strings.Contains(err, "wr0ng") {
					t.Errorf("got %v", err)
				}
				if took := time.Since(start); took > 15*time.Second {
					t.Errorf("it took %v", took)
				}
			})
		}
	})
	// D16: the password is changed while the job runs; with the new one it goes on, without it FAILS.
	t.Run("password changed", func(t *testing.T) {
		var password atomic.Value
		password.Store("s3cret")
		b := secure(kafka.TLS(config), kafka.SASLFunc("SCRAM-SHA-512", func(context.Context) (string, string, error) { return "alice", password.Load().(string), nil }))
		plug := b.plug()
		await := more(t)
		p := run(t, b.on(plug))
		await(100)
		change := func(to string) {
			if _, err := kadm.NewClient(plainly.cl).AlterUserSCRAMs(t.Context(), nil, []kadm.UpsertSCRAM{{User: "alice", Mechanism: kadm.ScramSha512, Iterations: 4096, Password: to}}); err != nil {
				t.Fatal(err)
			}
			plug.pull()
			plug.push() // connections are made anew
		}
		password.Store("n3w")
		change("n3w")
		plainly.produce("in", 0, 100, 110)
		await(110)
		change("n3wer")
		if err := p.failed(); !strings.Contains(err, "refuses the credentials") || strings.Contains(err, "n3w") {
			t.Errorf("got %v", err)
		}
	})
}

// TestUnreachable: a broker that is not there is tried again, a line each time, and the job goes on when it comes.
func TestUnreachable(t *testing.T) {
	onFake(t, func(t *testing.T, b *broker) {
		b.topic("in", 1)
		b.topic("out", 1)
		b.produce("in", 0, 0, 10)
		for name, g := range map[string]kafka.SinkOption{"exactly-once": kafka.ExactlyOnce(), "at-least-once": kafka.AtLeastOnce()} {
			plug := b.plug()
			plug.pull()
			p := mini(t, cluster.NewMemory(), copyJob(b.on(plug), g))
			pass(5 * time.Minute)
			if p.state().Terminal() {
				t.Fatalf("%s: the job is %v", name, p.state())
			}
			plug.push()
			before := len(b.read("out", true))
			b.await("out", before+10)
			if err := p.stop(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestMissingTopic: a topic that is not there ends the job within 10 s.
func TestMissingTopic(t *testing.T) {
	onBoth(t, func(t *testing.T, b *broker) {
		there := b.name("there")
		b.topic(there, 1)
		for name, g := range map[string]kafka.SinkOption{"exactly-once": kafka.ExactlyOnce(), "at-least-once": kafka.AtLeastOnce()} {
			for _, c := range [][2]string{{"missing-in", there}, {there, "missing-out"}} {
				if b.real != nil && name == "at-least-once" && c[1] == there {
					continue // a source is a source
				}
				start := time.Now()
				p := mini(t, cluster.NewMemory(), copyTopics(b, c[0], c[1], g))
				if err := p.failed(); !strings.Contains(err, `topic "missing-`) || !strings.Contains(err, "does not exist") {
					t.Errorf("%s %v: got %v", name, c, err)
				}
				if took := time.Since(start); took > 10*time.Second {
					t.Errorf("%s %v: it took %v", name, c, took)
				}
			}
		}
	})
}

// TestPlain authenticates with SASL PLAIN and SCRAM on kfake.
func TestPlain(t *testing.T) {
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		t.Run(mechanism, func(t *testing.T) {
			onFake(t, func(t *testing.T, b *broker) {
				b.own = []kgo.Opt{kgo.SASL(plain.Auth{User: "admin", Pass: "admin"}.AsMechanism())}
				b.cl = b.client()
				b.auth = []kafka.Option{kafka.SASL(mechanism, "alice", "s3cret")}
				b.topic("in", 1)
				b.topic("out", 1)
				b.produce("in", 0, 0, 100)
				mini(t, cluster.NewMemory(), copyJob(b, kafka.ExactlyOnce()))
				b.once("out", 1, 100)
			}, kfake.EnableSASL(), kfake.Superuser(mechanism, "alice", "s3cret"), kfake.Superuser("PLAIN", "admin", "admin"))
		})
	}
}
