package host

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// files makes a directory of files and returns it.
func files(t *testing.T, content map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range content {
		name = filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const (
	status  = "Name:\tspeaker\nCapInh:\t0000000000000000\nCapEff:\t%\nCapBnd:\t000001ffffffffff\n"
	noIPv6  = "sys/net/ipv6/conf/all/disable_ipv6"
	allCaps = "000001ffffffffff"
)

func proc(t *testing.T, caps string, more ...string) string {
	content := map[string]string{"self/status": strings.Replace(status, "%", caps, 1)}
	for i := 0; i < len(more); i += 2 {
		content[more[i]] = more[i+1]
	}
	return files(t, content)
}

func TestCheck(t *testing.T) {
	broken := func() error { return errors.New("this kernel has no IPVS") }
	works := func() error { return nil }
	tests := map[string]struct {
		cfg     Config
		missing []string
		says    []string
	}{
		"a node that has everything": {
			cfg: Config{Proc: proc(t, allCaps, noIPv6, "0\n"), IPVS: works, NFTables: works}, says: []string{"CAP_NET_ADMIN  ok     to program IPVS", "IPv6           ok     for IPv6 VIPs"},
		},
		"a node that has everything for isolated placement": {
			cfg:  Config{Proc: proc(t, allCaps, noIPv6, "0\n"), Isolated: true, Namespace: func() (bool, error) { return true, nil }, IPVS: works, NFTables: works},
			says: []string{"CAP_SYS_ADMIN      ok", "network namespace  fixed"},
		},
		"a process that may not enter the namespace": {
			cfg:     Config{Proc: proc(t, "0000000000003000"), Isolated: true, Namespace: func() (bool, error) { return false, errors.New("operation not permitted") }},
			missing: []string{"CAP_SYS_ADMIN", "network namespace"}, says: []string{"found:  operation not permitted", "--placement=isolated"},
		},
		"a process without capabilities": {
			cfg: Config{Proc: proc(t, "0000000000000000")}, missing: []string{"CAP_NET_ADMIN", "CAP_NET_RAW"},
			says: []string{"remedy: add NET_ADMIN to the container's capabilities", "found:  the effective capabilities are 0x0"},
		},
		"a container with Docker's capabilities": {cfg: Config{Proc: proc(t, "00000000a80425fb")}, missing: []string{"CAP_NET_ADMIN"}},
		"a kernel without IPVS": {
			cfg: Config{Proc: proc(t, allCaps), IPVS: broken}, missing: []string{"IPVS"},
			says: []string{"IPVS           needs you  to balance connections", "found:  this kernel has no IPVS", "modprobe ip_vs"},
		},
		"a kernel without nftables": {cfg: Config{Proc: proc(t, allCaps), NFTables: broken}, missing: []string{"nftables"}},
		"a kernel without IPv6":     {cfg: Config{Proc: proc(t, allCaps)}, says: []string{"IPv6           note", "the kernel has no IPv6"}},
		"IPv6 that is disabled": {
			cfg: Config{Proc: proc(t, allCaps, noIPv6, "1\n")}, says: []string{"IPv6           note", "net.ipv6.conf.all.disable_ipv6 is 1"},
		},
		"a status without capabilities": {
			cfg: Config{Proc: files(t, map[string]string{"self/status": "Name:\tx\n"})}, missing: []string{"CAP_NET_ADMIN", "CAP_NET_RAW"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			findings := Check(test.cfg)
			var missing []string
			for _, f := range Missing(findings) {
				missing = append(missing, f.What)
			}
			if got, want := strings.Join(missing, " "), strings.Join(test.missing, " "); got != want {
				t.Errorf("missing %q, want %q", got, want)
			}
			for _, s := range test.says {
				if !strings.Contains(Render(findings), s) {
					t.Errorf("the message does not say %q:\n%s", s, Render(findings))
				}
			}
		})
	}
}

func FuzzParseCapabilities(f *testing.F) {
	f.Add(status)
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := parseCapabilities(s); err == nil && !strings.Contains(s, "CapEff:") {
			t.Errorf("capabilities found in %q", s)
		}
	})
}

func TestRender(t *testing.T) {
	got := Render([]Finding{
		{What: "IPVS", State: NeedsYou, Detail: "no module", Why: "to balance", Remedy: "modprobe ip_vs"},
		{What: "nftables", State: OK, Why: "to translate", Remedy: "another kernel"},
		{What: "sysctl net.ipv4.ip_forward", State: Fixed, Detail: "was 0, is 1", Why: "to forward", Remedy: "sysctl -w"},
		{What: "IPv6", State: Note, Detail: "none", Why: "for IPv6 VIPs", Remedy: "boot"},
	})
	want := `ITEM                        STATE      WHY
IPVS                        needs you  to balance
    found:  no module
    remedy: modprobe ip_vs
nftables                    ok         to translate
sysctl net.ipv4.ip_forward  fixed      to forward
    found:  was 0, is 1
IPv6                        note       for IPv6 VIPs
    found:  none
    remedy: boot
`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}
