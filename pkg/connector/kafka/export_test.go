package kafka

import (
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rivulet-io/rivulet/pkg/connector"
)

// TransactionID returns the transactional id of a committable.
func TransactionID(b []byte) string {
	c, err := readCommittable(b)
	if err != nil {
		panic(err)
	}
	return c.id
}

// Forget has the clients of a writer's prepared transactions know nothing of what was written: they answer success to a commit, and do nothing.
func Forget(w connector.Writer[string]) {
	t := w.(*writer[string]).txns
	for _, x := range t.prepared {
		x.cl.Close()
		cl, err := kgo.NewClient(append(t.cfg.producerOptions(t.ctx, t.refused, t.hook), kgo.TransactionalID(x.id))...)
		if err != nil {
			panic(err)
		}
		x.cl = cl
	}
}
