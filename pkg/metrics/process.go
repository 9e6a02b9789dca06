package metrics

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"strings"
)

// Process registers what Flink tells of a process ("Status.JVM.Memory.Heap.Used"), with Go's runtime in the place of the Java virtual machine's: goroutines are
// its threads, and what Go has no counterpart of is 0. Nothing is measured until the group is read.
func (g *Group) Process() {
	g.Gauges(processStatus)
	g.Rate("Status.JVM.CPU.Load", func() float64 { return cpuSeconds() / float64(runtime.GOMAXPROCS(0)) })
	g.Rate("Status.JVM.GarbageCollector.All.TimeMsPerSecond", func() float64 { return readRuntime()["/cpu/classes/gc/total:cpu-seconds"] * 1000 })
}

// samples are what is read of the runtime.
var samples = [...]string{
	"/memory/classes/heap/objects:bytes", "/memory/classes/heap/released:bytes", "/memory/classes/heap/free:bytes", "/memory/classes/heap/unused:bytes",
	"/memory/classes/total:bytes", "/sched/goroutines:goroutines", "/gc/cycles/total:gc-cycles", "/cpu/classes/gc/total:cpu-seconds",
}

func readRuntime() map[string]float64 {
	s := make([]runtimemetrics.Sample, len(samples))
	for i, name := range samples {
		s[i].Name = name
	}
	runtimemetrics.Read(s)
	out := make(map[string]float64, len(s))
	for _, x := range s {
		switch x.Value.Kind() {
		case runtimemetrics.KindUint64:
			out[x.Name] = float64(x.Value.Uint64())
		case runtimemetrics.KindFloat64:
			out[x.Name] = x.Value.Float64()
		default: // this Go does not have it
		}
	}
	return out
}

func processStatus(set func(name string, value float64)) {
	m := readRuntime()
	class := func(name string) float64 { return m["/memory/classes/"+name+":bytes"] }
	limit := float64(debug.SetMemoryLimit(-1))
	if limit == math.MaxInt64 {
		limit = -1 // as Java says that there is none
	}
	heap := class("heap/objects") + class("heap/free") + class("heap/unused")
	other := class("total") - heap - class("heap/released")
	set("Status.JVM.Memory.Heap.Used", class("heap/objects"))
	set("Status.JVM.Memory.Heap.Committed", heap)
	set("Status.JVM.Memory.Heap.Max", limit)
	set("Status.JVM.Memory.NonHeap.Used", other)
	set("Status.JVM.Memory.NonHeap.Committed", other)
	set("Status.JVM.Memory.NonHeap.Max", -1)
	for _, name := range []string{"Metaspace.Used", "Metaspace.Committed", "Metaspace.Max", "Direct.Count", "Direct.MemoryUsed", "Direct.TotalCapacity", "Mapped.Count", "Mapped.MemoryUsed", "Mapped.TotalCapacity"} {
		set("Status.JVM.Memory."+name, 0)
	}
	set("Status.JVM.Threads.Count", m["/sched/goroutines:goroutines"])
	set("Status.JVM.GarbageCollector.All.Count", m["/gc/cycles/total:gc-cycles"])
	set("Status.JVM.GarbageCollector.All.Time", math.Round(m["/cpu/classes/gc/total:cpu-seconds"]*1000))
	set("Status.JVM.CPU.Time", math.Round(cpuSeconds()*1e9))
	if files, err := os.ReadDir("/proc/self/fd"); err == nil { // elsewhere nobody knows
		set("Status.FileDescriptor.Open", float64(len(files)-1)) // without the one that reads them
	}
	if n := maxFiles(); n > 0 {
		set("Status.FileDescriptor.Max", n)
	}
	if rss := residentBytes(); rss > 0 {
		set("Status.Process.Memory.Resident", rss)
	}
}

// residentBytes is what of the process lies in memory; 0 when nobody knows.
func residentBytes() float64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages := 0.0
	for _, c := range fields[1] {
		pages = pages*10 + float64(c-'0')
	}
	return pages * float64(os.Getpagesize())
}
