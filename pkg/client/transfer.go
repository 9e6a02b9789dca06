package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// SnapshotFile is a file of a savepoint or checkpoint, named relative to the directory above all its files.
type SnapshotFile struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
}

// SnapshotFiles lists the files of the savepoint or checkpoint in a directory that the server sees; the last is what makes them a snapshot.
func (c *Client) SnapshotFiles(ctx context.Context, path string) ([]SnapshotFile, error) {
	var out struct {
		Files []SnapshotFile `json:"files"`
	}
	err := c.Get(ctx, "/savepoint-files?path="+url.QueryEscape(path), &out)
	return out.Files, err
}

// SnapshotIdentity is the same at two servers when a directory has the same savepoint or checkpoint for both. An *Error says that there is none from which the server
// could start a job.
func (c *Client) SnapshotIdentity(ctx context.Context, path string) (string, error) {
	var out struct{ Identity string }
	err := again(ctx, func() error { return c.Get(ctx, "/savepoint-files/identity?path="+url.QueryEscape(path), &out) })
	if err == nil && out.Identity == "" {
		err = fmt.Errorf("%s answers no identity of %s", c.base, path)
	}
	return out.Identity, err
}

// maxMetadata is how large a metadata file may be for Check: requests are bounded.
const maxMetadata = 6 << 20

// Metadata fetches the metadata file of the savepoint or checkpoint in a directory that the server sees; nil when it is too large for Check.
func (c *Client) Metadata(ctx context.Context, path string) (out []byte, err error) {
	files, err := c.SnapshotFiles(ctx, path)
	if err != nil || len(files) == 0 || files[len(files)-1].Size > maxMetadata {
		return nil, err
	}
	for f := files[len(files)-1]; int64(len(out)) < f.Size; {
		b, err := c.piece(ctx, path, f.Name, int64(len(out)))
		if err != nil {
			return nil, err
		}
		if len(b) == 0 {
			return nil, fmt.Errorf("%s: it has %d of %d bytes", f.Name, len(out), f.Size)
		}
		out = append(out, b...)
	}
	return out, nil
}

// Check asks whether the server could start a program from the state of which metadata is the metadata file; text says why not, operator by operator. A NotFound error
// says that the server does not know.
func (c *Client) Check(ctx context.Context, program string, s Start, metadata []byte) (ok bool, text string, err error) {
	settings := map[string]string{}
	if s.Name != "" {
		settings["pipeline.name"] = s.Name
	}
	if s.Parallelism > 0 {
		settings["parallelism.default"] = strconv.Itoa(s.Parallelism)
	}
	body := map[string]any{"program": program, "programArgsList": s.Args, "flinkConfiguration": settings, "allowNonRestoredState": s.AllowNonRestoredState, "metadata": metadata}
	var out struct {
		OK   bool
		Text string
	}
	err = c.do(ctx, http.MethodPost, "/savepoint-checks", body, &out)
	return out.OK, out.Text, err
}

// holdInterval is how often a hold is repeated, well before the server forgets it.
const holdInterval = 4 * time.Second

// Hold keeps the server from ending with its last job until release is called, or the caller dies: its savepoint's files can be fetched meanwhile. It ends all the same
// when it is told to.
func (c *Client) Hold(ctx context.Context) (release func(), err error) {
	at := "/savepoint-holds/" + randomID()
	if err := c.do(ctx, http.MethodPut, at, nil, &struct{}{}); err != nil {
		return nil, err
	}
	repeat, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for Pause(repeat, holdInterval) == nil {
			_ = c.do(repeat, http.MethodPut, at, nil, &struct{}{}) // the next may succeed
		}
	}()
	return func() {
		stop()
		<-done
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), holdInterval)
		defer cancel()
		_ = c.do(late, http.MethodDelete, at, nil, &struct{}{}) // it ends by itself
	}, nil
}

// randomID is one that a request is known by.
func randomID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // crypto/rand.Read never fails
	return hex.EncodeToString(b)
}

// Progress is told how many bytes of how many have been carried.
type Progress func(done, total int64)

const (
	// transferPiece is how many bytes a request carries.
	transferPiece = 1 << 20
	// checksumHeader has a piece's CRC-32C, in hexadecimal.
	checksumHeader = "Rivulet-Checksum"
	// transferAttempts is how often a piece is tried, retryPause what is between two attempts.
	transferAttempts = 5
	retryPause       = 500 * time.Millisecond
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// CopySnapshot carries the savepoint or checkpoint in a directory that from sees to the server to, and returns its directory there, from which a job can start: its
// checksums have been verified. One piece of at most 1 MB is in memory. What an error leaves at the target is deleted there. progress may be nil.
func CopySnapshot(ctx context.Context, from *Client, path string, to *Client, progress Progress) (string, error) {
	files, err := from.SnapshotFiles(ctx, path)
	if err != nil {
		return "", fmt.Errorf("%s at %s: %w", path, from.base, err)
	}
	upload := "/savepoint-uploads/" + randomID()
	var result struct{ Path string }
	if err := to.do(ctx, http.MethodPut, upload, nil, &result); err != nil {
		return "", fmt.Errorf("%s does not take a snapshot in: %w", to.base, err)
	}
	err = carry(ctx, from, path, files, to, upload, progress)
	if err == nil {
		err = again(ctx, func() error { return to.do(ctx, http.MethodPost, upload, nil, &result) })
	}
	if err != nil {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if aerr := to.do(late, http.MethodDelete, upload, nil, &struct{}{}); aerr != nil {
			err = fmt.Errorf("%w; what was carried of it could not be deleted: %w", err, aerr)
		}
		return "", fmt.Errorf("carry %s from %s to %s: %w", path, from.base, to.base, err)
	}
	return result.Path, nil
}

func carry(ctx context.Context, from *Client, path string, files []SnapshotFile, to *Client, upload string, progress Progress) error {
	var done, total int64
	for _, f := range files {
		total += f.Size
	}
	for _, f := range files {
		for offset := int64(0); offset < f.Size || offset == 0; {
			b, err := from.piece(ctx, path, f.Name, offset)
			if err != nil {
				return fmt.Errorf("%s at byte %d: %w", f.Name, offset, err)
			}
			if want := min(transferPiece, f.Size-offset); int64(len(b)) != want {
				return fmt.Errorf("%s at byte %d: %d bytes were sent, want %d", f.Name, offset, len(b), want)
			}
			q := url.Values{"file": {f.Name}, "offset": {strconv.FormatInt(offset, 10)}, "size": {strconv.FormatInt(f.Size, 10)}}
			err = again(ctx, func() error {
				_, err := to.bytes(ctx, http.MethodPatch, upload+"?"+q.Encode(), b)
				return err
			})
			if err != nil {
				return fmt.Errorf("%s at byte %d: %w", f.Name, offset, err)
			}
			offset += int64(len(b))
			if done += int64(len(b)); progress != nil {
				progress(done, total)
			}
			if f.Size == 0 {
				break
			}
		}
	}
	return nil
}

// piece asks for a piece of a file, and checks it.
func (c *Client) piece(ctx context.Context, path, file string, offset int64) (b []byte, err error) {
	q := url.Values{"path": {path}, "file": {file}, "offset": {strconv.FormatInt(offset, 10)}}
	err = again(ctx, func() (err error) {
		b, err = c.bytes(ctx, http.MethodGet, "/savepoint-files/content?"+q.Encode(), nil)
		return err
	})
	return b, err
}

// again repeats what the server did not answer, or cannot do now.
func again(ctx context.Context, f func() error) error {
	for attempt := 1; ; attempt++ {
		err := f()
		var refused *Error
		if err == nil || attempt == transferAttempts || ctx.Err() != nil || errors.As(err, &refused) && refused.Status != http.StatusServiceUnavailable {
			return err
		}
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// bytes sends bytes or receives some, with their checksum.
func (c *Client) bytes(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if method != http.MethodGet {
		req.Header.Set("Content-Type", "application/octet-stream")
		req.Header.Set(checksumHeader, fmt.Sprintf("%08x", crc32.Checksum(body, castagnoli)))
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w at %s: %w", ErrUnreachable, c.base, err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	b, err := io.ReadAll(io.LimitReader(resp.Body, transferPiece+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w at %s: %w", ErrUnreachable, c.base, err)
	case resp.StatusCode >= http.StatusBadRequest:
		return nil, &Error{Status: resp.StatusCode, Message: message(resp.Status, b)}
	case method != http.MethodGet:
		return nil, nil
	}
	if sum := fmt.Sprintf("%08x", crc32.Checksum(b, castagnoli)); sum != resp.Header.Get(checksumHeader) {
		return nil, fmt.Errorf("%w at %s: a piece was damaged on the way", ErrUnreachable, c.base)
	}
	return b, nil
}
