package driver

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/e2e/lab/machine"
)

// registry holds one file per run, locked by its driver as long as that lives and naming its directory: what a killed run
// left is found by it.
const registry = "/run/fairlead-lab"

// runDir is a run's identity and files.
type runDir struct {
	id   string
	path string
	lock *os.File
	// taken is the lock of the processor that its guest runs on.
	taken *os.File
	// part is the subdirectory of a cluster's own logs and state; empty for the first cluster.
	part string
}

// newRunDir removes what dead runs left and makes a directory and an identity for this one.
func newRunDir(lab string) (*runDir, error) {
	if err := os.MkdirAll(registry, 0o755); err != nil {
		return nil, fmt.Errorf("make the registry of runs: %w", err)
	}
	if err := removeLeftovers(); err != nil {
		return nil, err
	}
	id := strings.ToLower(rand.Text()[:6])
	path, err := os.MkdirTemp("", "fairlead-lab-"+id+"-")
	if err != nil {
		return nil, fmt.Errorf("make the run's directory: %w", err)
	}
	if strings.ContainsAny(path, " ,\"") {
		_ = os.Remove(path)
		return nil, fmt.Errorf("the run's directory %s has characters that a kernel's command line cannot hold: set TMPDIR", path)
	}
	r := &runDir{id: id, path: path}
	if r.lock, err = lockNew(filepath.Join(registry, id), path); err != nil {
		_ = os.Remove(path)
		return nil, err
	}
	for _, dir := range []string{r.bin(), r.logs(), r.state()} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, errors.Join(fmt.Errorf("make the run's directory: %w", err), r.close(false))
		}
	}
	if err := os.Symlink(lab, filepath.Join(r.bin(), "lab")); err != nil {
		return nil, errors.Join(fmt.Errorf("link the lab's program: %w", err), r.close(false))
	}
	return r, nil
}

func (r *runDir) bin() string             { return filepath.Join(r.path, "bin") }
func (r *runDir) logs() string            { return filepath.Join(r.path, "logs", r.part) }
func (r *runDir) state() string           { return filepath.Join(r.path, "state", r.part) }
func (r *runDir) log(name string) string  { return filepath.Join(r.logs(), name+".log") }
func (r *runDir) file(name string) string { return filepath.Join(r.state(), name) }
func (r *runDir) lab() string             { return filepath.Join(r.bin(), "lab") }
func (r *runDir) socket() string          { return r.file("lab.sock") }

// prefix begins the names of the run's network namespaces.
func (r *runDir) prefix() string { return "fl-" + r.id + "-" }

// inner makes directories for one more cluster of the run.
func (r *runDir) inner(part string) (*runDir, error) {
	inner := &runDir{id: r.id, path: r.path, part: part}
	for _, dir := range []string{inner.logs(), inner.state()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("make directories of cluster %s: %w", part, err)
		}
	}
	return inner, nil
}

// close removes the run's namespaces, with all that runs in them, and its files except, if asked, its logs.
func (r *runDir) close(keepLogs bool) error {
	err := removeRun(r.id, r.path, keepLogs)
	if r.taken != nil {
		err = errors.Join(err, r.taken.Close())
	}
	return errors.Join(err, r.lock.Close())
}

// lockNew makes a locked file. It is written under another name first: one that can be seen is locked.
func lockNew(path, content string) (*os.File, error) {
	file, err := os.CreateTemp(registry, ".new-")
	if err != nil {
		return nil, fmt.Errorf("make the run's lock: %w", err)
	}
	if _, err = file.WriteString(content); err == nil {
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make the run's lock: %w", err), os.Remove(file.Name()), file.Close())
	}
	return file, nil
}

// removeLeftovers removes what is left of runs whose driver is dead. Its lock is free then.
func removeLeftovers() error {
	entries, err := os.ReadDir(registry)
	if err != nil {
		return fmt.Errorf("list runs: %w", err)
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		if err := removeLeftover(entry.Name()); err != nil {
			return fmt.Errorf("remove what the killed run %s left: %w", entry.Name(), err)
		}
	}
	return nil
}

func removeLeftover(id string) error {
	file, err := os.Open(filepath.Join(registry, id))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil //nolint:nilerr // its driver lives
	}
	path, err := os.ReadFile(filepath.Join(registry, id))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return removeRun(id, string(path), true)
}

func removeRun(id, path string, keepLogs bool) error {
	namespaces, err := machine.Namespaces("fl-" + id + "-")
	if err != nil {
		return err
	}
	for _, namespace := range namespaces {
		err = errors.Join(err, machine.Remove(namespace))
	}
	if err != nil {
		return err
	}
	remove := []string{path}
	if keepLogs {
		remove = []string{filepath.Join(path, "bin"), filepath.Join(path, "state")}
	}
	for _, name := range remove {
		err = errors.Join(err, os.RemoveAll(name))
	}
	return errors.Join(err, os.RemoveAll(filepath.Join(registry, id)))
}
