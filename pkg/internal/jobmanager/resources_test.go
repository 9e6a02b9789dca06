package jobmanager

import (
	"testing"
	"time"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
)

// TestSlotsArePromisedOnce says that two jobs which wait are not both told of the same free slot: one of them would start, find none and fail.
func TestSlotsArePromisedOnce(t *testing.T) {
	r, now := newResources(), time.Now()
	one, two := base.NewJobID(), base.NewJobID()
	join := func(id string, slots int) {
		tm := &taskManager{id: id, instance: id, slots: slots, used: map[slotKey]bool{}, lose: func(error) {}}
		if _, _, _, err := r.add(tm); err != nil {
			t.Fatal(err)
		}
		r.beat(tm, 1, now)
	}
	check := func(job base.JobID, need, want int, freed bool) {
		t.Helper()
		if n, _, f := r.available(job, need, now); n != want || f != freed {
			t.Errorf("%d slots (freed %t), want %d (%t)", n, f, want, freed)
		}
	}
	join("a", 1)
	check(one, 1, 1, false)
	check(two, 1, 0, false)
	check(one, 1, 1, false) // it may ask again
	if r.allocate(slotKey{job: one}, true) == nil {
		t.Fatal("no slot")
	}
	check(one, 1, 1, false)
	check(two, 1, 0, false)
	join("b", 2)
	check(two, 3, 2, false) // not enough for it: nothing is promised
	check(one, 1, 3, false)
	check(two, 2, 2, false)
	check(one, 2, 1, false)
	r.remove(r.find("b"))
	check(two, 2, 0, true) // what was promised to it is gone
	r.release(one)
	check(two, 1, 1, false)
	r.release(two)
	check(one, 1, 1, false)
}
