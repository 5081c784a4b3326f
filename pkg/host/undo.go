package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// change is what became of a sysctl: what it was before Fairlead first changed it, and what Fairlead set it to.
type change struct {
	Was string `json:"was"`
	Set string `json:"set"`
}

// note records a value that is about to be changed. The first one counts: what was found later may be of Fairlead's making.
func (s *Sysctls) note(path, was, set string) error {
	if s.Record == "" {
		return nil
	}
	changes, err := s.changes()
	if err != nil {
		return err
	}
	entry, noted := changes[path]
	if !noted {
		entry.Was = was
	}
	entry.Set = set
	changes[path] = entry
	return s.write(changes)
}

func (s *Sysctls) changes() (map[string]change, error) {
	changes := map[string]change{}
	text, err := os.ReadFile(s.Record)
	if errors.Is(err, fs.ErrNotExist) {
		return changes, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &changes)
	}
	if err != nil {
		return nil, fmt.Errorf("read what sysctls were before they were changed (remove the file to forget it): %w", err)
	}
	return changes, nil
}

// write replaces the record, or removes it when nothing is left in it.
func (s *Sysctls) write(changes map[string]change) error {
	fail := func(err error) error { return fmt.Errorf("record what sysctls were before they are changed: %w", err) }
	if len(changes) == 0 {
		if err := os.Remove(s.Record); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fail(err)
		}
		return nil
	}
	text, err := json.MarshalIndent(changes, "", "  ")
	if err != nil {
		return fail(err)
	}
	if err := os.MkdirAll(filepath.Dir(s.Record), 0o755); err != nil {
		return fail(err)
	}
	if err := os.WriteFile(s.Record+".new", append(text, '\n'), 0o644); err != nil {
		return fail(err)
	}
	if err := os.Rename(s.Record+".new", s.Record); err != nil {
		return fail(err)
	}
	return nil
}

// shared are sysctls that are never put back: pods and containers of the node live by them, whoever switched them on first.
func shared(path string) bool {
	ok, err := filepath.Match("ipv6/conf/*/accept_ra", path)
	return path == "ipv4/ip_forward" || path == forwarding6.path || ok && err == nil
}

// Undo puts sysctls back that are recorded and still have the value that Fairlead gave them, and returns a line for each that
// it put back or left. One that it left is forgotten too: it is the administrator's from now on.
func (s *Sysctls) Undo() (lines []string, err error) {
	if s.Record == "" {
		return nil, nil
	}
	changes, err := s.changes()
	if err != nil {
		return nil, err
	}
	var failures []error
	for _, path := range slices.Sorted(maps.Keys(changes)) {
		line, err := s.undo(path, changes[path])
		if err != nil {
			failures = append(failures, err)
			continue
		}
		delete(changes, path)
		if line != "" {
			lines = append(lines, line)
		}
	}
	return lines, errors.Join(append(failures, s.write(changes))...)
}

func (s *Sysctls) undo(path string, c change) (line string, err error) {
	found, err := s.read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil // its interface or module is gone
	}
	name := dotted(path)
	switch {
	case err != nil:
		return "", fmt.Errorf("put sysctl %s back: %w", name, err)
	case found != c.Set:
		return fmt.Sprintf("left sysctl %s=%s: somebody changed it since (it was %s, Fairlead set %s)", name, found, c.Was, c.Set), nil
	case shared(path):
		return fmt.Sprintf("left sysctl %s=%s: pods and containers may need it (sysctl -w %s=%s puts it back)", name, found, name, c.Was), nil
	}
	if err := os.WriteFile(s.file(path), []byte(c.Was+"\n"), 0); err != nil {
		return "", fmt.Errorf("put sysctl %s back to %s: %w", name, c.Was, err)
	}
	return fmt.Sprintf("sysctl %s is %s again", name, c.Was), nil
}
