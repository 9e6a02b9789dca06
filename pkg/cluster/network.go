package cluster

import (
	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc/grpcrpc"
)

// networkOf is how a process reaches others, and is reached.
func networkOf(_ *config.Config) (grpcrpc.Network, error) { return &grpcrpc.TCP{}, nil }
