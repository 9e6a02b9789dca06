package operator

import (
	"testing"

	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/event"
)

// TestHeldUpIsNoStall says that a reader whose records nobody takes is not called silent, however long that lasts.
func TestHeldUpIsNoStall(t *testing.T) {
	var s stall
	s.poll(connector.More)
	now := event.Time(1)
	for ; now < 10*stallAfter; now += 200 {
		if s.due(now, 5, false) {
			t.Fatalf("due at %d ms, held up by its consumers", now)
		}
	}
	s.poll(connector.Wait)
	if s.due(now, 5, false) {
		t.Error("due at once")
	}
	if !s.due(now+stallAfter, 5, false) {
		t.Error("not due after half a minute without records")
	}
	if s.due(now+2*stallAfter, 5, false) {
		t.Error("said twice")
	}
}
