package kafka

import (
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Property sets an option by the name that Kafka's own clients have for it ("sasl.mechanism", "fetch.max.bytes"). One that does not exist, or means nothing for a source or a
// sink, is an error when the job is built. Properties are applied after all other options.
func Property(name, value string) Option {
	return option(func(c *connection) { c.properties = append(c.properties, property{name, value}) })
}

// Properties is Property for several.
func Properties(values map[string]string) Option {
	return option(func(c *connection) {
		for _, name := range slices.Sorted(maps.Keys(values)) {
			c.properties = append(c.properties, property{name, values[name]})
		}
	})
}

type property struct{ name, value string }

// common, consumer and producer are the known properties: what each does with its value.
var (
	common = map[string]func(c *connection, v string) error{
		"bootstrap.servers": func(c *connection, v string) error {
			c.bootstrap = addresses([]string{v})
			return nil
		},
		"client.id": func(c *connection, v string) error {
			c.clientID = v
			return nil
		},
		"security.protocol": func(c *connection, v string) error {
			switch strings.ToUpper(v) {
			case "PLAINTEXT", "SASL_PLAINTEXT":
				c.tls = nil
			case "SSL", "SASL_SSL":
				c.ensureTLS()
			default:
				return errors.New("want PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL")
			}
			return nil
		},
		"sasl.mechanism": func(c *connection, v string) error {
			c.mechanism = strings.ToUpper(v)
			return nil
		},
		"sasl.jaas.config": func(c *connection, v string) error { return c.jaas(v) },
		"ssl.truststore.certificates": func(c *connection, v string) error {
			return c.trust([]byte(v))
		},
		"ssl.truststore.location": func(c *connection, v string) error {
			b, err := readPEM(v)
			if err != nil {
				return err
			}
			if err := c.trust(b); err != nil {
				return fmt.Errorf("%s: %w (Java's keystores are not read: convert it to PEM)", v, err)
			}
			return nil
		},
		"ssl.truststore.type": pemOnly,
		"ssl.keystore.type":   pemOnly,
		"ssl.keystore.location": func(c *connection, v string) error {
			b, err := readPEM(v)
			if err != nil {
				return err
			}
			cert, err := tls.X509KeyPair(b, b)
			if err != nil {
				return fmt.Errorf("%s: want a certificate chain and a private key in PEM: %w", v, err)
			}
			c.ensureTLS()
			c.tls.Certificates = []tls.Certificate{cert}
			return nil
		},
		"ssl.endpoint.identification.algorithm": func(c *connection, v string) error {
			switch strings.ToLower(v) {
			case "https":
			case "":
				c.ensureTLS()
				c.tls.InsecureSkipVerify = true
			default:
				return errors.New(`want "https", or "" for no check of the broker's name`)
			}
			return nil
		},
		"metadata.max.age.ms": duration(func(d time.Duration) kgo.Opt { return kgo.MetadataMaxAge(max(d, time.Second)) }),
		"request.timeout.ms":  duration(func(d time.Duration) kgo.Opt { return kgo.RequestTimeoutOverhead(max(d, 100*time.Millisecond)) }),
		"connections.max.idle.ms": duration(func(d time.Duration) kgo.Opt {
			return kgo.ConnIdleTimeout(max(d, time.Second))
		}),
	}
	consumer = map[string]func(c *sourceConfig, v string) error{
		"group.id": func(c *sourceConfig, v string) error {
			c.group = v
			return nil
		},
		"isolation.level": func(c *sourceConfig, v string) error {
			switch strings.ToLower(v) {
			case "read_committed":
				c.isolation = ReadCommitted
			case "read_uncommitted":
				c.isolation = ReadUncommitted
			default:
				return errors.New("want read_committed or read_uncommitted")
			}
			return nil
		},
		"auto.offset.reset": func(c *sourceConfig, v string) error {
			if c.start.kind != fromGroup {
				return errors.New("it stands in for committed offsets only (StartFrom(Committed()))")
			}
			switch strings.ToLower(v) {
			case "earliest":
				c.start = Committed(Earliest())
			case "latest":
				c.start = Committed(Latest())
			case "none":
				c.start = Committed()
			default:
				return errors.New("want earliest, latest or none")
			}
			return nil
		},
		"fetch.min.bytes": number(func(c *sourceConfig, n int) { c.extraSource = append(c.extraSource, kgo.FetchMinBytes(int32(n))) }),
		"fetch.max.wait.ms": number(func(c *sourceConfig, n int) {
			c.extraSource = append(c.extraSource, kgo.FetchMaxWait(time.Duration(n)*time.Millisecond))
		}),
		"fetch.max.bytes": number(func(c *sourceConfig, n int) { c.fetchBytes = n }),
		"max.poll.records": number(func(c *sourceConfig, n int) {
			c.fetchRecords = n
		}),
		"client.rack": func(c *sourceConfig, v string) error {
			c.extraSource = append(c.extraSource, kgo.Rack(v))
			return nil
		},
		"enable.auto.commit": func(_ *sourceConfig, v string) error {
			if v != "false" {
				return errors.New("offsets are committed when a checkpoint is complete, and never else")
			}
			return nil
		},
		"partition.discovery.interval.ms": number(func(c *sourceConfig, n int) { c.discovery = time.Duration(n) * time.Millisecond }),
	}
	producer = map[string]func(c *sinkConfig, v string) error{
		"acks": func(c *sinkConfig, v string) error {
			switch {
			case v == "all" || v == "-1":
				c.acks = kgo.AllISRAcks()
			case c.guarantee != none:
				return errors.New("only all keeps what the sink guarantees (NoGuarantee does not need it)")
			case v == "1":
				c.acks = kgo.LeaderAck()
			case v == "0":
				c.acks = kgo.NoAck()
			default:
				return errors.New("want all, 1 or 0")
			}
			return nil
		},
		"linger.ms": number(func(c *sinkConfig, n int) { c.linger = time.Duration(n) * time.Millisecond }),
		"batch.size": func(*sinkConfig, string) error {
			return errors.New("a batch is as large as max.request.size lets a record be (BatchBytes bounds both)")
		},
		"max.request.size": number(func(c *sinkConfig, n int) {
			c.recordBytes = n
		}),
		"buffer.memory":          number(func(c *sinkConfig, n int) { c.bufferBytes = n }),
		"delivery.timeout.ms":    number(func(c *sinkConfig, n int) { c.delivery = time.Duration(n) * time.Millisecond }),
		"transaction.timeout.ms": number(func(c *sinkConfig, n int) { c.txnTimeout = time.Duration(n) * time.Millisecond }),
		"compression.type": func(c *sinkConfig, v string) error {
			k, ok := codecs[strings.ToLower(v)]
			if !ok {
				return errors.New("want none, gzip, snappy, lz4 or zstd")
			}
			c.compression = k
			return nil
		},
		"enable.idempotence": func(_ *sinkConfig, v string) error {
			if v != "true" {
				return errors.New("it is always on: without it, retries double records")
			}
			return nil
		},
	}
	codecs = map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
)

func pemOnly(_ *connection, v string) error {
	if strings.ToUpper(v) != "PEM" {
		return errors.New("only PEM is read")
	}
	return nil
}

func duration(f func(time.Duration) kgo.Opt) func(*connection, string) error {
	return func(c *connection, v string) error {
		n, err := strconv.Atoi(strings.TrimSpace(v))
		if err != nil || n < 0 {
			return errors.New("want a number of milliseconds")
		}
		c.extra = append(c.extra, f(time.Duration(n)*time.Millisecond))
		return nil
	}
}

func number[C any](f func(c *C, n int)) func(*C, string) error {
	return func(c *C, v string) error {
		n, err := strconv.Atoi(strings.TrimSpace(v))
		if err != nil || n < 0 || n > 1<<31-1 {
			return errors.New("want a number")
		}
		f(c, n)
		return nil
	}
}

// apply does what the properties say; own are those of a source or a sink.
func apply[C any](conn *connection, c *C, what string, own map[string]func(*C, string) error) {
	for _, p := range conn.properties {
		var err error
		if f, ok := common[p.name]; ok {
			err = f(conn, p.value)
		} else if f, ok := own[p.name]; ok {
			err = f(c, p.value)
		} else {
			err = errors.New("it is not known, or means nothing here")
		}
		if err != nil { // the value may be a secret: it is not said
			conn.errs = append(conn.errs, fmt.Errorf("kafka %s: property %s: %w", what, p.name, err))
		}
	}
}

var jaasOption = regexp.MustCompile(`(\w+)\s*=\s*"((?:[^"\\]|\\.)*)"`)

// jaas takes user and password out of Java's form of them, org.apache.kafka...LoginModule required username="u" password="p";, and nothing else.
func (c *connection) jaas(v string) error {
	var user, password string
	found := 0
	for _, m := range jaasOption.FindAllStringSubmatch(v, -1) {
		value := strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(m[2])
		switch m[1] {
		case "username":
			user = value
			found++
		case "password":
			password = value
			found++
		}
	}
	if found != 2 {
		return errors.New(`want ...LoginModule required username="..." password="...";`)
	}
	mechanism := c.mechanism
	SASL(mechanism, user, password).(option)(c)
	return nil
}
