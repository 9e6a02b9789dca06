package ha

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/fs"
)

// Settings are what a store is opened with.
type Settings struct {
	// Config has the options high-availability.*.
	Config *config.Config
	// FS and Dir are the directory of high-availability.storageDir, which all JobManagers see. The store keeps a mark in it, by which it knows its data again.
	FS  fs.FS
	Dir string
	// Logger may be nil.
	Logger *slog.Logger
}

// openers are the types of stores that were linked in.
var openers = struct {
	sync.Mutex
	byType map[string]func(Settings) (Election, error)
}{byType: map[string]func(Settings) (Election, error){}}

// Register makes a type of store known for Open, from the init function of its package. It panics when the name is taken.
func Register(name string, open func(Settings) (Election, error)) {
	openers.Lock()
	defer openers.Unlock()
	if openers.byType[name] != nil {
		panic("ha: two stores are named " + name)
	}
	openers.byType[name] = open
}

// Open returns the store that high-availability.type names, which must not be "none". It checks the options and does no I/O.
func Open(s Settings) (Election, error) {
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	name, err := config.Get(s.Config, config.HighAvailability)
	if err != nil {
		return nil, err
	}
	openers.Lock()
	open, known := openers.byType[name], slices.Sorted(maps.Keys(openers.byType))
	openers.Unlock()
	if open == nil {
		linked := "none is linked into this binary"
		if len(known) > 0 {
			linked = "this binary has " + strings.Join(known, ", ")
		}
		return nil, fmt.Errorf("high-availability.type %q: %s; a program gets a type by importing it in its main, as in: import _ \"github.com/rivulet-io/rivulet/pkg/ha/etcd\"", name, linked)
	}
	return open(s)
}
