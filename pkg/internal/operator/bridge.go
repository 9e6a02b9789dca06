package operator

import "github.com/rivulet-io/rivulet/pkg/internal/task"

// Program turns a *stream.Env into what the engine runs. Package stream sets it, so that its users see nothing of the engine.
var Program func(env any) (task.Program, error)
