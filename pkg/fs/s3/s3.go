// Package s3 is a file system on an S3-compatible object store, under s3://bucket/path. A program has it when it imports this package:
//
//	import _ "github.com/rivulet-io/rivulet/pkg/fs/s3"
//
// and configures it with Flink's options: s3.endpoint, s3.access-key, s3.secret-key and the other s3. keys of package config.
//
// Start with FS. Its law: an object is there whole or not at all, from when Sync or fs.WriteFile has returned, and nothing that matters depends on a list.
//
// A request that the store throttles or does not answer is tried again; all are safe to be done twice. What trying again cannot mend (no such bucket, access denied,
// another region) is permanent, and says what to do. A store has no directories and no renaming: directories are there with the objects below them.
package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/fs"
	"github.com/rivulet-io/rivulet/pkg/internal/storage"
)

func init() {
	open := func(c *config.Config) (fs.FS, error) { return New(c) }
	for _, scheme := range []string{"s3", "s3a"} {
		storage.Register(scheme, open)
	}
}

// FS is a file system on an object store. The first element of a name is the bucket: /bucket/path. It is safe for concurrent use.
type FS struct {
	core     minio.Core
	partSize int
	attempts int
	timeout  time.Duration

	mu      sync.Mutex
	buckets map[string]bool // those that are known to be there
}

var (
	_ fs.FS       = (*FS)(nil)
	_ fs.Replacer = (*FS)(nil)
	_ fs.Sweeper  = (*FS)(nil)
)

// New returns the file system of a configuration. It does no I/O.
func New(c *config.Config) (*FS, error) { return newFS(c, nil) }

// newFS takes the transport for tests; nil is the network.
func newFS(c *config.Config, transport http.RoundTripper) (*FS, error) {
	var errs []error
	text := func(k config.Key[string]) string { return get(c, k, &errs) }
	f := &FS{partSize: int(get(c, config.S3PartSize, &errs)), attempts: get(c, config.S3Attempts, &errs), timeout: get(c, config.S3Timeout, &errs), buckets: map[string]bool{}}
	access, secret, token := text(config.S3AccessKey), text(config.S3SecretKey), text(config.S3SessionToken)
	endpoint, region, pathStyle := text(config.S3Endpoint), text(config.S3Region), get(c, config.S3PathStyle, &errs)
	if (access == "") != (secret == "") {
		errs = append(errs, fmt.Errorf("%s and %s belong together: one of them is not set", config.S3AccessKey.Name, config.S3SecretKey.Name))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if transport == nil {
		transport = &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
			TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: f.timeout, ExpectContinueTimeout: time.Second,
			MaxIdleConnsPerHost: 16, // about the files that the tasks of a process write at once
			IdleConnTimeout:     time.Minute, DisableCompression: true,
		}
	}
	opts := &minio.Options{Secure: true, Transport: transport, Region: region, MaxRetries: 1}
	if endpoint == "" {
		endpoint = "s3.amazonaws.com"
	} else {
		if opts.Region == "" {
			opts.Region = "us-east-1"
		}
		scheme, host, ok := strings.Cut(endpoint, "://")
		if !ok {
			scheme, host = "https", endpoint
		}
		if u, err := url.Parse(scheme + "://" + host); err != nil || scheme != "http" && scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.User != nil {
			return nil, fmt.Errorf("%s: %q is no address: want https://HOST:PORT, or http://", config.S3Endpoint.Name, config.Redact(endpoint))
		}
		endpoint, opts.Secure = strings.TrimSuffix(host, "/"), scheme == "https"
	}
	switch {
	case pathStyle:
		opts.BucketLookup = minio.BucketLookupPath
	case config.IsSet(c, config.S3PathStyle):
		opts.BucketLookup = minio.BucketLookupDNS
	}
	if access != "" {
		opts.Creds = credentials.NewStaticV4(access, secret, token)
	} else {
		opts.Creds = credentials.NewChainCredentials([]credentials.Provider{&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{}})
	}
	client, err := minio.New(endpoint, opts)
	if err != nil {
		return nil, fmt.Errorf("%s: %q: %w", config.S3Endpoint.Name, endpoint, err)
	}
	f.core = minio.Core{Client: client}
	return f, nil
}

func get[T any](c *config.Config, k config.Key[T], errs *[]error) T {
	v, err := config.Get(c, k)
	if err != nil {
		*errs = append(*errs, err)
	}
	return v
}

// split takes a name apart; the key of a bucket itself is empty.
func split(name string) (bucket, key string) {
	bucket, key, _ = strings.Cut(strings.TrimPrefix(path.Clean(name), "/"), "/")
	return bucket, key
}

// Open implements fs.FS. The reader goes on only with the object that it has found: one that was replaced meanwhile is an error.
func (f *FS) Open(name string) (fs.Reader, error) {
	bucket, key := split(name)
	r := &reader{fs: f, name: name}
	err := f.do("open", name, 0, func(ctx context.Context) error {
		info, err := f.core.StatObject(ctx, bucket, key, minio.StatObjectOptions{})
		r.size, r.etag = info.Size, info.ETag
		return err
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

type reader struct {
	fs   *FS
	name string
	etag string
	size int64
}

// ReadAt implements fs.Reader: each call is a request of its own.
func (r *reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, &iofs.PathError{Op: "read", Path: uri(r.name), Err: errors.New("negative offset")}
	}
	want := int(min(int64(len(p)), max(r.size-off, 0)))
	n := 0
	bucket, key := split(r.name)
	if want > 0 {
		err := r.fs.do("read", r.name, want, func(ctx context.Context) error {
			var opts minio.GetObjectOptions
			if err := opts.SetRange(off+int64(n), off+int64(want)-1); err != nil {
				return err
			}
			if r.etag != "" {
				if err := opts.SetMatchETag(r.etag); err != nil {
					return err
				}
			}
			body, info, _, err := r.fs.core.GetObject(ctx, bucket, key, opts)
			if err != nil {
				return err
			}
			if info.Size != int64(want-n) {
				return errors.Join(fmt.Errorf("asked for %d bytes, %d are sent", want-n, info.Size), body.Close())
			}
			got, err := io.ReadFull(body, p[n:want])
			n += got // the next attempt goes on from here
			return errors.Join(err, body.Close())
		})
		if err != nil {
			return n, err
		}
	}
	if want < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (r *reader) Size() int64  { return r.size }
func (r *reader) Close() error { return nil }

// Rename implements fs.FS: it is refused, since a store can only copy.
func (f *FS) Rename(_, to string) error {
	return &iofs.PathError{Op: "rename", Path: uri(to), Err: errors.ErrUnsupported}
}

// Remove implements fs.FS. It is no error if there is none: a store does not say.
func (f *FS) Remove(name string) error {
	bucket, key := split(name)
	return f.do("remove", name, 0, func(ctx context.Context) error {
		return f.core.RemoveObject(ctx, bucket, key, minio.RemoveObjectOptions{})
	})
}

// RemoveAll implements fs.FS. What the store does not list stays.
func (f *FS) RemoveAll(name string) error {
	bucket, key := split(name)
	if key == "" {
		return &iofs.PathError{Op: "remove all", Path: uri(name), Err: errors.New("a bucket is not emptied")}
	}
	return f.do("remove all", name, 0, func(ctx context.Context) error {
		if err := f.core.RemoveObject(ctx, bucket, key, minio.RemoveObjectOptions{}); err != nil {
			return err
		}
		var listing error
		found := func(yield func(minio.ObjectInfo) bool) {
			for o := range f.core.ListObjectsIter(ctx, bucket, minio.ListObjectsOptions{Prefix: key + "/", Recursive: true}) {
				if o.Err != nil {
					listing = o.Err
					return
				}
				if !yield(o) {
					return
				}
			}
		}
		results, err := f.core.RemoveObjectsWithIter(ctx, bucket, found, minio.RemoveObjectsOptions{})
		if err != nil {
			return err
		}
		for r := range results {
			if r.Err != nil && minio.ToErrorResponse(r.Err).Code != minio.NoSuchKey {
				err = r.Err
			}
		}
		return errors.Join(listing, err)
	})
}

// Sweep implements fs.Sweeper: it aborts uploads below a directory whose process has died. A store keeps, and charges for, their parts.
func (f *FS) Sweep(dir string) error {
	bucket, key := split(dir)
	err := f.do("abort uploads", dir, 0, func(ctx context.Context) error {
		var marker, id string
		for {
			r, err := f.core.ListMultipartUploads(ctx, bucket, key+"/", marker, id, "", 1000)
			if err != nil {
				return err
			}
			for _, u := range r.Uploads {
				if !strings.HasPrefix(u.Key, key+"/") {
					continue
				}
				if err := f.core.AbortMultipartUpload(ctx, bucket, u.Key, u.UploadID); err != nil && !isGone(err) {
					return err
				}
			}
			if !r.IsTruncated || r.NextKeyMarker == marker && r.NextUploadIDMarker == id {
				return nil
			}
			marker, id = r.NextKeyMarker, r.NextUploadIDMarker
		}
	})
	if isUnknownCall(err) {
		return nil // a store without this call cleans up by itself
	}
	return err
}

// MkdirAll implements fs.FS: there is nothing to do.
func (*FS) MkdirAll(string) error { return nil }

// SyncDir implements fs.FS: there is nothing to do.
func (*FS) SyncDir(string) error { return nil }

// ReadDir implements fs.FS.
func (f *FS) ReadDir(dir string) ([]fs.Entry, error) {
	bucket, key := split(dir)
	prefix := ""
	if key != "" {
		prefix = key + "/"
	}
	var out []fs.Entry
	err := f.do("list", dir, 0, func(ctx context.Context) error {
		out = nil
		for o := range f.core.ListObjectsIter(ctx, bucket, minio.ListObjectsOptions{Prefix: prefix}) {
			if o.Err != nil {
				return o.Err
			}
			switch name := strings.TrimPrefix(o.Key, prefix); {
			case name == "":
			case strings.HasSuffix(name, "/"):
				out = append(out, fs.Entry{Name: strings.TrimSuffix(name, "/"), Dir: true})
			default:
				out = append(out, fs.Entry{Name: name, Size: o.Size})
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(out) == 0 && key != "" {
		return nil, &iofs.PathError{Op: "list", Path: uri(dir), Err: iofs.ErrNotExist}
	}
	slices.SortFunc(out, func(a, b fs.Entry) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// Lock implements fs.FS: it is refused.
func (*FS) Lock(name string) (io.Closer, error) {
	return nil, &iofs.PathError{Op: "lock", Path: uri(name), Err: errors.ErrUnsupported}
}

// uri is a name as the user knows it.
func uri(name string) string { return "s3:/" + path.Clean("/"+name) }
