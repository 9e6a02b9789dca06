// Package ha keeps what a job must not lose when its JobManager does: which JobManager leads, and per job its id, its state, the newest checkpoint and
// how far commits are recorded.
//
// Start with Election and Leadership. Memory and File (a locked directory) implement them; others register themselves for Open, such as package ha/etcd. The law: a write by someone who no longer leads changes nothing,
// and a write that returned is durable.
package ha

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/rivulet-io/rivulet/pkg/fs"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
)

// FormatVersion is the version of what is stored. A store of a newer version is refused.
const FormatVersion = 1

// ErrNewerFormat is wrapped when a store was written by a newer release. The caller must leave it alone.
var ErrNewerFormat = errors.New("written by a newer release")

// ErrInUse is wrapped when another process holds the store.
var ErrInUse = errors.New("in use")

// ErrUnknownOutcome is wrapped by a write of which nobody knows whether it happened: read it back, and delete nothing that it may name.
var ErrUnknownOutcome = fs.ErrUnknownOutcome

// ErrOtherCluster is wrapped when the store is not the one that keeps this cluster's records: another one, or one whose data was wiped. The caller must not start
// its jobs anew.
var ErrOtherCluster = errors.New("not the store of this cluster")

// Member is a JobManager as others find it.
type Member struct {
	// ID names this run of the process.
	ID string `json:"id"`
	// RPC is HOST:PORT for TaskManagers, REST the base URL for clients; empty when it serves none.
	RPC  string `json:"rpc"`
	REST string `json:"rest,omitempty"`
}

// Election finds out who leads. It is safe for concurrent use.
type Election interface {
	// Lead blocks until this process leads, or ctx ends, or the store refuses for ever (ErrInUse, ErrNewerFormat, ErrOtherCluster). Others learn of me by Watch.
	Lead(ctx context.Context, me Member) (Leadership, error)
	// Watch calls f, on the caller's goroutine, with who leads, each time that changes, until ctx ends; it begins with who leads now. The zero Member says that
	// nobody does. While the store is out of reach it tells nothing. Its error is the store's refusal for ever.
	Watch(ctx context.Context, f func(Member)) error
	// Peek returns all records, sorted by name, without leading: another process may be writing them. A store that nobody has led yet has none.
	Peek(ctx context.Context) ([]*Job, error)
}

// Leadership is the store as its leader sees it. It is safe for concurrent use; writes to one job are in the order of the calls if the caller makes them one after another.
//
// A leader that is out of the store's reach is suspended: it may or may not lead still, so it decides nothing, and its reads and writes wait. The leadership goes on
// if nobody else led meanwhile; else it is lost.
type Leadership interface {
	// Epoch grows with each leader.
	Epoch() base.Epoch
	// Lost is closed when this process leads no more: it then decides nothing. Err says why.
	Lost() <-chan struct{}
	Err() error
	// Holds says that, by this process's own clock, nobody else can lead now: it may decide. changed is closed when another answer is to be expected, from whichever side;
	// what hangs on time alone, that it holds no longer, is seen by asking.
	Holds() (holds bool, changed <-chan struct{})
	// Job returns the record of the job of that name, nil when there is none.
	Job(ctx context.Context, name string) (*Job, error)
	// Jobs returns all records, sorted by name.
	Jobs(ctx context.Context) ([]*Job, error)
	// PutJob writes a record, whole. It fails with base.ErrFenced when somebody else leads, and with ErrUnknownOutcome when nobody knows, be it that ctx ended meanwhile.
	PutJob(ctx context.Context, j *Job) error
	// DeleteJob removes a record; it is no error if there is none.
	DeleteJob(ctx context.Context, name string) error
	// Resign gives the leadership up at once.
	Resign() error
}

// Job is what is kept of a job, found by its name.
type Job struct {
	Version int    `json:"version"`
	Name    string `json:"name"`
	ID      JobID  `json:"id"`
	// State is Flink's JobStatus, as far as it matters: FINISHED, CANCELED and FAILED, or RUNNING for all others.
	State string `json:"state"`
	// Error is why it FAILED.
	Error string `json:"error,omitempty"`
	// Fingerprint is that of the graph that ran last.
	Fingerprint string `json:"fingerprint,omitempty"`
	// Checkpoint is the newest completed checkpoint or stop-savepoint; nil before the first.
	Checkpoint *Pointer `json:"checkpoint,omitempty"`
	// Retained are the checkpoints that are kept, oldest first; Checkpoint is the last of them, unless it is a savepoint.
	Retained []Pointer `json:"retained,omitempty"`
	// NextCheckpoint is larger than the id of every checkpoint that was ever begun.
	NextCheckpoint int64 `json:"next_checkpoint,omitempty"`
	// Ledger says that everything prepared up to that checkpoint is committed.
	Ledger int64 `json:"ledger,omitempty"`
	// Savepoint is the snapshot that the job was started from (--from-savepoint), until it has a checkpoint of its own.
	Savepoint *Origin `json:"savepoint,omitempty"`
	// Args are the job's own arguments: what its program is built with, also by the next leader.
	Args []string `json:"args,omitempty"`
	// Program is the one of a process with several, and Options what was submitted with the job, over what the process is started with.
	Program string            `json:"program,omitempty"`
	Options map[string]string `json:"options,omitempty"`
	// StartedMillis is when the job was first started, in milliseconds since the epoch.
	StartedMillis int64 `json:"started_ms,omitempty"`
}

// Pointer names a completed checkpoint or savepoint.
type Pointer struct {
	ID int64 `json:"id"`
	// Path is its directory: relative to the data directory with forward slashes where it lies below it, so that the whole can be moved; else a URI.
	Path string `json:"path"`
	// Savepoint says that it is a savepoint (of a stop).
	Savepoint bool `json:"savepoint,omitempty"`
}

// Origin is a snapshot that a job was started from.
type Origin struct {
	// Path is relative to the root of what the process keeps, if it lies below: modes have different names for the root.
	Path  string `json:"path"`
	Claim bool   `json:"claim,omitempty"`
}

// JobID is a base.JobID that is 32 hex digits in JSON.
type JobID base.JobID

// MarshalText writes 32 hex digits.
func (id JobID) MarshalText() ([]byte, error) { return []byte(base.JobID(id).String()), nil }

// UnmarshalText reads 32 hex digits.
func (id *JobID) UnmarshalText(b []byte) error {
	v, err := base.ParseJobID(string(b))
	*id = JobID(v)
	return err
}

// Clone returns a deep copy.
func (j *Job) Clone() *Job {
	if j == nil {
		return nil
	}
	c := *j
	c.Retained = append([]Pointer(nil), j.Retained...)
	c.Args = append([]string(nil), j.Args...)
	c.Options = maps.Clone(j.Options)
	if j.Checkpoint != nil {
		p := *j.Checkpoint
		c.Checkpoint = &p
	}
	if j.Savepoint != nil {
		o := *j.Savepoint
		c.Savepoint = &o
	}
	return &c
}

// Encode returns the bytes of a record, for implementations of Leadership.
func Encode(j *Job) ([]byte, error) {
	c := *j
	c.Version = FormatVersion
	b, err := json.MarshalIndent(&c, "", "  ")
	return append(b, '\n'), err
}

// Decode reads a record; what says which, for messages.
func Decode(b []byte, what string) (*Job, error) {
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", what, base.ErrCorrupt, err)
	}
	if v.Version > FormatVersion {
		return nil, fmt.Errorf("%s: format version %d, this release knows %d: %w", what, v.Version, FormatVersion, ErrNewerFormat)
	}
	j := new(Job)
	if err := json.Unmarshal(b, j); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", what, base.ErrCorrupt, err)
	}
	if v.Version < 1 || j.Name == "" || base.JobID(j.ID).IsZero() {
		return nil, fmt.Errorf("%s: %w: no version, name or id", what, base.ErrCorrupt)
	}
	return j, nil
}
