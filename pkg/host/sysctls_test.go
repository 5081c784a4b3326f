package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var _ = []interface {
	Apply() ([]string, error)
}{(*Sysctls)(nil), (*Fake)(nil)}

// fresh is what a node says that nobody has touched.
func fresh() map[string]string {
	content := map[string]string{
		"ipv6/conf/all/forwarding": "0\n", "ipv6/conf/eth0/accept_ra": "1\n", "ipv6/conf/eth1/accept_ra": "1\n",
		"ipv6/conf/eth2.100/accept_ra": "0\n",
	}
	for _, s := range settings {
		content[s.path] = "0\n"
	}
	content["ipv4/vs/conn_reuse_mode"] = "1\n"
	return content
}

// advertisedRoutes: eth0 and eth2.100 have routes from router advertisements, eth1 has a static one.
const advertisedRoutes = `20010db8000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00040001     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000002 00000000 00450003     eth0
20010db8000000010000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00040001 eth2.100
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fd000000000000000000000000000001 00000400 00000002 00000000 00000003     eth1
00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo
`

func sysctls(t *testing.T, content map[string]string) *Sysctls {
	t.Helper()
	return &Sysctls{Root: files(t, content), Routes: filepath.Join(files(t, map[string]string{"r": advertisedRoutes}), "r")}
}

func value(t *testing.T, s *Sysctls, path string) string {
	t.Helper()
	v, err := s.read(path)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestApplySetsWhatDiffersAndThenNothing(t *testing.T) {
	s := sysctls(t, fresh())
	changed, err := s.Apply()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"net.ipv4.vs.conntrack", "net.ipv4.vs.sloppy_tcp", "net.ipv4.vs.expire_nodest_conn", "net.ipv4.vs.expire_quiescent_template",
		"net.netfilter.nf_conntrack_tcp_be_liberal", "net.ipv4.ip_forward",
		"net.ipv6.conf.eth0.accept_ra", "net.ipv6.conf.all.forwarding",
	}
	if diff := cmp.Diff(want, changed); diff != "" {
		t.Errorf("changed (-want +got):\n%s", diff)
	}
	for path, want := range map[string]string{
		"ipv4/vs/conntrack": "1", "ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1",
		"ipv6/conf/eth0/accept_ra": "2", "ipv6/conf/eth1/accept_ra": "1", "ipv6/conf/eth2.100/accept_ra": "0",
	} {
		if got := value(t, s, path); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
	long := time.Now().Add(-time.Hour).Truncate(time.Second)
	for path := range fresh() {
		if err := os.Chtimes(s.file(path), long, long); err != nil {
			t.Fatal(err)
		}
	}
	if changed, err := s.Apply(); len(changed) != 0 || err != nil {
		t.Errorf("nothing differs: changed %v, error %v", changed, err)
	}
	for path := range fresh() {
		if info, err := os.Stat(s.file(path)); err != nil || !info.ModTime().Equal(long) {
			t.Errorf("nothing differs, and %s was written (error %v)", path, err)
		}
	}
}

func TestApplyNeedsNoIPv6(t *testing.T) {
	content := fresh()
	for path := range content {
		if strings.HasPrefix(path, "ipv6/") {
			delete(content, path)
		}
	}
	s := sysctls(t, content)
	if _, err := s.Apply(); err != nil {
		t.Error(err)
	}
}

func TestForwardingThatIsOnLeavesRouterAdvertisementsAlone(t *testing.T) {
	content := fresh()
	content["ipv6/conf/all/forwarding"] = "1\n"
	s := sysctls(t, content)
	if _, err := s.Apply(); err != nil {
		t.Fatal(err)
	}
	if got := value(t, s, "ipv6/conf/eth0/accept_ra"); got != "1" {
		t.Errorf("accept_ra is %s, though nothing was switched on", got)
	}
}

func TestApplyGoesOnPastWhatIsMissingAndSaysWhatToDo(t *testing.T) {
	content := fresh()
	delete(content, "ipv4/vs/conntrack")
	delete(content, "netfilter/nf_conntrack_tcp_be_liberal")
	s := sysctls(t, content)
	changed, err := s.Apply()
	if err == nil {
		t.Fatal("no error")
	}
	for _, says := range []string{
		"sysctl net.ipv4.vs.conntrack must be 1", "modprobe ip_vs", "sysctl net.netfilter.nf_conntrack_tcp_be_liberal must be 1", "modprobe nf_conntrack",
	} {
		if !strings.Contains(err.Error(), says) {
			t.Errorf("error %q does not say %q", err, says)
		}
	}
	if len(changed) != 6 {
		t.Errorf("changed %v, want all that are there", changed)
	}
}

func TestAValueThatDoesNotStickIsAnError(t *testing.T) {
	content := fresh()
	delete(content, "ipv4/ip_forward")
	s := sysctls(t, content)
	if err := os.Symlink("/dev/null", filepath.Join(s.Root, "ipv4", "ip_forward")); err != nil {
		t.Fatal(err)
	}
	_, err := s.Apply()
	if err == nil || !strings.Contains(err.Error(), "sysctl -w net.ipv4.ip_forward=1") {
		t.Errorf("error %v", err)
	}
}

func TestDotted(t *testing.T) {
	for path, want := range map[string]string{
		"ipv4/ip_forward": "net.ipv4.ip_forward", "ipv6/conf/eth2.100/accept_ra": "net.ipv6.conf.eth2/100.accept_ra",
	} {
		if got := dotted(path); got != want {
			t.Errorf("dotted(%q) = %q, want %q", path, got, want)
		}
	}
}

func FuzzParseAdvertised(f *testing.F) {
	f.Add(advertisedRoutes)
	f.Fuzz(func(t *testing.T, table string) {
		for _, name := range parseAdvertised(table) {
			if name == "" || strings.ContainsAny(name, "/ \n") || !strings.Contains(table, name) {
				t.Errorf("interface %q in %q", name, table)
			}
		}
	})
}
