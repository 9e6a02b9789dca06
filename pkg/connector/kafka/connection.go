package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// connection is how brokers are reached.
type connection struct {
	bootstrap []string
	clientID  string
	dialer    func(ctx context.Context, network, host string) (net.Conn, error)
	tls       *tls.Config // nil for none
	// mechanism is SASL's, "" for none; credentials is asked at each new connection.
	mechanism   string
	credentials func(ctx context.Context) (user, password string, err error)

	properties []property
	extra      []kgo.Opt // by properties that are an option of the client's as they are
	errs       []error
}

// Bootstrap lists brokers, "host:port" or several separated by commas, of which one that answers is enough. The default is localhost:9092.
func Bootstrap(servers ...string) Option {
	return option(func(c *connection) { c.bootstrap = append(c.bootstrap, addresses(servers)...) })
}

// Dialer reaches brokers in a way of its own: through a proxy, or over a test's network in memory.
func Dialer(dial func(ctx context.Context, network, host string) (net.Conn, error)) Option {
	return option(func(c *connection) { c.dialer = dial })
}

// TLS encrypts all connections. A nil config trusts the machine's certificate authorities.
func TLS(config *tls.Config) Option {
	return option(func(c *connection) {
		if config == nil {
			config = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		c.tls = config
	})
}

// SASL authenticates with a user's name and password. mechanism is PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512. PLAIN shows the password to whoever listens, unless TLS is on.
func SASL(mechanism, user, password string) Option {
	return SASLFunc(mechanism, func(context.Context) (string, string, error) { return user, password, nil })
}

// SASLFunc is SASL with a function that is asked at each new connection, so that a password can be changed while the job runs. It may be called from any goroutine.
func SASLFunc(mechanism string, credentials func(ctx context.Context) (user, password string, err error)) Option {
	return option(func(c *connection) { c.mechanism, c.credentials = strings.ToUpper(mechanism), credentials })
}

func addresses(servers []string) (out []string) {
	for _, s := range servers {
		for one := range strings.SplitSeq(s, ",") {
			if one = strings.TrimSpace(one); one != "" {
				out = append(out, one)
			}
		}
	}
	return out
}

func (c *connection) servers() []string {
	if len(c.bootstrap) == 0 {
		return []string{"localhost:9092"}
	}
	return c.bootstrap
}

func (c *connection) validate() []error {
	errs := c.errs
	for _, s := range c.bootstrap {
		if _, _, err := net.SplitHostPort(s); err != nil {
			errs = append(errs, fmt.Errorf("kafka: bootstrap server %q: want host:port", s))
		}
	}
	switch c.mechanism {
	case "":
		if c.credentials != nil {
			errs = append(errs, errors.New("kafka: a user is given and no sasl.mechanism"))
		}
	case "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512":
		if c.credentials == nil {
			errs = append(errs, fmt.Errorf("kafka: sasl.mechanism %s needs a user and a password (SASL, or sasl.jaas.config)", c.mechanism))
		}
	default:
		errs = append(errs, fmt.Errorf("kafka: sasl.mechanism %q is not one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512", c.mechanism))
	}
	return errs
}

// options are the client's, for one that says who it is by id, and logs to log. refused may be nil: see connectLog.
func (c *connection) options(id string, log *slog.Logger, refused func(error)) []kgo.Opt {
	if c.clientID != "" {
		id = c.clientID
	}
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.servers()...), kgo.ClientID(clip(id, 256)), kgo.WithHooks(&connectLog{log: log, refused: refused}),
		kgo.MetadataMinAge(250 * time.Millisecond), kgo.DisableClientMetrics(), kgo.ConnIdleTimeout(time.Minute), kgo.Dialer(c.dial),
	}
	if c.mechanism != "" {
		opts = append(opts, kgo.SASL(c.sasl()))
	}
	return append(opts, c.extra...)
}

func clip(s string, n int) string { return s[:min(len(s), n)] }

// dial connects, and shakes hands if TLS is on.
func (c *connection) dial(ctx context.Context, network, host string) (net.Conn, error) {
	dial := c.dialer
	if dial == nil {
		dial = (&net.Dialer{Timeout: 10 * time.Second}).DialContext
	}
	conn, err := dial(ctx, network, host)
	if err != nil || c.tls == nil {
		return conn, err
	}
	config := c.tls.Clone()
	if config.ServerName == "" {
		name, _, err := net.SplitHostPort(host)
		if err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		config.ServerName = name
	}
	shake, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(shake); err != nil {
		return nil, errors.Join(fmt.Errorf("TLS with %s: %w", host, err), conn.Close())
	}
	return secure, nil
}

func (c *connection) sasl() sasl.Mechanism {
	switch c.mechanism {
	case "SCRAM-SHA-256":
		return scram.Sha256(c.scram)
	case "SCRAM-SHA-512":
		return scram.Sha512(c.scram)
	}
	return plain.Plain(func(ctx context.Context) (plain.Auth, error) {
		user, pass, err := c.credentials(ctx)
		return plain.Auth{User: user, Pass: pass}, err
	})
}

func (c *connection) scram(ctx context.Context) (scram.Auth, error) {
	user, pass, err := c.credentials(ctx)
	return scram.Auth{User: user, Pass: pass}, err
}

// trust adds certificates in PEM to those that brokers are checked against.
func (c *connection) trust(pem []byte) error {
	c.ensureTLS()
	if c.tls.RootCAs == nil {
		c.tls.RootCAs = x509.NewCertPool()
	}
	if !c.tls.RootCAs.AppendCertsFromPEM(pem) {
		return errors.New("no certificate in PEM format")
	}
	return nil
}

func (c *connection) ensureTLS() {
	if c.tls == nil {
		c.tls = &tls.Config{MinVersion: tls.VersionTLS12}
	}
}

// readPEM reads a file that is named by a property.
func readPEM(path string) ([]byte, error) {
	b, err := os.ReadFile(path) //nolint:gosec // the user's own file, named by the user's own option
	if err != nil {
		return nil, err
	}
	return b, nil
}
