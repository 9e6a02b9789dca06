package kafka

import (
	"context"
	"net"
	"regexp"
	"slices"
	"time"
)

// Option applies to sources and sinks.
type Option interface {
	SourceOption
	SinkOption
}

// SourceOption applies to sources.
type SourceOption interface{ source(c *sourceConfig) }

// SinkOption applies to sinks.
type SinkOption interface{ sink(c *sinkConfig) }

type (
	option       func(c *connection)
	sourceOption func(c *sourceConfig)
	sinkOption   func(c *sinkConfig)
	topicOption  string
)

func (o option) source(c *sourceConfig)       { o(&c.connection) }
func (o option) sink(c *sinkConfig)           { o(&c.connection) }
func (o sourceOption) source(c *sourceConfig) { o(c) }
func (o sinkOption) sink(c *sinkConfig)       { o(c) }

func (o topicOption) source(c *sourceConfig) { c.topics = append(c.topics, string(o)) }
func (o topicOption) sink(c *sinkConfig)     { c.topics = append(c.topics, string(o)) }

// Topic is what is read or written. A source may be given several; a sink writes one, unless its Encoder sets Record.Topic.
func Topic(name string) Option { return topicOption(name) }

// Topics are read, all of them.
func Topics(names ...string) SourceOption {
	return sourceOption(func(c *sourceConfig) { c.topics = append(c.topics, names...) })
}

// TopicPattern reads all topics whose whole name matches a regular expression, those created later included (see DiscoverPartitions). Kafka's internal topics are left out.
func TopicPattern(pattern string) SourceOption {
	return sourceOption(func(c *sourceConfig) {
		c.patternText = pattern
		c.pattern, c.patternErr = regexp.Compile(`\A(?:` + pattern + `)\z`)
	})
}

// Bootstrap lists brokers, "host:port" or several separated by commas, of which one that answers is enough. The default is localhost:9092.
func Bootstrap(servers ...string) Option {
	return option(func(c *connection) { c.bootstrap = slices.Concat(c.bootstrap, addresses(servers)) })
}

// Dialer reaches brokers in a way of its own: through a proxy, or over a test's network in memory.
func Dialer(dial func(ctx context.Context, network, host string) (net.Conn, error)) Option {
	return option(func(c *connection) { c.dialer = dial })
}

// sourceConfig is a source's options with their defaults.
type sourceConfig struct {
	connection
	topics      []string
	pattern     *regexp.Regexp
	patternText string
	patternErr  error
	discovery   time.Duration // 0 is never
}

func newSourceConfig(opts []SourceOption) *sourceConfig {
	c := &sourceConfig{discovery: 5 * time.Minute}
	for _, o := range opts {
		o.source(c)
	}
	return c
}

// guarantee says what a sink promises.
type guarantee int

const (
	atLeastOnce guarantee = iota
	exactlyOnce
	none
)

// ExactlyOnce writes in transactions that are committed when a checkpoint is complete: consumers that read committed data only see each result once, as often as the job
// fails. They see it after the checkpoint, so its interval is their delay. The job needs checkpoints.
func ExactlyOnce() SinkOption { return sinkOption(func(c *sinkConfig) { c.guarantee = exactlyOnce }) }

// AtLeastOnce writes at once and waits, at each checkpoint, for all acknowledgements: nothing is lost, and after a failure some records are written again. It is the default.
func AtLeastOnce() SinkOption { return sinkOption(func(c *sinkConfig) { c.guarantee = atLeastOnce }) }

// NoGuarantee does not wait at checkpoints: after a failure records may be missing, or written again.
func NoGuarantee() SinkOption { return sinkOption(func(c *sinkConfig) { c.guarantee = none }) }

// TransactionalIDPrefix begins the names of the sink's transactions (PREFIX-OPERATOR-SUBTASK-NUMBER). Jobs that write one cluster need different ones, and a job keeps its own
// for ever. The default is made of the job's id.
func TransactionalIDPrefix(prefix string) SinkOption {
	return sinkOption(func(c *sinkConfig) { c.prefix = prefix })
}

// TransactionTimeout is after what time the broker aborts a transaction, counted from its first record; 15 minutes by default, which is the most that a broker allows unless its
// transaction.max.timeout.ms is raised. It bounds how long the job may be down between a checkpoint and its commit without going back behind the checkpoint.
func TransactionTimeout(d time.Duration) SinkOption {
	return sinkOption(func(c *sinkConfig) { c.txnTimeout = d })
}

// sinkConfig is a sink's options with their defaults.
type sinkConfig struct {
	connection
	topics     []string
	guarantee  guarantee
	prefix     string
	txnTimeout time.Duration
}

func newSinkConfig(opts []SinkOption) *sinkConfig {
	c := &sinkConfig{txnTimeout: 15 * time.Minute}
	for _, o := range opts {
		o.sink(c)
	}
	return c
}
