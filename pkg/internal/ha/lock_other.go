//go:build !unix

package ha

import (
	"errors"
	"os"
)

// takeLock refuses: without a lock that ends with the process a data directory is not safe.
func takeLock(path string) (*os.File, error) {
	return nil, &os.PathError{Op: "lock", Path: path, Err: errors.ErrUnsupported}
}
