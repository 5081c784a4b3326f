package gossip

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/fairlead/fairlead/pkg/host/netnstest"
)

// variable tells a test process to be a member, with the settings that it holds. memberlist dials from goroutines of its own,
// so that a member in a network namespace has to be a process.
const variable = "FAIRLEAD_GOSSIP_MEMBER"

func TestMain(m *testing.M) {
	if text := os.Getenv(variable); text != "" {
		if err := beMember(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		return
	}
	m.Run()
}

// settings of a member's process.
type settings struct {
	Node  string
	Nodes map[string]netip.Addr
	Watch []string
}

const kernelPort = 7475

// beMember gossips until standard input ends, and writes what it sees whenever that changes.
func beMember(text string) error {
	var own settings
	if err := json.Unmarshal([]byte(text), &own); err != nil {
		return err
	}
	changed := make(chan struct{}, 1)
	g, err := New(Config{
		Node: own.Node, Address: func() netip.Addr { return own.Nodes[own.Node] }, Port: kernelPort, Clock: boot,
		Peers: func() map[string]netip.Addr { return own.Nodes }, HasAPI: func(context.Context) bool { return true }, Spares: func(string) string { return "" },
		Notify: func() { poke(changed) },
	})
	if err != nil {
		return err
	}
	if err := g.SetKeys([][]byte{keyA}); err != nil {
		return err
	}
	g.Watch(own.Watch)
	ctx, stop := signal.NotifyContext(klog.NewContext(context.Background(), klog.Background().WithValues("node", own.Node)), syscall.SIGTERM)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	go func() {
		out := json.NewEncoder(os.Stdout)
		for range changed {
			_ = out.Encode(g.Peers()) // a test that ended reads no more
		}
	}()
	return g.Run(ctx)
}

// boot is the clock of all members: they share a kernel.
func boot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(err)
	}
	return time.Duration(ts.Nano())
}

// process is a member in a network namespace of its own.
type process struct {
	t     testing.TB
	space *netnstest.Space
	own   settings
	cmd   *exec.Cmd
	log   *lines

	mu       sync.Mutex
	peers    map[string]State
	verdicts int // how often a peer was seen dead
}

// watchedMembers is how many members of a LAN, the first of them, are watched.
const watchedMembers = 3

// lan makes members on a LAN that know each other's addresses: "10.0.0.%d/24", "fd00::%d/64".
func lan(t testing.TB, members int, format string) []*process {
	t.Helper()
	l := netnstest.NewLAN(t)
	nodes := map[string]netip.Addr{}
	out := make([]*process, members)
	for i := range out {
		name, address := fmt.Sprintf("n%d", i+1), netip.MustParsePrefix(fmt.Sprintf(format, i+1))
		nodes[name] = address.Addr()
		out[i] = &process{t: t, space: l.Host(address.String()), own: settings{Node: name, Nodes: nodes}, log: &lines{}}
		out[i].space.Do(func() error { return netnstest.Sysctl("net/ipv6/conf/eth0/keep_addr_on_down", "1") })
	}
	for i, watched := range out[:watchedMembers] { // as owners of VIPs are, each by three others
		for ahead := 1; ahead <= min(3, members-1); ahead++ {
			by := out[(i+ahead)%members]
			by.own.Watch = append(by.own.Watch, watched.own.Node)
		}
	}
	for _, p := range out {
		p.start()
	}
	together(t, out)
	return out
}

// start runs the member's process.
func (p *process) start() {
	p.t.Helper()
	text, err := json.Marshal(p.own)
	if err != nil {
		p.t.Fatal(err)
	}
	p.cmd = exec.Command("/proc/self/exe", "-test.run=^$")
	p.cmd.Env = append(os.Environ(), variable+"="+string(text))
	p.cmd.Stderr = p.log
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	p.space.Do(p.cmd.Start)
	cmd, done := p.cmd, make(chan struct{})
	go func() {
		defer close(done)
		for scanner := bufio.NewScanner(stdout); scanner.Scan(); {
			p.read(scanner.Bytes())
		}
	}()
	p.t.Cleanup(func() {
		_ = stdin.Close()
		<-done
		_ = cmd.Wait() // it may have been killed
	})
}

func (p *process) read(line []byte) {
	var peers map[string]State
	if err := json.Unmarshal(line, &peers); err != nil {
		p.t.Errorf("%s wrote %q: %v", p.own.Node, line, err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, state := range peers {
		if before, known := p.peers[name]; !state.Alive && (!known || before.Alive) {
			p.verdicts++
		}
	}
	p.peers = peers
}

func (p *process) kill() {
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Error(err)
	}
}

// link takes the member's interface up or down.
func (p *process) link(up bool) {
	p.space.Do(func() error { return netnstest.Link("eth0", up) })
}

// state is what the member sees of a peer.
func (p *process) state(peer string) State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.peers[peer]
}

// sees waits until the members see another so.
func sees(t testing.TB, members []*process, peer *process, what string, check func(State) bool) {
	t.Helper()
	for _, p := range members {
		if p == peer {
			continue
		}
		eventually(t, fmt.Sprintf("%s sees that %s %s", p.own.Node, peer.own.Node, what),
			func() bool { return check(p.state(peer.own.Node)) },
			func() string { return fmt.Sprintf("%+v\n%s", p.state(peer.own.Node), p.log) })
	}
}

// together waits until all see all others alive.
func together(t testing.TB, members []*process) {
	t.Helper()
	for _, p := range members {
		sees(t, members, p, "lives", alive)
	}
}

// verdicts is the time that the first and the last of the others took to hold a member dead.
func verdicts(t testing.TB, members []*process, victim *process, since time.Duration, check func(State) bool) (first, last time.Duration) {
	t.Helper()
	sees(t, members, victim, "is dead", check)
	var all []time.Duration
	for _, p := range members {
		if p != victim {
			all = append(all, p.state(victim.own.Node).Dead-since)
		}
	}
	return slices.Min(all), slices.Max(all)
}

// quiet is a silent peer's state.
func quiet(s State) bool { return !s.Alive && s.Dead > 0 && !s.Refused }

// introduce gives the member's kernel the hardware addresses of all others for good.
func (p *process) introduce(members []*process) {
	p.t.Helper()
	for _, other := range members {
		if other == p {
			continue
		}
		var mac net.HardwareAddr
		other.space.Do(func() (err error) { mac, err = netnstest.MAC("eth0", nil); return err })
		p.run("ip", "neigh", "replace", p.own.Nodes[other.own.Node].String(), "lladdr", mac.String(), "dev", "eth0", "nud", "permanent")
	}
}

// netem makes the member's interface delay, reorder and lose what it sends (tc-netem(8)).
func (p *process) netem(arguments string) {
	p.t.Helper()
	p.run("tc", append(strings.Fields("qdisc replace dev eth0 root netem"), strings.Fields(arguments)...)...)
}

// run runs a program on the member's host.
func (p *process) run(name string, arguments ...string) {
	p.t.Helper()
	p.space.Do(func() error {
		if out, err := exec.Command(name, arguments...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s %v: %w: %s", name, arguments, err, out)
		}
		return nil
	})
}
