package cluster

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"path"

	"github.com/rivulet-io/rivulet/pkg/fs"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
)

// The files of a TaskManager's data directory.
const (
	identityFile = "TASKMANAGER" // an identity, as JSON
	identityLock = "LOCK"        // held by the process
	maxIdentity  = 4 << 10       // bounds what is read, in bytes
)

// identity is by what JobManagers know a TaskManager. One with a data directory has the same id each time it is started, and a higher generation: so its predecessor is known to be gone at once, and not
// only when it has been silent for the heartbeat timeout.
type identity struct {
	ID string `json:"id"`
	// Directory is a word of the data directory's own; empty without one.
	Directory  string `json:"directory"`
	Generation int64  `json:"generation"`
}

// newIdentity returns one without a data directory; an empty id is made up.
func newIdentity(id string) identity {
	return identity{ID: cmp.Or(id, cmp.Or(hostname(), "localhost")+"-"+word(3))}
}

// takeIdentity takes a data directory for this process, until lock is closed. An id overrides that of the last process.
func takeIdentity(fsys fs.FS, dir, id string) (i identity, lock io.Closer, err error) {
	fail := func(err error) (identity, io.Closer, error) {
		if lock != nil {
			err = errors.Join(err, lock.Close())
		}
		return i, nil, fmt.Errorf("data directory %s: %w", dir, err)
	}
	if err := fsys.MkdirAll(dir); err != nil {
		return fail(err)
	}
	if lock, err = fsys.Lock(path.Join(dir, identityLock)); err != nil {
		if errors.Is(err, fs.ErrLocked) {
			err = fmt.Errorf("another process uses it, give each TaskManager one of its own: %w", err)
		}
		return fail(err)
	}
	name := path.Join(dir, identityFile)
	b, err := fs.ReadFile(fsys, name, maxIdentity)
	switch {
	case errors.Is(err, iofs.ErrNotExist):
		i = newIdentity("")
		i.Directory = word(8)
	case err != nil:
		return fail(err)
	default:
		if err := json.Unmarshal(b, &i); err != nil || i.ID == "" || i.Directory == "" {
			return fail(fmt.Errorf("%s: %w; delete it to begin anew, nothing else is lost", identityFile, base.ErrCorrupt))
		}
	}
	i.ID = cmp.Or(id, i.ID)
	i.Generation++
	if b, err = json.Marshal(i); err == nil {
		err = fs.WriteFile(fsys, name, append(b, '\n'))
	}
	if err != nil {
		return fail(err)
	}
	return i, lock, nil
}

// word returns n random bytes in hexadecimal.
func word(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
