package agent

import (
	"errors"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// Path is where programs are found on every host.
const Path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// guestName is a valid label: the kernel's own default, (none), is not.
const guestName = "lab"

// mounts of a guest. Its root is the host's file system, of which it hides only what is about a running kernel.
var mounts = []struct{ path, kind, options string }{
	{"/proc", "proc", ""},
	{"/sys", "sysfs", ""},
	{"/run", "tmpfs", "mode=755"},
	{"/dev/pts", "devpts", "mode=620,ptmxmode=666"},
	{"/dev/shm", "tmpfs", "mode=1777"},
	{"/sys/fs/cgroup", "cgroup2", ""},
}

// Init is a guest's first process: it mounts, runs the agent with args as its child, waits for every orphan and powers the
// guest off when the agent ends. It returns only if it cannot.
func Init(args []string) error {
	for _, m := range mounts {
		if err := os.MkdirAll(m.path, 0o755); err != nil {
			return fmt.Errorf("make mount point: %w", err)
		}
		if err := unix.Mount(m.kind, m.path, m.kind, 0, m.options); err != nil {
			return fmt.Errorf("mount %s: %w", m.path, err)
		}
	}
	if err := unix.Sethostname([]byte(guestName)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	if err := os.Setenv("PATH", Path); err != nil {
		return fmt.Errorf("set PATH: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	child := exec.Command(self, args...)
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	if err := child.Start(); err != nil {
		return fmt.Errorf("start the agent: %w", err)
	}
	if err := reap(child.Process.Pid); err != nil {
		return err
	}
	return unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// reap waits for children, adopted ones among them, until pid has ended.
func reap(pid int) error {
	for {
		ended, err := unix.Wait4(-1, nil, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait for children: %w", err)
		}
		if ended == pid {
			return nil
		}
	}
}
