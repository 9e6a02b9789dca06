package kafka

import (
	"github.com/twmb/franz-go/pkg/kgo"
)

// Partitioner says which partition of its topic a record goes to.
type Partitioner struct {
	// make returns what partitions the records of one topic, for a subtask's writer.
	make func(subtask int) kgo.Partitioner
}

// ByKey puts records with one key into one partition, by murmur2 as Kafka's own clients do, and fills batches with those without. It is the default.
func ByKey() Partitioner {
	return Partitioner{make: func(int) kgo.Partitioner { return kgo.StickyKeyPartitioner(nil) }}
}

// RoundRobin spreads records evenly, whatever their key is.
func RoundRobin() Partitioner {
	return Partitioner{make: func(int) kgo.Partitioner { return kgo.RoundRobinPartitioner() }}
}

// BySubtask puts all records of a subtask into one partition, by its number: Flink's "fixed". With fewer subtasks than partitions some get none.
func BySubtask() Partitioner {
	return Partitioner{make: func(subtask int) kgo.Partitioner {
		return kgo.BasicConsistentPartitioner(func(string) func(*kgo.Record, int) int {
			return func(_ *kgo.Record, n int) int { return subtask % n }
		})
	}}
}

// ByFunc asks a function, which returns a number from 0 to partitions-1. It may be called from any goroutine, and keeps nothing of r.
func ByFunc(f func(r *Record, partitions int) int) Partitioner {
	return Partitioner{make: func(int) kgo.Partitioner {
		return kgo.BasicConsistentPartitioner(func(string) func(*kgo.Record, int) int {
			return func(r *kgo.Record, n int) int {
				return f(&Record{Key: r.Key, Value: r.Value, Headers: headers(r.Headers), Timestamp: r.Timestamp, Topic: r.Topic, Partition: -1}, n)
			}
		})
	}}
}

// chosen is a partitioner for records that may say their partition themselves.
type chosen struct{ kgo.Partitioner }

// ForTopic implements kgo.Partitioner.
func (c chosen) ForTopic(topic string) kgo.TopicPartitioner {
	return chosenTopic{c.Partitioner.ForTopic(topic)}
}

type chosenTopic struct{ kgo.TopicPartitioner }

// RequiresConsistency implements kgo.TopicPartitioner.
func (c chosenTopic) RequiresConsistency(r *kgo.Record) bool {
	return r.Partition >= 0 || c.TopicPartitioner.RequiresConsistency(r)
}

// Partition implements kgo.TopicPartitioner.
func (c chosenTopic) Partition(r *kgo.Record, n int) int {
	if r.Partition >= 0 {
		return int(r.Partition) // one that is not there fails the record
	}
	return c.TopicPartitioner.Partition(r, n)
}

// OnNewBatch implements kgo.TopicPartitionerOnNewBatch: it is how the sticky one moves on.
func (c chosenTopic) OnNewBatch() {
	if on, ok := c.TopicPartitioner.(kgo.TopicPartitionerOnNewBatch); ok {
		on.OnNewBatch()
	}
}
