// Package invariant states what must always hold, in a form that costs nothing
// in the binaries we ship.
//
// Built with the tag invariants (make test), [Check] panics when its condition
// is false, [Sometimes] makes rare paths common, and [Mangle] scribbles over
// buffers that nobody may read any more. Built without it, [Enabled] is the
// constant false, all three do nothing, and the compiler removes them.
//
// Arguments are evaluated in both builds unless they stand behind the constant,
// so whatever is more than a comparison belongs there:
//
//	if invariant.Enabled {
//		invariant.Check(slices.IsSorted(q.deadlines), "timer queue of %s out of order", q.name)
//	}
//
// All functions may be called from any goroutine. Pure packages use Check only:
// Sometimes would make them answer differently to the same events.
package invariant
