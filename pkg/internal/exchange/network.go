package exchange

// Network connects the subtasks that run in one process.
type Network struct{}
