package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	iofs "io/fs"

	"github.com/minio/minio-go/v7"

	"github.com/rivulet-io/rivulet/pkg/fs"
)

// Replace implements fs.Replacer: one request, after which the object is the old or the new one.
func (f *FS) Replace(name string, b []byte) error {
	err := f.put(name, b)
	if err != nil && retryable(err) {
		return fmt.Errorf("%w: %w", fs.ErrUnknownOutcome, err) // one of the attempts may have been heard, or still be under way
	}
	return err
}

func (f *FS) put(name string, b []byte) error {
	bucket, key := split(name)
	sum := sha256.Sum256(b)
	return f.do("write", name, len(b), func(ctx context.Context) error {
		// The sum is signed with the request: the store refuses other bytes.
		_, err := f.core.PutObject(ctx, bucket, key, bytes.NewReader(b), int64(len(b)), "", hex.EncodeToString(sum[:]), minio.PutObjectOptions{DisableContentSha256: true})
		return err
	})
}

// Create implements fs.FS. Nothing is there before Sync, and nothing at all when the file is closed without it.
func (f *FS) Create(name string) (fs.File, error) { return &file{fs: f, name: name}, nil }

// file collects what is written: a small file is one request, a large one an upload in parts.
type file struct {
	fs    *FS
	name  string
	buf   []byte
	id    string // of the upload in parts, when it has begun
	parts []minio.CompletePart
	size  int64
	err   error // the file is given up
	done  bool
}

var errSynced = errors.New("it is whole already: an object cannot grow")

// growth is how many parts have one size. The ten thousand that a store allows are enough for 775 GB of the least parts.
const growth = 2000

// partSize is that of the part to come.
func (w *file) partSize() int { return w.fs.partSize << (len(w.parts) / growth) }

func (w *file) Write(p []byte) (int, error) {
	if w.done && w.err == nil {
		w.err = &iofs.PathError{Op: "write", Path: uri(w.name), Err: errSynced}
	}
	n := 0
	for w.err == nil && n < len(p) {
		if len(w.buf) == w.partSize() {
			w.err = w.upload()
			continue
		}
		take := min(len(p)-n, w.partSize()-len(w.buf))
		w.buf = append(w.buf, p[n:n+take]...)
		n += take
	}
	return n, w.err
}

// upload sends the buffer as a part.
func (w *file) upload() error {
	bucket, key := split(w.name)
	if w.id == "" {
		err := w.fs.do("begin upload", w.name, 0, func(ctx context.Context) (err error) {
			w.id, err = w.fs.core.NewMultipartUpload(ctx, bucket, key, minio.PutObjectOptions{})
			return err
		})
		if err != nil {
			return err
		}
	}
	sum := sha256.Sum256(w.buf)
	opts := minio.PutObjectPartOptions{Sha256Hex: hex.EncodeToString(sum[:]), DisableContentSha256: true}
	number := len(w.parts) + 1
	err := w.fs.do(fmt.Sprintf("upload part %d", number), w.name, len(w.buf), func(ctx context.Context) error {
		part, err := w.fs.core.PutObjectPart(ctx, bucket, key, w.id, number, bytes.NewReader(w.buf), int64(len(w.buf)), opts)
		if err == nil {
			w.parts = append(w.parts, minio.CompletePart{PartNumber: number, ETag: part.ETag})
		}
		return err
	})
	w.size += int64(len(w.buf))
	w.buf = w.buf[:0]
	return err
}

// Sync implements fs.File: the object is there, whole. Nothing can be written any more.
func (w *file) Sync() error {
	if w.done || w.err != nil {
		return w.err
	}
	if w.id == "" {
		w.err = w.fs.put(w.name, w.buf)
	} else {
		w.err = w.complete()
	}
	w.done = w.err == nil
	return w.err
}

func (w *file) complete() error {
	if len(w.buf) > 0 {
		if err := w.upload(); err != nil {
			return err
		}
	}
	bucket, key := split(w.name)
	return w.fs.do("complete upload", w.name, 0, func(ctx context.Context) error {
		_, err := w.fs.core.CompleteMultipartUpload(ctx, bucket, key, w.id, w.parts, minio.PutObjectOptions{})
		if err == nil || !isGone(err) {
			return err
		}
		// An attempt before this one was heard, if the object is there.
		info, serr := w.fs.core.StatObject(ctx, bucket, key, minio.StatObjectOptions{})
		if serr != nil || info.Size != w.size {
			return errors.Join(err, serr)
		}
		return nil
	})
}

// Close implements fs.File. Without a Sync that succeeded it aborts the upload; parts that cannot be deleted now are swept when the job starts again.
func (w *file) Close() error {
	w.buf = nil
	if w.done || w.id == "" {
		return nil
	}
	w.done = true
	if w.err == nil {
		w.err = &iofs.PathError{Op: "write", Path: uri(w.name), Err: iofs.ErrClosed}
	}
	bucket, key := split(w.name)
	return w.fs.do("abort upload", w.name, 0, func(ctx context.Context) error {
		if err := w.fs.core.AbortMultipartUpload(ctx, bucket, key, w.id); err != nil && !isGone(err) {
			return err
		}
		return nil
	})
}
