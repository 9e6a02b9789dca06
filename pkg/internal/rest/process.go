package rest

import (
	"bytes"
	"net/http"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/rivulet-io/rivulet/pkg/internal/jobmanager"
)

func (r *request) config() (any, error) {
	name, offset := time.Now().Zone()
	type features struct {
		Submit  bool `json:"web-submit"`
		Cancel  bool `json:"web-cancel"`
		Rescale bool `json:"web-rescale"`
		History bool `json:"web-history"`
	}
	return struct {
		Refresh  int64    `json:"refresh-interval"`
		Zone     string   `json:"timezone-name"`
		Offset   int64    `json:"timezone-offset"`
		Version  string   `json:"flink-version"`
		Revision string   `json:"flink-revision"`
		Features features `json:"features"`
	}{r.s.refresh.Milliseconds(), name, int64(offset) * 1000, r.s.cfg.Version, revision(), features{Submit: r.s.cfg.Session != nil, Cancel: true}}, nil
}

// revision is the commit that the binary was built from, and when.
func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	commit, at := "unknown", ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			commit = s.Value[:min(len(s.Value), 7)]
		case "vcs.time":
			at = " @ " + s.Value
		}
	}
	return commit + at
}

func (r *request) jobManagerConfig() (any, error) { return settingsOf(r.s.cfg.Config), nil }

func (r *request) environment() (any, error) {
	type machine struct {
		Version string   `json:"version"`
		Arch    string   `json:"arch"`
		Options []string `json:"options"`
	}
	return struct {
		JVM       machine  `json:"jvm"`
		Classpath []string `json:"classpath"`
	}{machine{runtime.Version(), runtime.GOARCH, []string{}}, []string{}}, nil
}

// logs are none: the process logs to its standard error, and no file of it can be asked for.
func (r *request) logs() (any, error) {
	return struct {
		Logs []empty `json:"logs"`
	}{[]empty{}}, nil
}

func (r *request) taskManagerLogs() (any, error) {
	if _, err := r.taskManager(); err != nil {
		return nil, err
	}
	return r.logs()
}

// maxDump bounds a dump of the goroutines' stacks, in bytes.
const maxDump = 16 << 20

func dump() []byte {
	for size := 64 << 10; ; size *= 2 {
		b := make([]byte, size)
		if n := runtime.Stack(b, true); n < size || size >= maxDump {
			return b[:n]
		}
	}
}

// goroutines are the stacks of all goroutines, as text.
func (r *request) goroutines() (any, error) { return text(dump()), nil }

func (r *request) threadDump() (any, error) {
	type info struct {
		Name string `json:"threadName"`
		Text string `json:"stringifiedThreadInfo"`
	}
	out := struct {
		Infos []info `json:"threadInfos"`
	}{[]info{}}
	for block := range bytes.SplitSeq(dump(), []byte("\n\n")) {
		name, _, _ := strings.Cut(string(block), " [")
		out.Infos = append(out.Infos, info{name, strings.TrimSpace(string(block)) + "\n\n"})
	}
	return out, nil
}

func (r *request) taskManagerThreadDump() (any, error) {
	if _, err := r.taskManager(); err != nil {
		return nil, err
	}
	return r.threadDump() // they are goroutines of this process
}

// live says that the process answers.
func (r *request) live() (any, error) { return text("ok\n"), nil }

// readiness says whether the process does its work: its JobManager leads, or stands by and passes requests on to the one that does.
func (r *request) readiness() (any, error) {
	leader, own := r.s.cfg.JobManager.CurrentLeader()
	if !own && leader.ID == "" {
		return nil, failuref(http.StatusServiceUnavailable, "The JobManager does not lead, and knows of no other that does.")
	}
	return text("ok\n"), nil
}

// taskManager returns the TaskManager in the path.
func (r *request) taskManager() (jobmanager.TaskManager, error) {
	id := r.PathValue("taskmanagerid")
	for _, tm := range r.s.cfg.JobManager.TaskManagers() {
		if tm.ID == id {
			return tm, nil
		}
	}
	return jobmanager.TaskManager{}, failuref(http.StatusNotFound, "TaskManager %q not found", id)
}

type resourceBody struct {
	Cores    double `json:"cpuCores"`
	Heap     int64  `json:"taskHeapMemory"`
	OffHeap  int64  `json:"taskOffHeapMemory"`
	Managed  int64  `json:"managedMemory"`
	Network  int64  `json:"networkMemory"`
	Extended empty  `json:"extendedResources"`
}

type hardwareBody struct {
	Cores    int   `json:"cpuCores"`
	Physical int64 `json:"physicalMemory"`
	Free     int64 `json:"freeMemory"`
	Managed  int64 `json:"managedMemory"`
}

type memoryBody struct {
	FrameworkHeap    int64 `json:"frameworkHeap"`
	TaskHeap         int64 `json:"taskHeap"`
	FrameworkOffHeap int64 `json:"frameworkOffHeap"`
	TaskOffHeap      int64 `json:"taskOffHeap"`
	Network          int64 `json:"networkMemory"`
	Managed          int64 `json:"managedMemory"`
	Metaspace        int64 `json:"jvmMetaspace"`
	Overhead         int64 `json:"jvmOverhead"`
	TotalFlink       int64 `json:"totalFlinkMemory"`
	TotalProcess     int64 `json:"totalProcessMemory"`
}

type taskManagerBody struct {
	ID        string       `json:"id"`
	Path      string       `json:"path"`
	DataPort  int          `json:"dataPort"`
	JMXPort   int          `json:"jmxPort"`
	Heartbeat int64        `json:"timeSinceLastHeartbeat"` // it is the time of the heartbeat
	Slots     int          `json:"slotsNumber"`
	Free      int          `json:"freeSlots"`
	Tasks     int          `json:"assignedTasks"`
	Total     resourceBody `json:"totalResource"`
	FreeRes   resourceBody `json:"freeResource"`
	Hardware  hardwareBody `json:"hardware"`
	Memory    memoryBody   `json:"memoryConfiguration"`
}

func (r *request) taskManagerOf(tm jobmanager.TaskManager, tasks int) taskManagerBody {
	limit := debug.SetMemoryLimit(-1)
	if limit > 1<<50 {
		limit = 0 // none
	}
	cores := runtime.GOMAXPROCS(0)
	of := func(slots int) resourceBody {
		b := resourceBody{Cores: double(slots)}
		if tm.Slots > 0 {
			b.Heap = limit >> 20 * int64(slots) / int64(tm.Slots)
		}
		return b
	}
	return taskManagerBody{
		ID: tm.ID, Path: tm.Address, DataPort: portOf(tm.DataAddress), JMXPort: -1, Heartbeat: millis(tm.LastHeartbeat, 0), Slots: tm.Slots, Free: tm.FreeSlots, Tasks: tasks,
		Total: of(tm.Slots), FreeRes: of(tm.FreeSlots),
		Hardware: hardwareBody{Cores: cores, Physical: physicalMemory(), Free: limit}, Memory: memoryBody{TaskHeap: limit, TotalFlink: limit, TotalProcess: limit},
	}
}

func portOf(address string) int {
	i := strings.LastIndexByte(address, ':')
	n, err := number(address[i+1:])
	if err != nil {
		return -1
	}
	return n
}

// slotUse is what a job uses of a TaskManager.
type slotUse struct {
	job   string
	tasks int
	slots int
}

// use returns, by TaskManager, which jobs run tasks there.
func (r *request) use() map[string][]slotUse {
	out := map[string][]slotUse{}
	for _, j := range r.jobs() {
		if j.State.Terminal() {
			continue
		}
		d, err := r.s.cfg.JobManager.Job(j.ID)
		if err != nil {
			continue // it has just gone
		}
		uses := map[string]*slotUse{}
		slots := map[string]map[string]bool{}
		for _, v := range d.Vertices {
			for _, t := range v.Subtasks {
				if t.TaskManager == "" || t.State.Terminal() {
					continue
				}
				u := uses[t.TaskManager]
				if u == nil {
					u = &slotUse{job: j.ID.String()}
					uses[t.TaskManager], slots[t.TaskManager] = u, map[string]bool{}
				}
				u.tasks++
				slots[t.TaskManager][v.Group+"/"+show(float64(t.ID.Index))] = true
			}
		}
		for tm, u := range uses {
			u.slots = len(slots[tm])
			out[tm] = append(out[tm], *u)
		}
	}
	return out
}

func tasksOf(uses []slotUse) (n int) {
	for _, u := range uses {
		n += u.tasks
	}
	return n
}

func (r *request) taskManagers() (any, error) {
	out := struct {
		TaskManagers []taskManagerBody `json:"taskmanagers"`
	}{[]taskManagerBody{}}
	use := r.use()
	for _, tm := range r.s.cfg.JobManager.TaskManagers() {
		out.TaskManagers = append(out.TaskManagers, r.taskManagerOf(tm, tasksOf(use[tm.ID])))
	}
	return out, nil
}

func (r *request) taskManagerDetails() (any, error) {
	tm, err := r.taskManager()
	if err != nil {
		return nil, err
	}
	m, err := r.metricsOfTaskManager(tm.ID)
	if err != nil {
		return nil, err
	}
	type slot struct {
		Job      string       `json:"jobId"`
		Resource resourceBody `json:"resource"`
		Tasks    int          `json:"assignedTasks"`
	}
	type collector struct {
		Name  string `json:"name"`
		Count int64  `json:"count"`
		Time  int64  `json:"time"`
	}
	type memory struct {
		HeapUsed         int64       `json:"heapUsed"`
		HeapCommitted    int64       `json:"heapCommitted"`
		HeapMax          int64       `json:"heapMax"`
		NonHeapUsed      int64       `json:"nonHeapUsed"`
		NonHeapCommitted int64       `json:"nonHeapCommitted"`
		NonHeapMax       int64       `json:"nonHeapMax"`
		DirectCount      int64       `json:"directCount"`
		DirectUsed       int64       `json:"directUsed"`
		DirectMax        int64       `json:"directMax"`
		MappedCount      int64       `json:"mappedCount"`
		MappedUsed       int64       `json:"mappedUsed"`
		MappedMax        int64       `json:"mappedMax"`
		OldSegmentsFree  int64       `json:"memorySegmentsAvailable"` // these two for clients of Flink 1
		OldSegmentsTotal int64       `json:"memorySegmentsTotal"`
		SegmentsFree     int64       `json:"nettyShuffleMemorySegmentsAvailable"`
		SegmentsUsed     int64       `json:"nettyShuffleMemorySegmentsUsed"`
		SegmentsTotal    int64       `json:"nettyShuffleMemorySegmentsTotal"`
		ShuffleFree      int64       `json:"nettyShuffleMemoryAvailable"`
		ShuffleUsed      int64       `json:"nettyShuffleMemoryUsed"`
		ShuffleTotal     int64       `json:"nettyShuffleMemoryTotal"`
		Collectors       []collector `json:"garbageCollectors"`
	}
	n := func(name string) int64 { return int64(m["Status."+name].number) }
	use := r.use()[tm.ID]
	out := struct {
		taskManagerBody
		Slots   []slot `json:"allocatedSlots"`
		Metrics memory `json:"metrics"`
	}{r.taskManagerOf(tm, tasksOf(use)), []slot{}, memory{
		HeapUsed: n("JVM.Memory.Heap.Used"), HeapCommitted: n("JVM.Memory.Heap.Committed"), HeapMax: n("JVM.Memory.Heap.Max"),
		NonHeapUsed: n("JVM.Memory.NonHeap.Used"), NonHeapCommitted: n("JVM.Memory.NonHeap.Committed"), NonHeapMax: n("JVM.Memory.NonHeap.Max"),
		DirectCount: n("JVM.Memory.Direct.Count"), DirectUsed: n("JVM.Memory.Direct.MemoryUsed"), DirectMax: n("JVM.Memory.Direct.TotalCapacity"),
		MappedCount: n("JVM.Memory.Mapped.Count"), MappedUsed: n("JVM.Memory.Mapped.MemoryUsed"), MappedMax: n("JVM.Memory.Mapped.TotalCapacity"),
		OldSegmentsFree: n("Shuffle.Netty.AvailableMemorySegments"), OldSegmentsTotal: n("Shuffle.Netty.TotalMemorySegments"),
		SegmentsFree: n("Shuffle.Netty.AvailableMemorySegments"), SegmentsUsed: n("Shuffle.Netty.UsedMemorySegments"), SegmentsTotal: n("Shuffle.Netty.TotalMemorySegments"),
		ShuffleFree: n("Shuffle.Netty.AvailableMemory"), ShuffleUsed: n("Shuffle.Netty.UsedMemory"), ShuffleTotal: n("Shuffle.Netty.TotalMemory"),
		Collectors: []collector{{"All", n("JVM.GarbageCollector.All.Count"), n("JVM.GarbageCollector.All.Time")}},
	}}
	for _, u := range use {
		left := u.tasks
		for i := range u.slots { // which task is in which slot is not told: they are spread evenly
			share := left / (u.slots - i)
			left -= share
			one := jobmanager.TaskManager{Slots: tm.Slots, FreeSlots: 1}
			out.Slots = append(out.Slots, slot{u.job, r.taskManagerOf(one, 0).FreeRes, share})
		}
	}
	return out, nil
}
