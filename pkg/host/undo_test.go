package host

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestUndoPutsBackWhatIsStillOurs(t *testing.T) {
	content := fresh()
	content["ipv4/neigh/eth0/proxy_delay"], content["ipv6/neigh/eth0/proxy_delay"] = "80\n", "80\n"
	content["ipv6/conf/eth0/proxy_ndp"] = "0\n"
	s := sysctls(t, content)
	s.Record = filepath.Join(t.TempDir(), "new", "sysctls.json")
	for range 2 { // what a second speaker finds is of the first one's making
		if _, err := s.Apply(); err != nil {
			t.Fatal(err)
		}
		if err := s.Proxy("eth0"); err != nil {
			t.Fatal(err)
		}
	}
	for path, v := range map[string]string{"ipv4/neigh/eth0/proxy_delay": "0", "ipv6/neigh/eth0/proxy_delay": "0", "ipv6/conf/eth0/proxy_ndp": "1"} {
		if got := value(t, s, path); got != v {
			t.Errorf("%s is %s, want %s", path, got, v)
		}
	}
	if err := os.WriteFile(s.file("ipv4/vs/sloppy_tcp"), []byte("5\n"), 0); err != nil { // somebody else
		t.Fatal(err)
	}
	if err := os.Remove(s.file("ipv6/neigh/eth0/proxy_delay")); err != nil { // its interface went
		t.Fatal(err)
	}
	lines, err := s.Undo()
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"ipv4/vs/conntrack": "0", "netfilter/nf_conntrack_tcp_be_liberal": "0", "ipv4/neigh/eth0/proxy_delay": "80", "ipv6/conf/eth0/proxy_ndp": "0",
		"ipv4/vs/sloppy_tcp": "5", "ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1", "ipv6/conf/eth0/accept_ra": "2",
	} {
		if got := value(t, s, path); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
	text := strings.Join(lines, "\n")
	for _, says := range []string{
		"sysctl net.ipv4.vs.conntrack is 0 again", "left sysctl net.ipv4.vs.sloppy_tcp=5: somebody changed it since (it was 0, Fairlead set 1)",
		"left sysctl net.ipv4.ip_forward=1: pods and containers may need it (sysctl -w net.ipv4.ip_forward=0 puts it back)",
	} {
		if !strings.Contains(text, says) {
			t.Errorf("it does not say %q:\n%s", says, text)
		}
	}
	if lines, err := s.Undo(); len(lines) != 0 || err != nil {
		t.Errorf("a second time: %q, %v", lines, err)
	}
	if _, err := os.Stat(s.Record); !os.IsNotExist(err) {
		t.Errorf("the record is still there: %v", err)
	}
}

func TestARecordThatCannotBeReadIsAnError(t *testing.T) {
	s := sysctls(t, fresh())
	s.Record = filepath.Join(files(t, map[string]string{"r": "{"}), "r")
	if _, err := s.Apply(); err == nil || !strings.Contains(err.Error(), "remove the file") {
		t.Errorf("error %v", err)
	}
	if got := value(t, s, "ipv4/ip_forward"); got != "0" {
		t.Errorf("what cannot be put back was changed to %s", got)
	}
}

func TestCheckOfSysctls(t *testing.T) {
	content := fresh()
	delete(content, "ipv4/vs/sloppy_tcp")
	content["ipv4/vs/conntrack"] = "1\n"
	s := sysctls(t, content)
	states := map[string]State{}
	for _, f := range s.Check() {
		states[f.What] = f.State
		if (f.State != OK) != (f.Detail != "") && f.State != Fixed {
			t.Errorf("%s is %s with detail %q", f.What, f.State, f.Detail)
		}
	}
	for name, want := range map[string]State{
		"sysctl net.ipv4.vs.conntrack": OK, "sysctl net.ipv4.vs.sloppy_tcp": NeedsYou, "sysctl net.ipv4.ip_forward": Fixed,
		"sysctl net.ipv6.conf.all.forwarding": Fixed, "sysctl net.ipv6.conf.eth0.accept_ra": Fixed,
	} {
		if states[name] != want {
			t.Errorf("%s is %q, want %q", name, states[name], want)
		}
	}
	for _, f := range s.Check() {
		if f.State == Fixed {
			t.Errorf("a second time %s is fixed", f.What)
		}
	}
}

func TestEachSideHasItsSysctls(t *testing.T) {
	names := func(side Side) (all []string) {
		for _, setting := range (&Sysctls{Side: side, Link: "fl-x"}).wanted() {
			all = append(all, dotted(setting.path)+"="+setting.value)
		}
		return all
	}
	outside, inside := names(Outside), names(Inside)
	if slices.Contains(outside, "net.ipv4.vs.conntrack=1") || !slices.Contains(outside, "net.ipv4.conf.fl-x.rp_filter=2") {
		t.Errorf("outside: %v", outside)
	}
	if !slices.Contains(inside, "net.ipv4.vs.conntrack=1") || !slices.Contains(inside, "net.ipv4.conf.all.rp_filter=0") {
		t.Errorf("inside: %v", inside)
	}
	for _, side := range [][]string{outside, inside} {
		if !slices.Contains(side, "net.ipv4.ip_forward=1") {
			t.Errorf("no forwarding: %v", side)
		}
	}
}
