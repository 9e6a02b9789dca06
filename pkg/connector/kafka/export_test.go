package kafka

import "github.com/twmb/franz-go/pkg/kgo"

// TransactionID returns the transactional id of a committable.
func TransactionID(b []byte) string {
	c, err := readCommittable(b)
	if err != nil {
		panic(err)
	}
	return c.id
}

// ClientOptions adds options of the client's to a source or a sink.
func ClientOptions(opts ...kgo.Opt) Option {
	return option(func(c *connection) { c.extra = append(c.extra, opts...) })
}
