package cluster

import (
	"github.com/rivulet-io/rivulet/pkg/internal/jobmanager"
	"github.com/rivulet-io/rivulet/pkg/internal/task"
)

// storage is where snapshots lie, as the JobManager and as tasks see it.
type storage interface {
	jobmanager.Storage
	task.Storage
}
