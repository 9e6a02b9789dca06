package rest

import (
	"cmp"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"net/http"
	"regexp"
	"strconv"

	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/jobmanager"
	"github.com/rivulet-io/rivulet/pkg/internal/storage"
)

// checksumHeader has the CRC-32C of a piece of a file, in hexadecimal.
const checksumHeader = "Rivulet-Checksum"

// piece is an answer of bytes, with their checksum.
type piece []byte

type fileBody struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
}

type filesBody struct {
	Path  string     `json:"path"`
	Files []fileBody `json:"files"`
}

type identityBody struct {
	Path     string `json:"path"`
	Identity string `json:"identity"`
}

type uploadBody struct {
	ID   string `json:"id"`
	Path string `json:"path"`
}

// transferError says who is to blame for what went wrong.
func transferError(err error) error {
	switch {
	case errors.Is(err, jobmanager.ErrTransfer), base.ClassOf(err) == base.ClassCorrupt:
		return failuref(http.StatusBadRequest, "%v", err)
	case errors.Is(err, fs.ErrNotExist):
		return failuref(http.StatusNotFound, "%v", err)
	}
	return err
}

// snapshot is the directory that a request names.
func (r *request) snapshot() (string, error) {
	dir := r.URL.Query().Get("path")
	if dir == "" {
		return "", failuref(http.StatusBadRequest, "Query parameter path must not be omitted.")
	}
	return r.s.target(dir, nil)
}

func (r *request) number(name string) (int64, error) {
	n, err := strconv.ParseInt(r.URL.Query().Get(name), 10, 64)
	if err != nil || n < 0 {
		return 0, failuref(http.StatusBadRequest, "Query parameter %s: want a number, not %q.", name, r.URL.Query().Get(name))
	}
	return n, nil
}

func (r *request) snapshotFiles() (any, error) {
	dir, err := r.snapshot()
	if err != nil {
		return nil, err
	}
	list, err := r.s.cfg.JobManager.SnapshotFiles(r.Context(), dir)
	if err != nil {
		return nil, transferError(err)
	}
	out := filesBody{Path: dir, Files: make([]fileBody, len(list))}
	for i, f := range list {
		out.Files[i] = fileBody(f)
	}
	return out, nil
}

func (r *request) snapshotContent() (any, error) {
	dir, err := r.snapshot()
	if err != nil {
		return nil, err
	}
	offset, err := r.number("offset")
	if err != nil {
		return nil, err
	}
	b, err := r.s.cfg.JobManager.ReadSnapshot(r.Context(), dir, r.URL.Query().Get("file"), offset)
	if err != nil {
		return nil, transferError(err)
	}
	return piece(b), nil
}

// snapshotIdentity answers for any directory when a job could be started from any.
func (r *request) snapshotIdentity() (any, error) {
	var dir string
	var err error
	if asked := r.URL.Query().Get("path"); r.s.cfg.Session != nil && asked != "" {
		if dir, err = cleanURI(asked); err != nil {
			err = failuref(http.StatusBadRequest, "The directory %q is refused: %v.", asked, err)
		}
	} else {
		dir, err = r.snapshot()
	}
	if err != nil {
		return nil, err
	}
	id, err := r.s.cfg.JobManager.SnapshotIdentity(r.Context(), dir, r.s.savepoints())
	switch {
	case base.ClassOf(err) == base.ClassPermanent, errors.Is(err, fs.ErrPermission):
		return nil, failuref(http.StatusNotFound, "%v", err) // no file system for it here
	case err != nil:
		return nil, transferError(err)
	}
	return identityBody{dir, id}, nil
}

// savepoints is where uploads go.
func (s *Server) savepoints() string {
	_, below := s.cfg.JobManager.SnapshotDirs()
	return cmp.Or(config.CheckpointingOf(s.cfg.Config).SavepointDir, below)
}

func (r *request) holdID() (string, error) {
	id := r.PathValue("holdid")
	if !uploadID.MatchString(id) {
		return "", badParameter("holdid", id)
	}
	return id, nil
}

func (r *request) hold() (any, error) {
	id, err := r.holdID()
	if err == nil {
		r.s.orders.hold(id)
	}
	return struct{}{}, err
}

func (r *request) release() (any, error) {
	id, err := r.holdID()
	if err == nil {
		r.s.orders.release(id)
	}
	return struct{}{}, err
}

var uploadID = regexp.MustCompile("^[0-9a-f]{32}$")

func (r *request) uploadID() (string, error) {
	id := r.PathValue("uploadid")
	if !uploadID.MatchString(id) {
		return "", badParameter("uploadid", id)
	}
	return id, nil
}

func (r *request) beginUpload() (any, error) {
	id, err := r.uploadID()
	if err != nil {
		return nil, err
	}
	dir, err := r.s.cfg.JobManager.BeginUpload(id, r.s.savepoints())
	if err != nil {
		return nil, transferError(err)
	}
	return uploadBody{id, dir}, nil
}

func (r *request) uploadPiece() (any, error) {
	id, err := r.uploadID()
	if err != nil {
		return nil, err
	}
	offset, err := r.number("offset")
	if err != nil {
		return nil, err
	}
	size, err := r.number("size")
	if err != nil {
		return nil, err
	}
	sum, err := strconv.ParseUint(r.Header.Get(checksumHeader), 16, 32)
	if err != nil {
		return nil, failuref(http.StatusBadRequest, "Header %s: want the CRC-32C of the body in hexadecimal.", checksumHeader)
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, jobmanager.TransferPiece+1))
	if err != nil {
		return nil, err
	}
	if len(b) > jobmanager.TransferPiece {
		return nil, failuref(http.StatusRequestEntityTooLarge, "A piece has more than %d bytes.", jobmanager.TransferPiece)
	}
	if err := r.s.cfg.JobManager.WriteUpload(id, r.URL.Query().Get("file"), size, offset, b, uint32(sum)); err != nil {
		return nil, transferError(err)
	}
	return struct{}{}, nil
}

func (r *request) finishUpload() (any, error) {
	id, err := r.uploadID()
	if err != nil {
		return nil, err
	}
	dir, err := r.s.cfg.JobManager.FinishUpload(r.Context(), id)
	if err != nil {
		return nil, transferError(err)
	}
	return uploadBody{id, dir}, nil
}

func (r *request) abortUpload() (any, error) {
	id, err := r.uploadID()
	if err != nil {
		return nil, err
	}
	if err := r.s.cfg.JobManager.AbortUpload(id); err != nil {
		return nil, transferError(err)
	}
	return struct{}{}, nil
}

// writePiece answers with bytes.
func writePiece(w http.ResponseWriter, b piece) {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set(checksumHeader, fmt.Sprintf("%08x", crc32.Checksum(b, storage.Castagnoli)))
	_, _ = w.Write(b) // the client may have gone
}
