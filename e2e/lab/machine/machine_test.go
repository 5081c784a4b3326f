package machine

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/lab/wire"
)

func TestProgramIsFoundByTheCommandsOwnPath(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "tool")
	for path, mode := range map[string]os.FileMode{program: 0o755, filepath.Join(dir, "data"): 0o644} {
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{"HOME=/", "PATH=/nowhere:" + dir}
	for argv, want := range map[string]string{
		"tool": program, "data": "", "absent": "", "/bin/x": "/bin/x", "./x": "/here/x", "sub/x": "/here/sub/x",
	} {
		got, err := lookPath(Command{Argv: []string{argv}, Env: env, Dir: "/here"})
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%s: got %q, %v; want %q", argv, got, err, want)
		}
	}
}

func TestIPNet(t *testing.T) {
	for _, text := range []string{"10.87.0.1/16", "fd87::1/64", "10.244.1.2/32", "::/0"} {
		if got := ipNet(netip.MustParsePrefix(text)).String(); got != text {
			t.Errorf("got %s, want %s", got, text)
		}
	}
}

func TestOwnMemoryIsMoreThanNone(t *testing.T) {
	if RSS(os.Getpid()) <= 0 || RSS(1<<30) != 0 {
		t.Errorf("own memory %d, that of no process %d", RSS(os.Getpid()), RSS(1<<30))
	}
}

// adopted is a machine whose one host is the namespace of the test: no privilege is needed for that.
func adopted(t *testing.T) *Machine {
	t.Helper()
	m := New("test-")
	if err := m.Adopt("here"); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestCommandsStreamsAndStatus(t *testing.T) {
	var out, errs bytes.Buffer
	process, err := adopted(t).Start(Command{
		Host: "here", Argv: []string{"sh", "-c", "cat; pwd; echo $X >&2; exit 3"}, Env: []string{"PATH=/bin:/usr/bin", "X=y"}, Dir: "/",
	}, wire.Stdio{In: strings.NewReader("in\n"), Out: &out, Err: &errs})
	if err != nil {
		t.Fatal(err)
	}
	status, err := process.Wait()
	if err != nil || status != 3 || out.String() != "in\n/\n" || errs.String() != "y\n" {
		t.Errorf("status %d, %v, out %q, err %q", status, err, out.String(), errs.String())
	}
}

func TestKilledCommandTakesItsChildrenAlong(t *testing.T) {
	var out bytes.Buffer
	process, err := adopted(t).Start(Command{
		Host: "here", Argv: []string{"sh", "-c", "sleep 60 & wait"}, Env: []string{"PATH=/bin:/usr/bin"}, Dir: "/",
	}, wire.Stdio{Out: &out})
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	status, err := process.Wait()
	if err != nil || status != 128+int(syscall.SIGKILL) {
		t.Errorf("status %d, %v", status, err)
	}
	if waited := time.Since(began); waited >= outputGrace {
		t.Errorf("its child held the output open for %s", waited)
	}
	if err := process.Signal(syscall.SIGKILL); err == nil {
		t.Error("a dead process took a signal")
	}
}

func TestHostsThatAreNotThere(t *testing.T) {
	m := adopted(t)
	if _, err := m.Start(Command{Host: "absent", Argv: []string{"true"}}, wire.Stdio{}); err == nil || !strings.Contains(err.Error(), "absent") {
		t.Errorf("start: %v", err)
	}
	if err := m.Configure("absent", Network{}); err == nil {
		t.Error("a network was made on no host")
	}
	if err := m.Delete("absent"); err != nil {
		t.Errorf("delete what is not there: %v", err)
	}
	if err := m.Adopt("here"); err == nil {
		t.Error("two hosts have one name")
	}
}
