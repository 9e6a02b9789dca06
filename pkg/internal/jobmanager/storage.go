package jobmanager

import (
	"context"
	"strings"

	"github.com/rivulet-io/rivulet/pkg/fs"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/checkpoint"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
)

// Storage is where checkpoints and savepoints lie. Directories are URIs. It is safe for concurrent use.
type Storage interface {
	// WriteMetadata writes the metadata file of a snapshot durably: everything it names is durable. It returns the file's size.
	WriteMetadata(ctx context.Context, dir string, m *snapshotv1.Metadata) (size int64, err error)
	// Load reads the metadata of the snapshot in a directory (or of its metadata file). It wraps base.ErrCorrupt when it is damaged, fs.ErrNotExist when there is none.
	Load(ctx context.Context, path string) (checkpoint.Snapshot, error)
	// Verify reads all files that a snapshot names and compares their checksums; its errors are those of Load.
	Verify(ctx context.Context, s checkpoint.Snapshot) error
	// Discard deletes. What is not there any more is no error.
	Discard(ctx context.Context, d checkpoint.Discard) error
	// Sweep deletes what a run that was cut off has left in the directory of a job's checkpoints and none of keep names.
	Sweep(ctx context.Context, dir string, keep []checkpoint.Snapshot) error
	// Mark makes sure that a file of that name is in the directory of a job's checkpoints, by which TaskManagers know the directory; Sweep deletes it.
	Mark(ctx context.Context, dir, name string) error
	// WriteLedger records beside the checkpoints of a job that everything prepared up to a checkpoint is committed. ReadLedger returns 0 when there is no record.
	WriteLedger(ctx context.Context, dir string, upTo base.CheckpointID) error
	ReadLedger(ctx context.Context, dir string) (base.CheckpointID, error)
	// Directory returns the file system of a directory, and its name in it.
	Directory(uri string) (fs.FS, string, error)
}

// relative returns a path below root as one relative to it, so that the whole can be moved; any other as it is.
func relative(root, uri string) string {
	if rest, ok := strings.CutPrefix(uri, strings.TrimSuffix(root, "/")+"/"); ok && root != "" {
		return rest
	}
	return uri
}

// Resolve is the inverse of relative.
func Resolve(root, path string) string {
	if strings.Contains(path, ":/") || strings.HasPrefix(path, "/") || root == "" {
		return path
	}
	return strings.TrimSuffix(root, "/") + "/" + path
}
