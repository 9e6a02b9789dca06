package jobmanager

import "sync"

// worker does one thing after another, in the order they were asked for, on the goroutine that called run. Asking never blocks. What is queued is bounded by who
// asks: a job master asks for a handful of things per checkpoint and deployment, and starts no other while they wait.
type worker struct {
	mu    sync.Mutex
	queue []func()
	wake  chan struct{} // room for one token: whoever waits looks at the queue again
}

func newWorker() *worker { return &worker{wake: make(chan struct{}, 1)} }

// do queues f.
func (w *worker) do(f func()) {
	w.mu.Lock()
	w.queue = append(w.queue, f)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run works until done is closed; what is queued then is left when drain is false.
func (w *worker) run(done <-chan struct{}, drain bool) {
	for {
		w.mu.Lock()
		q := w.queue
		w.queue = nil
		w.mu.Unlock()
		for _, f := range q {
			if !drain {
				select {
				case <-done:
					return
				default:
				}
			}
			f()
		}
		if len(q) > 0 {
			continue
		}
		select {
		case <-w.wake:
		case <-done:
			w.mu.Lock()
			left := len(w.queue)
			w.mu.Unlock()
			if !drain || left == 0 {
				return
			}
		}
	}
}
