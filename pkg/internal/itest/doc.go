// Package itest holds no code, only tests of the whole engine: random jobs under random configurations that fail, crash, and go on with another parallelism, and whose
// committed output must be that of a plain model in memory.
//
// Start with TestMetamorphic. Its law: the seed of a run is printed, and "-seed N" makes the same choices again (time is virtual, scheduling is not). "-duration D" goes on with
// new seeds for that long.
package itest
