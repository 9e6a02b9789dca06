package rest

import (
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/internal/jobmanager"
)

// rootsOf returns the directories below which requests may write and delete savepoints, as URIs.
func rootsOf(cfg Config) []string {
	var out []string
	add := func(dirs ...string) {
		for _, d := range dirs {
			if u, err := cleanURI(d); err == nil && !slices.ContainsFunc(out, func(r string) bool { return u == r || strings.HasPrefix(u, strings.TrimSuffix(r, "/")+"/") }) {
				out = append(out, u)
			}
		}
	}
	add(cfg.Roots...)
	chk := config.CheckpointingOf(cfg.Config)
	add(chk.SavepointDir, chk.Dir)
	if cfg.JobManager != nil {
		add(cfg.JobManager.SnapshotDirs())
	}
	return out
}

// cleanURI makes a clean URI of a directory's absolute path or URI. What could mean another directory than it shows is an error.
func cleanURI(dir string) (string, error) {
	scheme, path, ok := strings.Cut(dir, ":")
	if !ok || strings.HasPrefix(dir, "/") {
		scheme, path = "file", dir
	}
	if strings.ContainsAny(path, "\x00\\") || scheme == "" || strings.ContainsAny(scheme, "/.") {
		return "", errors.New("it is neither an absolute path nor a URI")
	}
	if scheme != "file" {
		u, err := url.Parse(dir)
		if err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return "", errors.New("it is no URI of a directory")
		}
	}
	if scheme == "file" {
		// file:/a, file:///a and /a are the same; file://a/b is host a.
		if p, ok := strings.CutPrefix(path, "//"); ok && dir != path {
			path = p
		}
		if !strings.HasPrefix(path, "/") {
			return "", errors.New("it is no absolute path")
		}
	}
	if slices.Contains(strings.Split(path, "/"), "..") {
		return "", errors.New(`it contains ".."`)
	}
	if scheme == "file" {
		return "file://" + resolve(filepath.Clean(path)), nil
	}
	return strings.TrimSuffix(dir, "/"), nil
}

// resolve follows the symbolic links of the part of a path that exists.
func resolve(path string) string {
	rest := ""
	for p := path; ; p = filepath.Dir(p) {
		real, err := filepath.EvalSymlinks(p)
		if err == nil {
			return filepath.Join(real, rest)
		}
		if !errors.Is(err, fs.ErrNotExist) || p == filepath.Dir(p) {
			return path
		}
		if _, err := os.Lstat(p); err == nil {
			return path // a link to what does not exist
		}
		rest = filepath.Join(filepath.Base(p), rest)
	}
}

// target checks the directory that a request names, and returns it as a URI: it must lie below one of the roots, or below the job's own directories.
func (s *Server) target(dir string, d *jobmanager.JobDetails) (string, error) {
	u, err := cleanURI(dir)
	if err != nil {
		return "", failuref(http.StatusBadRequest, "The directory %q is refused: %v.", dir, err)
	}
	roots := slices.Clone(s.roots)
	if d != nil {
		for _, own := range []string{d.Checkpointing.SavepointDir, d.Checkpointing.Dir} {
			if r, err := cleanURI(own); err == nil {
				roots = append(roots, r)
			}
		}
	}
	for _, root := range roots {
		if u == root || strings.HasPrefix(u, strings.TrimSuffix(root, "/")+"/") {
			return u, nil
		}
	}
	return "", failuref(http.StatusBadRequest, "The directory %q is refused: it is not below one of %s. Start the process with -D execution.checkpointing.savepoint-dir=DIR to allow another.", dir, strings.Join(roots, ", "))
}
