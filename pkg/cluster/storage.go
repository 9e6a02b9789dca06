package cluster

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path"
	"path/filepath"
	"strings"

	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/fs"
	"github.com/rivulet-io/rivulet/pkg/internal/ha"
	"github.com/rivulet-io/rivulet/pkg/internal/jobmanager"
	"github.com/rivulet-io/rivulet/pkg/internal/storage"
	"github.com/rivulet-io/rivulet/pkg/internal/taskmanager"
)

// place is where a process with a JobManager keeps everything: in a directory of the machine, or in memory.
type place struct {
	ha ha.Election
	*storage.Storage
	// files is the directory, as the leader's scheme names what is in it; nil when it is shared.
	files fs.FS
	root  string // as a URI, by which TaskManagers reach it
	dir   string // as a URI of this process; empty when it is shared
	// system has the directory, data is its name there; nil and empty when it is shared.
	system fs.FS
	data   string
	// memory says that it is in memory, shared that other JobManagers have it too.
	memory, shared bool
}

// open finds the place of a configuration. It does no I/O.
func (cfg *MiniConfig) open(settings *config.Config) (*place, error) {
	return openPlace(cfg.DataDir, cfg.Memory, settings, cfg.Logger)
}

// openPlace finds the place that several JobManagers share, or else that of one.
func openPlace(dataDir string, memory *Memory, settings *config.Config, log *slog.Logger) (*place, error) {
	switch available, err := config.Get(settings, config.HighAvailability); {
	case err != nil:
		return nil, err
	case available != "none":
		return openShared(settings, log)
	}
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

func openShared(settings *config.Config, log *slog.Logger) (*place, error) {
	dir, err := config.Get(settings, config.HAStorageDir)
	if err != nil {
		return nil, err
	}
	if dir == "" {
		return nil, fmt.Errorf("%s is not set: all JobManagers and TaskManagers of the cluster need a directory or URI that they all see", config.HAStorageDir.Name)
	}
	id, err := config.Get(settings, config.HAClusterID)
	if err != nil {
		return nil, err
	}
	at := &place{Storage: storage.New(map[string]fs.FS{"file": fs.Local{}}, settings), root: strings.TrimSuffix(jobmanager.URI(dir), "/") + "/" + id, shared: true}
	fsys, name, err := at.Directory(at.root)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", config.HAStorageDir.Name, err)
	}
	at.ha, err = ha.Open(ha.Settings{Config: settings, FS: fsys, Dir: name, Logger: log})
	return at, err
}

// localDir is where copies of state lie in a data directory.
const localDir = "localState"

// localConfig says where a TaskManager of its own keeps copies of state: in the directories that are set, or in its data directory, if it has one.
func localConfig(settings *config.Config, fsys fs.FS, dataDir string) (taskmanager.LocalConfig, error) {
	chk := config.CheckpointingOf(settings)
	cfg := taskmanager.LocalConfig{FS: fsys, Backup: chk.LocalBackup, Recovery: chk.LocalRecovery}
	dirs, err := config.Get(settings, config.LocalBackupDirs)
	if err != nil {
		return cfg, err
	}
	for dir := range strings.SplitSeq(dirs, ",") {
		if dir = strings.TrimPrefix(strings.TrimSpace(dir), "file://"); dir == "" {
			continue
		}
		if dir, err = filepath.Abs(dir); err != nil {
			return cfg, fmt.Errorf("%s: %w", config.LocalBackupDirs.Name, err)
		}
		cfg.Dirs = append(cfg.Dirs, filepath.ToSlash(dir))
	}
	if len(cfg.Dirs) == 0 && dataDir != "" {
		cfg.Dirs = []string{path.Join(dataDir, localDir)}
	}
	return cfg, nil
}

// lockLocal takes directories of copies for this process, until they are unlocked.
func lockLocal(cfg taskmanager.LocalConfig) (unlock func(), err error) {
	var locks []io.Closer
	unlock = func() {
		for _, l := range locks {
			_ = l.Close() // the process ends
		}
	}
	for _, dir := range cfg.Dirs {
		err := cfg.FS.MkdirAll(dir)
		if err == nil {
			var lock io.Closer
			if lock, err = cfg.FS.Lock(path.Join(dir, identityLock)); err == nil {
				locks = append(locks, lock)
			}
		}
		if err != nil {
			unlock()
			return nil, fmt.Errorf("directory %s of copies of state (%s): each TaskManager needs one of its own: %w", dir, config.LocalBackupDirs.Name, err)
		}
	}
	return unlock, nil
}

// own names what lies in the directory as this process does, so that TaskManagers reach it: the directory has another name where they do not see it.
func (p *place) own(path string) string {
	if p.dir == "" {
		return path
	}
	for _, name := range []string{p.dir, storage.LeaderScheme + "://"} {
		if rest, ok := strings.CutPrefix(jobmanager.URI(path), name+"/"); ok {
			return strings.TrimSuffix(p.root, "/") + "/" + rest
		}
	}
	return path
}

func newPlace(scheme string, fsys fs.FS, dir string, settings *config.Config) *place {
	files := fs.Below(fsys, dir)
	schemes := map[string]fs.FS{"file": fs.Local{}, storage.LeaderScheme: files}
	schemes[scheme] = fsys
	return &place{
		ha: ha.NewFile(fsys, dir), Storage: storage.New(schemes, settings), files: files, root: scheme + "://" + dir, dir: scheme + "://" + dir, system: fsys, data: dir,
		memory: scheme == "mem",
	}
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
