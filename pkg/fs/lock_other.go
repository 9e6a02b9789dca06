//go:build !unix

package fs

import (
	"errors"
	"io"
	"os"
)

// takeLock refuses: without a lock that ends with the process a directory is not safe.
func takeLock(path string) (io.Closer, error) {
	return nil, &os.PathError{Op: "lock", Path: path, Err: errors.ErrUnsupported}
}
