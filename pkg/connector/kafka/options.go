package kafka

import (
	"regexp"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
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

// StartFrom is where a partition begins when the job has no state of it: Earliest by default. Partitions that are made while the job runs begin at their earliest record.
func StartFrom(o Offsets) SourceOption { return sourceOption(func(c *sourceConfig) { c.start = o }) }

// StopAt makes the source bounded: each partition ends before that offset, and with the last one the source. Partitions are looked for once.
func StopAt(o Offsets) SourceOption { return sourceOption(func(c *sourceConfig) { c.stop = o }) }

// Group is the consumer group to which offsets are committed when a checkpoint is complete, for tools that show lag. The job does not read them (but see Committed), and shares
// its partitions with nobody. Without it nothing is committed.
func Group(id string) SourceOption { return sourceOption(func(c *sourceConfig) { c.group = id }) }

// DiscoverPartitions is how often new topics and partitions are looked for, 5 minutes by default; 0 is never.
func DiscoverPartitions(every time.Duration) SourceOption {
	return sourceOption(func(c *sourceConfig) { c.discovery = every })
}

// Isolation is what is read of transactions.
type Isolation int

const (
	// ByJob is ReadCommitted in a job that checkpoints exactly once, which is the default, and ReadUncommitted in others.
	ByJob Isolation = iota
	// ReadCommitted reads records of committed transactions only, and waits for open ones.
	ReadCommitted
	// ReadUncommitted reads all records, those of aborted transactions too. It is Flink's default.
	ReadUncommitted
)

// IsolationLevel says what is read of transactions, ByJob by default.
func IsolationLevel(l Isolation) SourceOption {
	return sourceOption(func(c *sourceConfig) { c.isolation = l })
}

// Poison says what becomes of records that cannot be decoded (OnPoison), or are too large to be written (OnOversize).
type Poison struct {
	kind  poisonKind
	topic string
	opts  []SinkOption
}

type poisonKind int

const (
	poisonFail poisonKind = iota
	poisonSkip
	poisonDeadLetter
)

// Fail ends the job with an error that names the record. It is the default.
func Fail() Poison { return Poison{} }

// Skip leaves the record out and counts it (numRecordsInErrors of a source, numRecordsSendErrors of a sink).
func Skip() Poison { return Poison{kind: poisonSkip} }

// DeadLetter writes the record to another topic, as it is but for two more headers: rivulet.source says where it was (TOPIC-PARTITION@OFFSET), or its size, and rivulet.error
// why it is there. It is counted as by Skip.
//
// Of a source's it is a sink like others, under the source's uid with "-dead-letters" behind it: opts are its options, such as ExactlyOnce. How brokers are reached it has from
// the source. Of a sink's it is written as all else is, in the same transaction, and takes no options; its topic must allow what the other does not.
func DeadLetter(topic string, opts ...SinkOption) Poison {
	return Poison{kind: poisonDeadLetter, topic: topic, opts: opts}
}

// OnPoison says what becomes of records that cannot be decoded.
func OnPoison(p Poison) SourceOption { return sourceOption(func(c *sourceConfig) { c.poison = p }) }

// sourceConfig is a source's options with their defaults.
type sourceConfig struct {
	connection
	topics      []string
	pattern     *regexp.Regexp
	patternText string
	patternErr  error
	group       string
	start, stop Offsets
	isolation   Isolation
	poison      Poison
	discovery   time.Duration // 0 is never
	// fetchBytes is what one fetch asks for at most, and fetchRecords what one hand-over holds.
	fetchBytes, fetchRecords int
	extraSource              []kgo.Opt
}

func newSourceConfig(opts []SourceOption) *sourceConfig {
	c := &sourceConfig{discovery: 5 * time.Minute, start: Earliest(), fetchBytes: 1 << 20, fetchRecords: 10_000}
	for _, o := range opts {
		o.source(c)
	}
	apply(&c.connection, c, "source", consumer)
	return c
}

// readsCommitted says whether only committed records are read.
func (c *sourceConfig) readsCommitted(exactlyOnce bool) bool {
	return c.isolation == ReadCommitted || c.isolation == ByJob && exactlyOnce
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

// TransactionalIDPrefix begins the names of the sink's transactions (PREFIX-OPERATOR-SUBTASK-NUMBER, and PREFIX-OPERATOR-guard, which tells a run that another one has
// taken over; the user needs access to all that begin so). Jobs that write one cluster need different ones, and a job keeps its own
// for ever. The default is made of the job's id.
func TransactionalIDPrefix(prefix string) SinkOption {
	return sinkOption(func(c *sinkConfig) { c.prefix = prefix })
}

// TransactionTimeout is after what time the broker aborts a transaction, counted from its first record; 15 minutes by default, which is the most that a broker allows unless its
// transaction.max.timeout.ms is raised. It bounds how long the job may be down between a checkpoint and its commit without going back behind the checkpoint.
func TransactionTimeout(d time.Duration) SinkOption {
	return sinkOption(func(c *sinkConfig) { c.txnTimeout = d })
}

// Compression is none, gzip, snappy, lz4 or zstd; none by default.
func Compression(codec string) SinkOption {
	return sinkOption(func(c *sinkConfig) { c.properties = append(c.properties, property{"compression.type", codec}) })
}

// BatchBytes is how large a batch of records for one partition gets, in bytes; 1 MB by default. A record is as large as a batch at most, so that it bounds those too, unless
// MaxRecordBytes allows larger ones: then batches are as large.
func BatchBytes(n int) SinkOption { return sinkOption(func(c *sinkConfig) { c.batchBytes = n }) }

// MaxRecordBytes is how large a record may be, key, value and headers together, in bytes; what fits into a batch by default: 1 MB less its overhead, which is what brokers
// take. See OnOversize.
func MaxRecordBytes(n int) SinkOption { return sinkOption(func(c *sinkConfig) { c.recordBytes = n }) }

// DeliveryTimeout is how long the sink waits while the broker acknowledges nothing at all, before it has the job restarted; 2 minutes by default.
func DeliveryTimeout(d time.Duration) SinkOption {
	return sinkOption(func(c *sinkConfig) { c.delivery = d })
}

// OnOversize says what becomes of records that are larger than MaxRecordBytes. Dead letters have up to 64 MB, and as much may then be in flight.
func OnOversize(p Poison) SinkOption { return sinkOption(func(c *sinkConfig) { c.oversize = p }) }

// PartitionBy says where records go for which the Encoder has not said it; ByKey is the default.
func PartitionBy(p Partitioner) SinkOption {
	return sinkOption(func(c *sinkConfig) { c.partitioner = p })
}

// sinkConfig is a sink's options with their defaults.
type sinkConfig struct {
	connection
	topics      []string
	guarantee   guarantee
	prefix      string
	txnTimeout  time.Duration
	acks        kgo.Acks
	linger      time.Duration
	batchBytes  int // of a batch for one partition
	recordBytes int // of a record
	bufferBytes int // of all that is in flight; 0 is what the job gives
	delivery    time.Duration
	compression kgo.CompressionCodec
	oversize    Poison
	partitioner Partitioner
}

// recordOverhead is what a batch needs beside the bytes of a record, at most, in bytes.
const recordOverhead = 256

func newSinkConfig(opts []SinkOption) *sinkConfig {
	c := &sinkConfig{
		txnTimeout: 15 * time.Minute, acks: kgo.AllISRAcks(), batchBytes: 1 << 20, delivery: 2 * time.Minute, compression: kgo.NoCompression(),
	}
	for _, o := range opts {
		o.sink(c)
	}
	apply(&c.connection, c, "sink", producer)
	if c.recordBytes == 0 {
		c.recordBytes = c.batchBytes - recordOverhead
	}
	c.batchBytes = max(c.batchBytes, c.recordBytes+recordOverhead)
	if c.partitioner.make == nil {
		c.partitioner = ByKey()
	}
	return c
}
