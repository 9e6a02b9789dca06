package rpc

import (
	"fmt"

	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
)

// Versions is a window of versions of the protocol between JobManager and TaskManagers, both ends included.
type Versions struct{ Oldest, Newest int32 }

// Spoken is what this release speaks. This is the one place that says so, and this is the rule:
//
//   - What an older peer can ignore (a new field whose absence means what was so before, a new call that is made of those who know it) changes nothing here.
//   - Anything else raises Newest by one, and the code keeps speaking the version before it where Header.Protocol says so.
//   - Oldest is raised one release later, when the code for it goes: a release speaks its own version and that of the release before.
//
// Two peers speak the newest version that both know. When there is none the TaskManager is refused, with both windows named, and asks again: during an upgrade its
// process, or the leader, is about to be replaced, and jobs wait for slots of those that fit.
//
// The versions:
//
//	1  the first: never released between processes
//	2  registrations and calls are numbered; locations travel once in a deployment
var Spoken = Versions{Oldest: 2, Newest: 2}

// Or returns v, or what this release speaks when v is not set.
func (v Versions) Or() Versions {
	if v == (Versions{}) {
		return Spoken
	}
	return v
}

// Proto returns the window as it travels.
func (v Versions) Proto() *rpcv1.Versions {
	return &rpcv1.Versions{Oldest: v.Oldest, Newest: v.Newest}
}

// VersionsOf reads what Proto wrote. A peer that says nothing speaks the first version.
func VersionsOf(p *rpcv1.Versions) Versions {
	if p == nil {
		return Versions{1, 1}
	}
	return Versions{p.GetOldest(), p.GetNewest()}
}

// Agree returns the version that two peers speak; false when there is none.
func (v Versions) Agree(peer Versions) (int32, bool) {
	n := min(v.Newest, peer.Newest)
	return n, n >= v.Oldest && n >= peer.Oldest
}

func (v Versions) String() string {
	if v.Oldest == v.Newest {
		return fmt.Sprintf("protocol version %d", v.Newest)
	}
	return fmt.Sprintf("protocol versions %d to %d", v.Oldest, v.Newest)
}
