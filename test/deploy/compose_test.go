package deploy

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// compose loads a compose file as docker compose does: against the schema, with what depends on what checked.
func compose(t *testing.T, file string) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{file}, cli.WithResolvedPaths(false))
	if err != nil {
		t.Fatal(err)
	}
	p, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestCompose(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "deploy/compose/*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatal("no compose files", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			ours := 0
			p := compose(t, file)
			for _, s := range p.Services {
				name, ok := programs[imageName(s.Image)]
				if !ok {
					continue
				}
				ours++
				if s.Build == nil || s.Build.Dockerfile != "deploy/Dockerfile" || filepath.Clean(filepath.Join(root, "deploy/compose", s.Build.Context)) != filepath.Clean(root) ||
					s.Build.Target != name || !slices.ContainsFunc(dockerfile(t), func(st instructions.Stage) bool { return st.Name == s.Build.Target }) {
					t.Errorf("%s: want target %s of the Dockerfile: %+v", s.Name, name, s.Build)
				}
				accepts(t, name, s.Command)
				within(t, s.Name, s.Command, int64(s.MemLimit))
				if !s.ReadOnly || !slices.Contains(s.CapDrop, "ALL") || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
					t.Errorf("%s: want read_only, cap_drop ALL, no-new-privileges", s.Name)
				}
				if s.StopGracePeriod == nil || time.Duration(*s.StopGracePeriod) <= 10*time.Second {
					t.Errorf("%s: stop_grace_period: want more than the 10 s that a process takes to end", s.Name)
				}
				for _, port := range s.Ports {
					if port.HostIP != "127.0.0.1" {
						t.Errorf("%s: port %d is open to other machines", s.Name, port.Target)
					}
				}
			}
			if ours == 0 {
				t.Error("nothing of ours is started")
			}
		})
	}
}
