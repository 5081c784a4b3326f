package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// space is one host's namespaces, entered by one thread that does all work in them: processes forked and sockets opened
// on it belong to the host. The thread lives as long as the space, so that what it started can die with it.
type space struct {
	work chan func()
	done chan struct{}
	ns   netns.NsHandle
}

// newSpace starts the thread; enter puts it into the namespaces.
func newSpace(enter func() error) (*space, error) {
	s := &space{work: make(chan func()), done: make(chan struct{})}
	entered := make(chan error)
	go func() {
		defer close(s.done)
		// Never unlocked: the thread cannot be used for anything else and ends with the goroutine.
		runtime.LockOSThread()
		err := enter()
		if err == nil {
			s.ns, err = netns.Get()
		}
		entered <- err
		if err != nil {
			return
		}
		for f := range s.work {
			f()
		}
		_ = s.ns.Close()
	}()
	if err := <-entered; err != nil {
		return nil, err
	}
	return s, nil
}

// do runs f on the space's thread.
func (s *space) do(f func() error) error {
	var err error
	ran := make(chan struct{})
	select {
	case s.work <- func() { defer close(ran); err = f() }:
	case <-s.done:
		return errors.New("the host is gone")
	}
	<-ran
	return err
}

func (s *space) close() {
	close(s.work)
	<-s.done
}

// own gives the calling thread a host name, a /run and a /sys of its own.
func own(hostname string) error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS | unix.CLONE_NEWUTS); err != nil {
		return fmt.Errorf("unshare mounts and host name: %w", err)
	}
	if err := unix.Sethostname([]byte(hostname)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	// The old sysfs shows the interfaces of the namespace it was mounted in.
	if err := unix.Unmount("/sys", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount /sys: %w", err)
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
		return fmt.Errorf("mount /sys: %w", err)
	}
	// A copy of another host's mount would keep its network namespace alive after it was deleted.
	names, err := Namespaces("")
	if err != nil {
		return err
	}
	for _, name := range names {
		// Fails on a plain file, which holds nothing.
		_ = unix.Unmount(filepath.Join("/run/netns", name), unix.MNT_DETACH)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	return nil
}

// KillAll kills every process in the network namespace of a name below /run/netns, until there is none.
func KillAll(namespace string) error {
	var want unix.Stat_t
	path := filepath.Join("/run/netns", namespace)
	if err := unix.Stat(path, &want); err != nil {
		return fmt.Errorf("find network namespace %s: %w", namespace, err)
	}
	link := fmt.Sprintf("net:[%d]", want.Ino)
	for range 100 {
		pids, err := processesIn(link)
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			// It may have ended since.
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		pause()
	}
	return fmt.Errorf("processes in network namespace %s do not die", namespace)
}

// processesIn lists the processes of a network namespace that still run; this one is never among them.
func processesIn(link string) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var pids []int
	for _, entry := range entries {
		var pid int
		if _, err := fmt.Sscanf(entry.Name(), "%d", &pid); err != nil || pid == os.Getpid() {
			continue
		}
		// A process that is gone, or dead and not waited for, has no namespace.
		if got, err := os.Readlink(filepath.Join("/proc", entry.Name(), "ns/net")); err == nil && got == link {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// Namespaces lists the names below /run/netns that begin with prefix.
func Namespaces(prefix string) ([]string, error) {
	entries, err := os.ReadDir("/run/netns")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list network namespaces: %w", err)
	}
	var names []string
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), prefix) {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

// Remove kills what runs in a named network namespace and deletes it.
func Remove(namespace string) error {
	if err := KillAll(namespace); err != nil {
		return err
	}
	if err := netns.DeleteNamed(namespace); err != nil {
		return fmt.Errorf("delete network namespace %s: %w", namespace, err)
	}
	return nil
}
