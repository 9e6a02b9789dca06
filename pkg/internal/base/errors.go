package base

import "errors"

// Class says what an error means for the job. It survives RPC as a field, never by text.
type Class int

const (
	// ClassRestart is every error that says nothing else: the job restarts by its strategy.
	ClassRestart Class = iota
	// ClassPermanent ends the job: trying again cannot help (missing topic, wrong password, undecodable record).
	ClassPermanent
	// ClassCorrupt says that stored data is damaged: never retried, the file is named.
	ClassCorrupt
	// ClassFenced says that somebody newer is in charge: stop quietly.
	ClassFenced
	// ClassCanceled says that the work was asked to stop.
	ClassCanceled
)

func (c Class) String() string {
	switch c {
	case ClassRestart:
		return "restart"
	case ClassPermanent:
		return "permanent"
	case ClassCorrupt:
		return "corrupt"
	case ClassFenced:
		return "fenced"
	case ClassCanceled:
		return "canceled"
	}
	return "unknown"
}

var (
	// ErrCorrupt is wrapped by every error about damaged stored data. The caller may try an older copy, never the same one again.
	ErrCorrupt = errors.New("corrupt")
	// ErrFenced is wrapped when a call carries an epoch or attempt that is no longer the newest. The caller stops quietly.
	ErrFenced = errors.New("fenced")
	// ErrCanceled is the cause of the cancellation of a job's or task's context.
	ErrCanceled = errors.New("canceled")
)

type classified struct {
	class Class
	err   error
}

func (e *classified) Error() string { return e.err.Error() }
func (e *classified) Unwrap() error { return e.err }

// Permanent marks err as one that a restart cannot mend. Permanent(nil) is nil.
func Permanent(err error) error { return WithClass(err, ClassPermanent) }

// WithClass marks err with a class. WithClass(nil, c) is nil.
func WithClass(err error, c Class) error {
	if err == nil {
		return nil
	}
	return &classified{class: c, err: err}
}

// ClassOf returns the class of err: the outermost mark in its chain, or what its sentinels say.
func ClassOf(err error) Class {
	var c *classified
	switch {
	case errors.As(err, &c):
		return c.class
	case errors.Is(err, ErrCorrupt):
		return ClassCorrupt
	case errors.Is(err, ErrFenced):
		return ClassFenced
	case errors.Is(err, ErrCanceled):
		return ClassCanceled
	}
	return ClassRestart
}
