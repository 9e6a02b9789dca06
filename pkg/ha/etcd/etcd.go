// Package etcd lets JobManagers elect their leader in etcd, and keep there what must outlive it. A main that wants high-availability.type etcd imports it for that effect:
//
//	import _ "github.com/rivulet-io/rivulet/pkg/ha/etcd"
package etcd

import (
	"errors"

	"github.com/rivulet-io/rivulet/pkg/internal/ha"
)

func init() { ha.Register("etcd", open) }

func open(s ha.Settings) (ha.Election, error) {
	if _, err := optionsOf(s); err != nil {
		return nil, err
	}
	return nil, errors.New("high-availability.type etcd: not built yet")
}
