package eos

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Flows are the dataflows and the topics, behind the prefix, that they write.
var Flows = map[string][]string{"j1": {"j1"}, "j2": {"j2"}, "j3": {"j3"}, "j5": {"j5"}, "j8": {"j8a", "j8b", "j8c"}}

// Topics returns the output topics of dataflows.
func Topics(flows []string) []string {
	var out []string
	for _, f := range flows {
		out = append(out, Flows[f]...)
	}
	return out
}

// Count is what was found in one output topic. All but Out should be as Expected, or 0.
type Count struct {
	Topic string `json:"topic"`
	// Expected is how many rows there should be, and Out how many there are.
	Expected int64 `json:"expected"`
	Out      int64 `json:"out"`
	Lost     int64 `json:"lost"`
	Doubled  int64 `json:"doubled"`
	// Disordered counts rows of a key that come after later ones.
	Disordered int64 `json:"disordered"`
	// Phantom counts rows of what is not in the input, or damaged, or of another run.
	Phantom int64 `json:"phantom"`
	// Wrong counts rows whose content is not what it should be: one update of state that was lost or doubled makes all later rows of its key wrong.
	Wrong int64 `json:"wrong"`
	// Dirty counts partitions in which the live reader saw what is not committed at the end, or in another order.
	Dirty int64 `json:"dirty"`
	// Aborted is how many records only a reader of uncommitted records sees: it shows that the faults bit.
	Aborted int64 `json:"aborted"`
	// First says of what is wrong what was found first.
	First string `json:"first,omitempty"`
}

// Bad is the sum of what must be 0.
func (c *Count) Bad() int64 {
	return c.Lost + c.Doubled + c.Disordered + c.Phantom + c.Wrong + c.Dirty
}

func (c *Count) note(n *int64, format string, args ...any) {
	if *n++; c.First == "" {
		c.First = fmt.Sprintf(format, args...)
	}
}

// Verdict is what was found in all.
type Verdict struct {
	// In is how many records the input has.
	In     int64   `json:"in"`
	Counts []Count `json:"counts"`
	// Lingering are the open transactions that are left.
	Lingering []string `json:"lingering,omitempty"`
}

// Bad is the sum of what must be 0.
func (v *Verdict) Bad() int64 {
	n := int64(len(v.Lingering))
	for i := range v.Counts {
		n += v.Counts[i].Bad()
	}
	return n
}

// ErrInconclusive is wrapped when nothing can be said: the input itself is not what it should be, or could not be read.
var ErrInconclusive = errors.New("inconclusive")

// Input is the truth: what the input topic holds.
type Input struct {
	Run uint32
	// Last is the number of records of each key.
	Last    map[uint32]uint64
	Records int64
	windows map[windowKey]Windowed
	// closed is the time up to which all windows have ended.
	closed int64
	max    map[int32]int64
}

type windowKey struct {
	key   uint32
	start int64
}

// NewInput returns that of a run, of which nothing was read yet.
func NewInput(run uint32) *Input {
	return &Input{Run: run, Last: map[uint32]uint64{}, windows: map[windowKey]Windowed{}, max: map[int32]int64{}}
}

// Add takes the next record of a partition.
func (in *Input) Add(partition int32, value []byte) error {
	r, err := ParseRecord(value)
	switch {
	case err != nil:
		return fmt.Errorf("%w: input: %w", ErrInconclusive, err)
	case r.Run != in.Run || r.Seq != in.Last[r.Key]+1 || r.TS < in.max[partition]:
		return fmt.Errorf("%w: input: %+v follows seq %d of its key", ErrInconclusive, r, in.Last[r.Key])
	}
	in.Last[r.Key], in.max[partition] = r.Seq, r.TS
	in.Records++
	k := windowKey{r.Key, r.TS - r.TS%Window}
	w, ok := in.windows[k]
	if !ok {
		w = Windowed{Key: r.Key, Run: r.Run, Start: k.start, Min: r.Seq}
	}
	w.Count, w.Sum, w.Min, w.Max = w.Count+1, w.Sum+r.Seq, min(w.Min, r.Seq), max(w.Max, r.Seq)
	in.windows[k] = w
	return nil
}

// Close says that all was read. The windows that have ended are those up to the smallest of the partitions' largest times.
func (in *Input) Close() {
	first := true
	for _, ts := range in.max {
		if first || ts < in.closed {
			in.closed, first = ts, false
		}
	}
	for k := range in.windows {
		if k.start+Window > in.closed {
			delete(in.windows, k)
		}
	}
}

// Expected is how many rows a topic should have.
func (in *Input) Expected(topic string) int64 {
	switch topic {
	case "j3":
		return int64(len(in.windows))
	case "j5":
		n := int64(0)
		for _, last := range in.Last {
			n += 1 + 2*int64(last/GroupEvery)
		}
		return n
	default:
		return in.Records
	}
}

// Oracle compares one output topic with the input. Add takes its committed records, those of each partition in their order; Finish says what is missing.
type Oracle struct {
	Count
	in *Input

	seen    map[uint32]*sequence
	windows map[windowKey]bool
	starts  map[uint32]int64
	groups  map[uint32]int64
}

// sequence is which seqs of a key were seen.
type sequence struct {
	bits      []uint64
	last, out uint64
}

// NewOracle returns that of a topic, named without prefix.
func NewOracle(topic string, in *Input) *Oracle {
	return &Oracle{
		Count: Count{Topic: topic, Expected: in.Expected(topic)}, in: in,
		seen: map[uint32]*sequence{}, windows: map[windowKey]bool{}, starts: map[uint32]int64{}, groups: map[uint32]int64{},
	}
}

// Add takes the next record.
func (o *Oracle) Add(value []byte) {
	o.Out++
	switch o.Topic {
	case "j2":
		c, err := ParseCounted(value)
		if err == nil && o.record(c.Record) && (c.Count != c.Seq || c.Sum != c.Seq*(c.Seq+1)/2) {
			o.note(&o.Wrong, "record %d of key %d was counted as number %d, with a sum of %d", c.Seq, c.Key, c.Count, c.Sum)
		}
		o.parsed(err)
	case "j3":
		w, err := ParseWindowed(value)
		if err == nil {
			o.window(w)
		}
		o.parsed(err)
	case "j5":
		g, err := ParseGrouped(value)
		if err == nil {
			o.group(g)
		}
		o.parsed(err)
	default:
		r, err := ParseRecord(value)
		if len(value) != RecordSize {
			err = errRecord
		}
		if err == nil {
			o.record(r)
		}
		o.parsed(err)
	}
}

func (o *Oracle) parsed(err error) {
	if err != nil {
		o.note(&o.Phantom, "row %d is damaged", o.Out)
	}
}

// record checks that a record is of the input, was not seen before, and follows those seen; false if it is not of the input.
func (o *Oracle) record(r Record) bool {
	if r.Run != o.in.Run || r.Seq == 0 || r.Seq > o.in.Last[r.Key] {
		o.note(&o.Phantom, "record %d of key %d of run %d is not of the input", r.Seq, r.Key, r.Run)
		return false
	}
	s := o.seen[r.Key]
	if s == nil {
		s = &sequence{bits: make([]uint64, o.in.Last[r.Key]/64+1)}
		o.seen[r.Key] = s
	}
	if s.bits[r.Seq/64]&(1<<(r.Seq%64)) != 0 {
		o.note(&o.Doubled, "record %d of key %d came again, after record %d", r.Seq, r.Key, s.last)
		return true
	}
	s.bits[r.Seq/64] |= 1 << (r.Seq % 64)
	s.out++
	if r.Seq < s.last {
		o.note(&o.Disordered, "record %d of key %d came after record %d", r.Seq, r.Key, s.last)
	}
	s.last = max(s.last, r.Seq)
	return true
}

func (o *Oracle) window(w Windowed) {
	k := windowKey{w.Key, w.Start}
	want, ok := o.in.windows[k]
	switch {
	case !ok:
		o.note(&o.Phantom, "window %d of key %d has no records in the input, or has not ended", w.Start, w.Key)
	case o.windows[k]:
		o.note(&o.Doubled, "window %d of key %d came again", w.Start, w.Key)
	default:
		o.windows[k] = true
		if w != want {
			o.note(&o.Wrong, "window %+v, want %+v", w, want)
		}
		if w.Start < o.starts[w.Key] {
			o.note(&o.Disordered, "window %d of key %d came after window %d", w.Start, w.Key, o.starts[w.Key])
		}
		o.starts[w.Key] = max(o.starts[w.Key], w.Start)
	}
}

// group checks that a group grows or shrinks by one with each row, and never below none: each prefix is a view that there was.
func (o *Oracle) group(g Grouped) {
	was := o.groups[g.Group]
	o.groups[g.Group] = g.Keys
	switch d := g.Keys - was; {
	case g.Run != o.in.Run || g.Group >= Groups:
		o.note(&o.Phantom, "%+v is of no group or another run", g)
	case g.Keys < 0 || g.Keys > int64(len(o.in.Last)):
		o.note(&o.Wrong, "group %d has %d of %d keys", g.Group, g.Keys, len(o.in.Last))
	case d == 0:
		o.note(&o.Doubled, "group %d has %d keys again", g.Group, g.Keys)
	case d != 1 && d != -1:
		o.note(&o.Wrong, "group %d went from %d to %d keys", g.Group, was, g.Keys)
	}
}

// Finish counts what has not come, and compares the last view.
func (o *Oracle) Finish() {
	switch o.Topic {
	case "j3":
		for k := range o.in.windows {
			if !o.windows[k] {
				o.note(&o.Lost, "window %d of key %d did not come", k.start, k.key)
			}
		}
	case "j5":
		want := map[uint32]int64{}
		for _, last := range o.in.Last {
			want[Group(last)]++
		}
		for g := range uint32(Groups) {
			if o.groups[g] != want[g] {
				o.note(&o.Wrong, "at the end group %d has %d keys, want %d", g, o.groups[g], want[g])
			}
		}
		if n := o.Expected - o.Out; n > 0 {
			o.Lost += n
		}
	default:
		for key, last := range o.in.Last {
			s := o.seen[key]
			if s == nil {
				s = &sequence{bits: make([]uint64, last/64+1)}
			}
			if s.out == last {
				continue
			}
			for seq := uint64(1); seq <= last; seq++ {
				if s.bits[seq/64]&(1<<(seq%64)) == 0 {
					o.note(&o.Lost, "record %d of %d of key %d did not come", seq, last, key)
				}
			}
		}
	}
}

// chain is what a sequence of records looks like: their offsets and values.
type chain struct {
	n   int64
	sum uint32
}

func (c *chain) add(r *kgo.Record) {
	c.n++
	var offset [8]byte
	for i := range offset {
		offset[i] = byte(r.Offset >> (8 * i))
	}
	c.sum = crc32.Update(crc32.Update(c.sum, crc32.IEEETable, offset[:]), crc32.IEEETable, r.Value)
}

// Check reads all topics of a run to their ends and compares. Nobody writes any more. tail is the live reader's, which has been closed, and may be nil.
func Check(ctx context.Context, bootstrap, prefix string, run uint32, flows []string, tail *Tail) (*Verdict, error) {
	in, err := ReadInput(ctx, bootstrap, prefix, run)
	if err != nil {
		return nil, err
	}
	v := &Verdict{In: in.Records}
	for _, topic := range Topics(flows) {
		o := NewOracle(topic, in)
		live := tail.of(topic)
		chains := map[int32]*chain{}
		match := func(p int32, c *chain) {
			if l := live[p]; l.n == c.n && l.sum != c.sum {
				o.note(&o.Dirty, "partition %d: what the live reader saw of its first %d records is not what is committed", p, c.n)
			}
		}
		err := scan(ctx, bootstrap, prefix+"."+topic, kgo.ReadCommitted(), func(r *kgo.Record) error {
			o.Add(r.Value)
			c := chains[r.Partition]
			if c == nil {
				c = new(chain)
				chains[r.Partition] = c
			}
			c.add(r)
			match(r.Partition, c)
			return nil
		})
		if err != nil {
			return nil, err
		}
		for p, l := range live {
			if c := chains[p]; c == nil || c.n < l.n {
				o.note(&o.Dirty, "partition %d: the live reader saw %d records, and fewer are committed", p, l.n)
			}
		}
		all := int64(0)
		if err := scan(ctx, bootstrap, prefix+"."+topic, kgo.ReadUncommitted(), func(*kgo.Record) error { all++; return nil }); err != nil {
			return nil, err
		}
		o.Finish()
		o.Aborted = all - o.Out
		v.Counts = append(v.Counts, o.Count)
	}
	v.Lingering, err = lingering(ctx, bootstrap, prefix)
	return v, err
}

// ReadInput reads the input topic of a run to its end.
func ReadInput(ctx context.Context, bootstrap, prefix string, run uint32) (*Input, error) {
	in := NewInput(run)
	if err := scan(ctx, bootstrap, prefix+".in", kgo.ReadCommitted(), func(r *kgo.Record) error { return in.Add(r.Partition, r.Value) }); err != nil {
		return nil, err
	}
	in.Close()
	return in, nil
}

// scan reads a topic from its beginning to where it ends now.
func scan(ctx context.Context, bootstrap, topic string, level kgo.IsolationLevel, each func(*kgo.Record) error) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.FetchIsolationLevel(level), kgo.KeepControlRecords())
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, 3*time.Minute, fmt.Errorf("%w: topic %s could not be read in 3 minutes", ErrInconclusive, topic))
	defer cancel()
	adm := kadm.NewClient(cl)
	ends, err := adm.ListEndOffsets(ctx, topic)
	if level == kgo.ReadCommitted() {
		ends, err = adm.ListCommittedOffsets(ctx, topic)
	}
	if err = errors.Join(err, ends.Error()); err != nil {
		return fmt.Errorf("%w: topic %s: %w", ErrInconclusive, topic, err)
	}
	left, at := map[int32]int64{}, map[int32]kgo.Offset{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition], at[o.Partition] = o.Offset, kgo.NewOffset().At(0)
		}
	})
	cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: at})
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		for _, e := range fetches.Errors() {
			return fmt.Errorf("%w: topic %s: %w", ErrInconclusive, topic, e.Err)
		}
		for it := fetches.RecordIter(); !it.Done(); {
			r := it.Next()
			if end, ok := left[r.Partition]; !ok || r.Offset >= end {
				continue
			} else if r.Offset == end-1 {
				delete(left, r.Partition)
			}
			if !r.Attrs.IsControl() {
				if err := each(r); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// lingering are the open transactions of a run's jobs: those that write its topics.
func lingering(ctx context.Context, bootstrap, prefix string) ([]string, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(bootstrap))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	list, err := adm.ListTransactions(ctx, nil, []string{"Ongoing", "PrepareCommit", "PrepareAbort"})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInconclusive, err)
	}
	described, err := adm.DescribeTransactions(ctx, list.TransactionalIDs()...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInconclusive, err)
	}
	var out []string
	for _, x := range described.Sorted() {
		for topic := range x.Topics {
			if strings.HasPrefix(topic, prefix+".") && !slices.Contains(out, x.TxnID) {
				out = append(out, x.TxnID)
			}
		}
	}
	return out, nil
}
