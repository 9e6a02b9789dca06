package connector

import "sync"

// Describer says in words what a connector's own bytes in a checkpoint hold, for people who look into one (savepoint inspect). Each method gets bytes that may be
// another connector's, and returns "" for what it does not know.
type Describer interface {
	// Split describes Split.Data.
	Split(data []byte) string
	// Committable describes one entry of Writer.Prepare.
	Committable(b []byte) string
	// Sink describes Writer.SinkState.
	Sink(state []byte) string
}

var describers struct {
	sync.Mutex
	all []Describer
}

// Describe adds a describer; connectors do it when they are linked in (init).
func Describe(d Describer) {
	describers.Lock()
	defer describers.Unlock()
	describers.all = append(describers.all, d)
}

// Described asks all describers, with one of Describer's methods (Describer.Split), what b is; "" when none knows.
func Described(ask func(Describer, []byte) string, b []byte) string {
	describers.Lock()
	all := describers.all
	describers.Unlock()
	for _, d := range all {
		if s := ask(d, b); s != "" {
			return s
		}
	}
	return ""
}
