// Package mutant breaks the engine on purpose, so that it can be shown that the checker of test/eos finds what it should.
//
// Start with Is. Built with the tag mutants, the engine has the fault that the environment variable RIVULET_MUTANT names; without the tag Is is the constant
// false, Delay does nothing, and the compiler removes both with all that hangs on them. Its law: each mutant is one fault that somebody could have made, and
// Delay makes none: it only widens the moment in which one shows.
package mutant

// Name is that of a mutant.
type Name string

// The mutants, and what each does wrong.
const (
	// CommitBeforeMetadata has sinks commit before the checkpoint's metadata is durable.
	CommitBeforeMetadata Name = "commit-before-metadata"
	// LedgerBeforeCommit records a commit before it is done.
	LedgerBeforeCommit Name = "ledger-before-commit"
	// NoCommitOnRestore leaves what the restored checkpoint prepared.
	NoCommitOnRestore Name = "no-commit-on-restore"
	// NoAbortOnRestore leaves what lingers.
	NoAbortOnRestore Name = "no-abort-on-restore"
	// RestoreOlder restores the checkpoint before the newest.
	RestoreOlder Name = "restore-older"
	// DropLedger records the first commit, and no later one.
	DropLedger Name = "drop-ledger"
	// ReuseBeforeLedger uses a transactional id again before its commit is recorded.
	ReuseBeforeLedger Name = "reuse-before-ledger"
	// AckBeforeFlush has a sink prepare what it has not flushed.
	AckBeforeFlush Name = "ack-before-flush"
	// SkipRecord and RepeatRecord restore a source's offset one too far and one too early.
	SkipRecord   Name = "skip-record"
	RepeatRecord Name = "repeat-record"
	// DoubleSplit gives a split to two readers.
	DoubleSplit Name = "double-split"
	// SkipAlignment blocks no channel behind its barrier.
	SkipAlignment Name = "skip-alignment"
	// SnapshotOnFirst takes the snapshot when the first channel's barrier comes.
	SnapshotOnFirst Name = "snapshot-on-first-barrier"
	// WrongKeyGroups deals keyed state by the subtasks' old numbers.
	WrongKeyGroups Name = "wrong-key-groups"
	// LoseRow leaves some changed rows out of a snapshot.
	LoseRow Name = "lose-row"
	// LoseTimer forgets some timers in a restore.
	LoseTimer Name = "lose-timer"
	// FireTwice fires some windows twice.
	FireTwice Name = "fire-twice"
)

// all are those that a build with the tag knows.
var all = []Name{
	CommitBeforeMetadata, LedgerBeforeCommit, NoCommitOnRestore, NoAbortOnRestore, RestoreOlder, DropLedger, ReuseBeforeLedger, AckBeforeFlush, SkipRecord, RepeatRecord,
	DoubleSplit, SkipAlignment, SnapshotOnFirst, WrongKeyGroups, LoseRow, LoseTimer, FireTwice,
}
