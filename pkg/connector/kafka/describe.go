package kafka

import (
	"fmt"
	"time"

	"github.com/rivulet-io/rivulet/pkg/connector"
)

func init() { connector.Describe(describer{}) }

// describer tells people what is stored.
type describer struct{}

// Split implements connector.Describer.
func (describer) Split(data []byte) string {
	p, rest, err := readPosition(data)
	if err != nil || len(rest) > 0 {
		return ""
	}
	s := fmt.Sprintf("Kafka topic %s partition %d, next offset %d", p.topic, p.num, p.offset)
	if p.offset == earliest {
		s = fmt.Sprintf("Kafka topic %s partition %d, from its start", p.topic, p.num)
	}
	if p.stop != unset {
		s += fmt.Sprintf(", ends before %d", p.stop)
	}
	return s
}

// Committable implements connector.Describer.
func (describer) Committable(b []byte) string {
	c, err := readCommittable(b)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("Kafka %s, first record %s, may be aborted by the broker from %s", &c, c.first.UTC().Format(time.RFC3339), c.deadline.UTC().Format(time.RFC3339))
}

// Sink implements connector.Describer.
func (describer) Sink(state []byte) string {
	s, err := readSinkState(state)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("Kafka transactions with the prefix %q", s.prefix)
}
