package isolated

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// Space is a network namespace that is mounted in the file system.
type Space struct {
	path  string
	file  *os.File
	calls chan func()
	done  chan struct{}
}

// Open opens the namespace that is mounted at path, and makes it if there is none. Making it takes CAP_SYS_ADMIN and, in a
// container, a directory that the host shares with it (mountPropagation Bidirectional); opening it CAP_SYS_ADMIN.
func Open(path string) (*Space, error) {
	there, err := Exists(path)
	if err == nil && !there {
		err = create(path)
	}
	if err != nil {
		return nil, err
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open network namespace %s: %w", path, err)
	}
	s := &Space{path: path, file: file, calls: make(chan func()), done: make(chan struct{})}
	if err := s.start(); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return s, nil
}

// Exists reports whether a namespace is mounted at path.
func Exists(path string) (bool, error) {
	var stat unix.Statfs_t
	err := unix.Statfs(path, &stat)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for network namespace %s: %w", path, err)
	}
	return stat.Type == unix.NSFS_MAGIC, nil
}

// create makes a namespace on a thread that is thrown away, and mounts it.
func create(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make network namespace %s: %w", path, err)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o444)
	if err != nil {
		return fmt.Errorf("make network namespace %s: %w", path, err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("make network namespace %s: %w", path, err)
	}
	done := make(chan error)
	go elsewhere(func() {
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			own := fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())
			err = unix.Mount(own, path, "none", unix.MS_BIND, "")
		}
		done <- explain(err, path)
	})
	return <-done
}

func explain(err error, path string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("make network namespace %s: %w (it takes CAP_SYS_ADMIN, and a privileged container: "+
			"run fairlead-speaker check --placement=isolated on the node)", path, err)
	default:
		return fmt.Errorf("make network namespace %s: %w", path, err)
	}
}

// elsewhere runs f on a thread that ends with it, since f changes the thread's namespace. It is never the process's first
// thread: that one's namespace is what the system takes for the process's (/proc/PID/ns/net).
func elsewhere(f func()) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		f()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		elsewhere(f)
	}()
	<-done
	runtime.UnlockOSThread()
}

// start makes the thread that Do works on.
func (s *Space) start() error {
	entered := make(chan error)
	go func() {
		defer close(s.done)
		elsewhere(func() {
			err := unix.Setns(int(s.file.Fd()), unix.CLONE_NEWNET)
			entered <- err
			if err != nil {
				return
			}
			for call := range s.calls {
				call()
			}
		})
	}()
	if err := <-entered; err != nil {
		return fmt.Errorf("enter network namespace %s: %w (it takes CAP_SYS_ADMIN)", s.path, err)
	}
	return nil
}

// Do runs f in the namespace, on a thread of its own, and so the programs that f starts. Calls wait for each other.
func (s *Space) Do(f func() error) error {
	done := make(chan error)
	s.calls <- func() { done <- f() }
	return <-done
}

// Path is where the namespace is mounted.
func (s *Space) Path() string { return s.path }

// Close leaves the namespace as it is. It must be the last call.
func (s *Space) Close() {
	close(s.calls)
	<-s.done
	_ = s.file.Close() // it was read from, no more
}

// unmount takes the namespace's mount away; with the last user the namespace goes. One that is gone is no error.
func unmount(path string) error {
	there, err := Exists(path)
	if err != nil {
		return err
	}
	if there {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount network namespace %s: %w (it takes CAP_SYS_ADMIN)", path, err)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove network namespace %s: %w", path, err)
	}
	return nil
}
