package cluster

import (
	"errors"
	"path/filepath"
	"strings"

	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/fs"
	"github.com/rivulet-io/rivulet/pkg/internal/ha"
	"github.com/rivulet-io/rivulet/pkg/internal/storage"
)

// place is where a process with a JobManager keeps everything: in a directory of the machine, or in memory.
type place struct {
	ha *ha.File
	*storage.Storage
	root string // as a URI
	// memory says that it is in memory.
	memory bool
}

// open finds the place of a configuration. It does no I/O.
func (cfg *MiniConfig) open(settings *config.Config) (*place, error) {
	return openPlace(cfg.DataDir, cfg.Memory, settings)
}

func openPlace(dataDir string, memory *Memory, settings *config.Config) (*place, error) {
	if memory != nil {
		return newPlace("mem", memory.fsys(), memoryDir, settings), nil
	}
	if dataDir == "" {
		return nil, errors.New("no data directory")
	}
	dir, err := filepath.Abs(dataDir)
	if err != nil {
		return nil, err
	}
	return newPlace("file", fs.Local{}, filepath.ToSlash(dir), settings), nil
}

func newPlace(scheme string, fsys fs.FS, dir string, settings *config.Config) *place {
	schemes := map[string]fs.FS{"file": fs.Local{}}
	schemes[scheme] = fsys
	return &place{ha: ha.NewFile(fsys, dir), Storage: storage.New(schemes, settings), root: scheme + "://" + dir, memory: scheme == "mem"}
}

// memoryDir is the data directory in a Memory.
const memoryDir = "/mini"

// Memory keeps a mini's data in memory, for tests: it outlives the mini, and can tell what a crash of the machine would have left.
type Memory struct {
	mem *fs.Mem
	// Wrap, when set, is put around the file system: for faults.
	Wrap func(fs.FS) fs.FS
}

// NewMemory returns an empty one.
func NewMemory() *Memory { return &Memory{mem: fs.NewMem()} }

func (m *Memory) fsys() fs.FS {
	if m.Wrap != nil {
		return m.Wrap(m.mem)
	}
	return m.mem
}

// CrashClone returns what a crash of the machine would leave now: all that is durable, and keep percent of the rest.
func (m *Memory) CrashClone(keep int) *Memory { return &Memory{mem: m.mem.CrashClone(keep)} }

// Damage flips a bit in the middle of each file whose name contains part, and returns how many there are.
func (m *Memory) Damage(part string) (int, error) {
	n := 0
	for _, name := range m.mem.Files() {
		if !strings.Contains(name, part) {
			continue
		}
		n++
		if err := m.mem.Corrupt(name, func(b []byte) []byte {
			if len(b) > 0 {
				b[len(b)/2] ^= 0x10
			}
			return b
		}); err != nil {
			return n, err
		}
	}
	return n, nil
}
