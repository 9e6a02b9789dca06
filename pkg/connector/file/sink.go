package file

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	iofs "io/fs"
	"log/slog"
	"path"
	"strconv"
	"strings"

	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/fs"
)

// SinkOption configures a sink.
type SinkOption func(*sinkOptions)

type sinkOptions struct {
	dir            string
	prefix, suffix string
	partBytes      int64
	atLeastOnce    bool
	fsys           fs.FS
	errs           []error
}

// AtLeastOnce makes lines visible when a checkpoint is taken or a part file is full, instead of when the checkpoint is complete: after a restart, lines since the last
// checkpoint are written again. It is for jobs without checkpoints, whose lines become visible when a part file is full and at the end.
func AtLeastOnce() SinkOption { return func(o *sinkOptions) { o.atLeastOnce = true } }

// PartBytes sets the size, in bytes, at which a new part file is begun. The default is 128 MB, as in Flink.
func PartBytes(n int64) SinkOption {
	return func(o *sinkOptions) {
		o.partBytes = n
		if n < 1 {
			o.errs = append(o.errs, fmt.Errorf("file: part files of %d bytes: want at least 1", n))
		}
	}
}

// PartNames sets what the names of part files begin with, by default "part", and end with, by default nothing: "part-4f1c...-0.jsonl".
func PartNames(prefix, suffix string) SinkOption {
	return func(o *sinkOptions) {
		o.prefix, o.suffix = prefix, suffix
		if prefix == "" || hidden(prefix) || strings.ContainsAny(prefix+suffix, "/\\\x00") {
			o.errs = append(o.errs, fmt.Errorf("file: part names from %q to %q: want a prefix that does not begin with . or _, and no slashes", prefix, suffix))
		}
	}
}

func sinkOnFS(fsys fs.FS) SinkOption { return func(o *sinkOptions) { o.fsys = fsys } }

// Sink writes lines to part files in a directory, which it makes. A file is called .part-ID-N.inprogress.TAG while it is written, and until the checkpoint is complete that its
// lines belong to; then it gets its final name, part-ID-N, and is not changed any more. Each checkpoint, and PartBytes, begin new ones. Lines of one subtask are in order within
// a file, and files of one ID in the order of N.
//
// Files that an earlier run of the job left unfinished are removed when it starts again; they are told by TAG from those of other jobs and sinks in the directory.
//
// It is exactly-once, and needs checkpoints, unless AtLeastOnce is given.
func Sink[T any](dir string, f Format[T], opts ...SinkOption) connector.Sink[T] {
	s := &sink[T]{format: f, sinkOptions: sinkOptions{dir: dir, prefix: "part", partBytes: 128 << 20, fsys: fs.Local{}}}
	for _, o := range opts {
		o(&s.sinkOptions)
	}
	return s
}

type sink[T any] struct {
	sinkOptions
	format Format[T]
}

func (s *sink[T]) Commits() bool { return !s.atLeastOnce }

func (s *sink[T]) Validate() error {
	errs := s.errs
	if _, err := absolute(s.dir); err != nil {
		errs = append(errs, err)
	}
	if s.format.Append == nil {
		errs = append(errs, errors.New("file: the format has no Append"))
	}
	return errors.Join(errs...)
}

func (s *sink[T]) NewWriter(ctx connector.WriterContext) (connector.Writer[T], error) {
	dir, err := absolute(s.dir)
	if err != nil {
		return nil, err
	}
	if err := s.fsys.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("file: %w", err)
	}
	w := &writer[T]{o: &s.sinkOptions, format: s.format, dir: dir, id: rand.Text()[:16], tag: tag(ctx.Job, ctx.Operator)}
	if s.atLeastOnce {
		// There is no committer to do it. Each subtask removes what was left by those that it stands for now.
		if err := removed(s.fsys, dir, ctx.Logger, func(name string) bool {
			n, err := strconv.Atoi(path.Ext(name)[1:])
			return err == nil && n%ctx.Parallelism == ctx.Subtask && strings.HasSuffix(name, inProgress+w.tag+path.Ext(name))
		}); err != nil {
			return nil, err
		}
		w.tag = fmt.Sprintf("%s.%d", w.tag, ctx.Subtask)
	}
	return w, nil
}

func (s *sink[T]) NewCommitter(ctx connector.CommitterContext) (connector.Committer, error) {
	if s.atLeastOnce {
		return nil, nil //nolint:nilnil // the contract: it does not commit
	}
	dir, err := absolute(s.dir)
	if err != nil {
		return nil, err
	}
	return &committer{fsys: s.fsys, here: place{dir: dir, tag: tag(ctx.Job, ctx.Operator)}, log: ctx.Logger}, nil
}

// tag tells the unfinished files of one job's sink from others'.
func tag(job, operator string) string {
	h := sha256.Sum256([]byte(job + "\x00" + operator))
	return hex.EncodeToString(h[:4])
}

// inProgress stands in the name of a part file that has not its final name.
const inProgress = ".inprogress."

// part is a part file whose writing has ended.
type part struct {
	dir         string
	name, final string // the present and the final name, in dir
	size        int64  // bytes
}

// place is where a sink's unfinished files are, and how they are told.
type place struct{ dir, tag string }

// encode writes the version, the size, and the strings with their lengths, all numbers as uvarints.
func (p part) encode() []byte {
	return appendStrings(binary.AppendUvarint([]byte{version}, uint64(p.size)), p.dir, p.name, p.final)
}

// encode writes the version and the strings with their lengths.
func (p place) encode() []byte { return appendStrings([]byte{version}, p.dir, p.tag) }

func appendStrings(b []byte, all ...string) []byte {
	for _, s := range all {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	return b
}

var errCorruptSink = errors.New("file: malformed stored part file")

// cutStrings decodes strings up to the end of b.
func cutStrings(b []byte, into ...*string) error {
	for _, s := range into {
		n, w := binary.Uvarint(b)
		if w <= 0 || n > uint64(len(b)-w) {
			return fmt.Errorf("%w: length of a string", errCorruptSink)
		}
		*s, b = string(b[w:w+int(n)]), b[w+int(n):]
	}
	if len(b) > 0 {
		return fmt.Errorf("%w: %d bytes left over", errCorruptSink, len(b))
	}
	return nil
}

func decodePart(b []byte) (p part, err error) {
	if len(b) == 0 || b[0] != version {
		return p, fmt.Errorf("%w: unknown version", errCorruptSink)
	}
	n, w := binary.Uvarint(b[1:])
	if w <= 0 || n > 1<<62 {
		return p, fmt.Errorf("%w: size", errCorruptSink)
	}
	p.size = int64(n)
	if err := cutStrings(b[1+w:], &p.dir, &p.name, &p.final); err != nil {
		return p, err
	}
	if !path.IsAbs(p.dir) || path.Base(p.name) != p.name || path.Base(p.final) != p.final {
		return p, fmt.Errorf("%w: %q, %q, %q", errCorruptSink, p.dir, p.name, p.final)
	}
	return p, nil
}

func decodePlace(b []byte) (p place, err error) {
	if len(b) == 0 || b[0] != version {
		return p, fmt.Errorf("%w: unknown version", errCorruptSink)
	}
	if err := cutStrings(b[1:], &p.dir, &p.tag); err != nil {
		return p, err
	}
	if !path.IsAbs(p.dir) || p.tag == "" {
		return p, fmt.Errorf("%w: %q, %q", errCorruptSink, p.dir, p.tag)
	}
	return p, nil
}

// commit gives a part file its final name. It may have it already.
func (p part) commit(fsys fs.FS) error {
	err := fsys.Rename(path.Join(p.dir, p.name), path.Join(p.dir, p.final))
	if err == nil || !errors.Is(err, iofs.ErrNotExist) {
		return err
	}
	size, err := sizeOf(fsys, path.Join(p.dir, p.final))
	switch {
	case errors.Is(err, iofs.ErrNotExist):
		return connector.Permanent(fmt.Errorf("file: %s is gone, and with it %d bytes of output: neither it nor %s is in %s", p.name, p.size, p.final, p.dir))
	case err != nil:
		return err
	case size != p.size:
		return connector.Permanent(fmt.Errorf("file: %s has %d bytes, and was written with %d", path.Join(p.dir, p.final), size, p.size))
	}
	return nil
}

func sizeOf(fsys fs.FS, name string) (int64, error) {
	r, err := fsys.Open(name)
	if err != nil {
		return 0, err
	}
	return r.Size(), r.Close()
}

// commitAll commits part files, durably.
func commitAll(ctx context.Context, fsys fs.FS, parts []part) error {
	dirs := map[string]bool{}
	for _, p := range parts {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := p.commit(fsys); err != nil {
			return err
		}
		dirs[p.dir] = true
	}
	for dir := range dirs {
		if err := fsys.SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// removed removes the unfinished files in a directory that are ours.
func removed(fsys fs.FS, dir string, log *slog.Logger, ours func(name string) bool) error {
	entries, err := fsys.ReadDir(dir)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil
	}
	n := 0
	for _, e := range entries {
		if !e.Dir && strings.HasPrefix(e.Name, ".") && ours(e.Name) {
			if err = fsys.Remove(path.Join(dir, e.Name)); err != nil && !errors.Is(err, iofs.ErrNotExist) {
				break
			}
			n++
		}
	}
	if err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return fmt.Errorf("file: remove unfinished part files: %w", err)
	}
	if n > 0 && log != nil {
		log.Info("unfinished part files of an earlier run removed", slog.Int("files", n), slog.String("dir", dir))
	}
	return nil
}

// committer finishes and removes what writers left.
type committer struct {
	fsys fs.FS
	here place
	log  *slog.Logger
}

func (c *committer) Recover(ctx context.Context, r connector.Recovery) error {
	parts, err := decodeParts(r.Committables)
	if err != nil {
		return err
	}
	if err := commitAll(ctx, c.fsys, parts); err != nil {
		return err
	}
	places := []place{c.here}
	if r.Sink != nil {
		there, err := decodePlace(r.Sink)
		if err != nil {
			return connector.Permanent(err)
		}
		if there != c.here {
			places = append(places, there)
		}
	}
	for _, p := range places {
		if err := removed(c.fsys, p.dir, c.log, func(name string) bool { return strings.HasSuffix(name, inProgress+p.tag) }); err != nil {
			return err
		}
	}
	return nil
}

func decodeParts(committables [][]byte) (parts []part, err error) {
	for _, b := range committables {
		p, err := decodePart(b)
		if err != nil {
			return nil, connector.Permanent(err)
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// StillOpen reports whether none of a checkpoint's part files has its final name: going back behind the checkpoint then doubles nothing.
func (c *committer) StillOpen(_ context.Context, r connector.Recovery) (bool, error) {
	parts, err := decodeParts(r.Committables)
	if err != nil {
		return false, err
	}
	for _, p := range parts {
		_, err := sizeOf(c.fsys, path.Join(p.dir, p.name))
		if errors.Is(err, iofs.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return len(parts) > 0, nil
}

func (c *committer) Close() error { return nil }
