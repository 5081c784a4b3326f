package gossip

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"
)

var (
	keyA = bytes.Repeat([]byte("a"), 32)
	keyB = bytes.Repeat([]byte("b"), 32)
	keyC = bytes.Repeat([]byte("c"), 16)
)

// member is a node of a test's cluster, at an address of the loopback interface of its own.
type member struct {
	*Gossip
	t    testing.TB
	addr netip.Addr
	stop func()
	log  *lines
	api  atomic.Int32 // 1: it has the API
	asks atomic.Int32
	hook atomic.Pointer[func()] // is called when a State changed
}

// lines is a log that can be read while it is written.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lines) count(what string) int { return strings.Count(l.String(), what) }

// cluster is some nodes that know each other's addresses.
type cluster struct {
	t     testing.TB
	port  int
	mu    sync.Mutex
	nodes map[string]netip.Addr
}

var started = time.Now()

func clock() time.Duration { return time.Since(started) + time.Hour }

func newCluster(t testing.TB) *cluster {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	return &cluster{t: t, port: port, nodes: map[string]netip.Addr{}}
}

func (c *cluster) add(name, addr string) netip.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes[name] = netip.MustParseAddr(addr)
	return c.nodes[name]
}

func (c *cluster) known() map[string]netip.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.nodes)
}

// start runs a node until its stop or the test's end.
func (c *cluster) start(name, addr string, keys ...[]byte) *member {
	c.t.Helper()
	m := &member{t: c.t, addr: c.add(name, addr), log: &lines{}}
	m.api.Store(1)
	m.hook.Store(new(func() {}))
	var err error
	m.Gossip, err = New(Config{
		Node: name, Address: func() netip.Addr { return m.addr }, Port: c.port, Clock: clock, Peers: c.known,
		HasAPI: func(context.Context) bool { m.asks.Add(1); return m.api.Load() == 1 }, Notify: func() { (*m.hook.Load())() },
		Spares: func(peer string) string { return "epoch of " + peer },
	})
	if err != nil {
		c.t.Fatal(err)
	}
	if len(keys) > 0 {
		if err := m.SetKeys(keys); err != nil {
			c.t.Fatal(err)
		}
	}
	logger := textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(m.log)))
	ctx, cancel := context.WithCancel(klog.NewContext(context.WithoutCancel(c.t.Context()), logger))
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	m.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			c.t.Errorf("run: %v", err)
		}
	})
	c.t.Cleanup(m.stop)
	return m
}

// sees waits until a member sees a peer so.
func (m *member) sees(peer, what string, check func(State) bool) {
	m.t.Helper()
	eventually(m.t, fmt.Sprintf("%s sees that %s %s", m.config.Node, peer, what), func() bool {
		state, known := m.Peers()[peer]
		return known && check(state)
	}, func() string { return fmt.Sprintf("%+v\n%s", m.Peers(), m.log.String()) })
}

func alive(s State) bool    { return s.Alive && s.Dead == 0 && !s.Refused }
func refusing(s State) bool { return !s.Alive && s.Dead > time.Hour && s.Refused }

func eventually(t testing.TB, what string, check func() bool, detail func() string) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !check() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 30 s: %s", what, detail())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestAPeerThatEndsIsHeldDeadUntilItReturns(t *testing.T) {
	c := newCluster(t)
	one, two, three := c.start("n1", "127.0.0.1", keyA), c.start("n2", "127.0.0.2", keyA), c.start("n3", "127.0.0.3", keyA)
	for _, m := range []*member{one, two, three} {
		for name := range c.known() {
			if name != m.config.Node {
				m.sees(name, "lives", alive)
			}
		}
	}
	before := clock()
	three.stop()
	one.sees("n3", "ended", refusing)
	two.sees("n3", "ended", refusing)
	if dead := one.Peers()["n3"].Dead; dead < before || dead > clock() {
		t.Errorf("dead since %s, stopped after %s", dead, before)
	}
	if _, self := one.Peers()["n1"]; self {
		t.Error("a node is its own peer")
	}
	three = c.start("n3", "127.0.0.3", keyA)
	one.sees("n3", "is back", alive)
	two.sees("n3", "is back", alive)
	three.sees("n1", "lives", alive)
	for _, line := range []string{"A peer is held dead", "A peer is alive again"} {
		if n := one.log.count(line); n != 1 {
			t.Errorf("%q was logged %d times", line, n)
		}
	}
}

// TestAWatchedPeerThatGoesIsFoundOut although memberlist holds it alive, and one that answers is left alone.
func TestAWatchedPeerThatGoesIsFoundOut(t *testing.T) {
	c := newCluster(t)
	one := c.start("n1", "127.0.0.1", keyA)
	c.start("n2", "127.0.0.2", keyA)
	one.sees("n2", "lives", alive)
	silent := netip.AddrPortFrom(c.add("n3", "127.0.0.3"), uint16(c.port))
	one.mu.Lock()
	one.peers["n3"] = &peer{name: "n3", at: silent, state: State{Alive: true}, listed: true, kick: make(chan struct{}, 1)}
	one.mu.Unlock()
	one.Watch([]string{"n2", "n3", "nobody"})
	one.sees("n3", "ended", refusing)
	one.sees("n2", "lives", alive)
	if n := one.log.count("A peer is held dead"); n != 1 {
		t.Errorf("%d peers were held dead, want the one that does not answer: %s", n, one.log)
	}
	one.Watch(nil)
	eventually(t, "no question waits", func() bool {
		one.mu.Lock()
		defer one.mu.Unlock()
		return len(one.peers["n2"].watch.unanswered) == 0
	}, one.log.String)
}

func TestANodeMayReturnWithAnotherAddress(t *testing.T) {
	c := newCluster(t)
	one, two := c.start("n1", "127.0.0.1", keyA), c.start("n2", "127.0.0.2", keyA)
	one.sees("n2", "lives", alive)
	two.stop()
	moved := c.start("n2", "127.0.0.3", keyA)
	moved.sees("n1", "lives", alive)
	one.sees("n2", "lives at its new address", func(s State) bool {
		one.mu.Lock()
		defer one.mu.Unlock()
		return alive(s) && one.peers["n2"].at.Addr() == moved.addr
	})
}

func TestANodeThatIsNoMoreIsForgotten(t *testing.T) {
	c := newCluster(t)
	one, two := c.start("n1", "127.0.0.1", keyA), c.start("n2", "127.0.0.2", keyA)
	one.sees("n2", "lives", alive)
	two.stop()
	one.sees("n2", "ended", refusing)
	c.mu.Lock()
	delete(c.nodes, "n2")
	c.mu.Unlock()
	eventually(t, "n2 is forgotten", func() bool { return len(one.Peers()) == 0 }, func() string { return fmt.Sprint(one.Peers()) })
}

func TestWithoutAKeyNobodyGossips(t *testing.T) {
	c := newCluster(t)
	one, two := c.start("n1", "127.0.0.1"), c.start("n2", "127.0.0.2", keyA)
	eventually(t, "n2 gossips", func() bool { return two.log.count("Gossip starts") == 1 }, two.log.String)
	if conn, err := net.Dial("tcp", netip.AddrPortFrom(one.addr, uint16(c.port)).String()); err == nil {
		t.Errorf("n1 has no key and listens: %v", conn.Close())
	}
	for _, keys := range [][][]byte{nil, {[]byte("short")}, {keyA, []byte("short")}} {
		if err := one.SetKeys(keys); err == nil {
			t.Errorf("keys %q were taken", keys)
		}
	}
	if err := one.SetKeys([][]byte{keyA}); err != nil {
		t.Fatal(err)
	}
	one.sees("n2", "lives", alive)
}

func TestWhoHasAnotherKeyDoesNotJoin(t *testing.T) {
	c := newCluster(t)
	one, two := c.start("n1", "127.0.0.1", keyA), c.start("n2", "127.0.0.2", keyA)
	three := c.start("n3", "127.0.0.3", keyB)
	one.sees("n2", "lives", alive)
	two.sees("n1", "lives", alive)
	const complaint = "does not let this speaker join"
	eventually(t, "n3 is refused", func() bool { return three.log.count(complaint) == 2 }, three.log.String)
	eventually(t, "n1 is refused", func() bool { return one.log.count(complaint) == 1 }, one.log.String)
	// The key is what was wrong: with it n3 joins, and in the meantime nothing was logged again.
	if err := three.SetKeys([][]byte{keyA}); err != nil {
		t.Fatal(err)
	}
	if len(three.Peers()) != 0 || one.Peers()["n3"] != (State{}) {
		t.Errorf("n3 joined with another key: %v, %v", three.Peers(), one.Peers())
	}
	one.sees("n3", "lives", alive)
	three.sees("n2", "lives", alive)
	if n := one.log.count(complaint); n != 1 {
		t.Errorf("a peer that is refused was logged %d times", n)
	}
}

func TestKeysRotate(t *testing.T) {
	c := newCluster(t)
	members := []*member{c.start("n1", "127.0.0.1", keyA), c.start("n2", "127.0.0.2", keyA), c.start("n3", "127.0.0.3", keyA)}
	together := func() {
		t.Helper()
		for _, m := range members {
			asked := clock()
			eventually(t, m.config.Node+" hears from all", func() bool {
				m.Ask()
				peers := slices.Collect(maps.Values(m.Peers()))
				return len(peers) == 2 && alive(peers[0]) && alive(peers[1]) && min(peers[0].Said, peers[1].Said) >= asked
			}, func() string { return fmt.Sprint(m.Peers()) })
		}
	}
	together()
	for _, keys := range [][][]byte{{keyA, keyB}, {keyB, keyA}, {keyC, keyB}, {keyC}} {
		for _, m := range members {
			if err := m.SetKeys(keys); err != nil {
				t.Fatal(err)
			}
			if installed := m.keys.ring.GetKeys(); !slices.EqualFunc(installed, keys, bytes.Equal) {
				t.Errorf("installed %q, want %q", installed, keys)
			}
		}
		together()
	}
}

func TestPeersSayWhetherTheyHaveTheAPI(t *testing.T) {
	c := newCluster(t)
	one, two := c.start("n1", "127.0.0.1", keyA), c.start("n2", "127.0.0.2", keyA)
	one.sees("n2", "lives and said nothing", func(s State) bool { return alive(s) && s.Said == 0 && !s.HasAPI })
	two.api.Store(0)
	before := clock()
	one.Ask()
	after := clock()
	one.sees("n2", "has no API, and took nothing from n1", func(s State) bool {
		return s.Said > 0 && !s.HasAPI && s.Spared == "epoch of n1"
	})
	if said := one.Peers()["n2"].Said; said < before || said > after+time.Second {
		t.Errorf("asked between %s and %s, told it said so at %s", before, after, said)
	}
	two.api.Store(1)
	for first := one.Peers()["n2"].Said; one.Peers()["n2"].Said == first; time.Sleep(time.Millisecond) {
		one.Ask()
	}
	one.sees("n2", "has the API", func(s State) bool { return s.HasAPI && s.Spared == "" })
	if asks := two.asks.Load(); asks < 2 {
		t.Errorf("n2 tried the API %d times for two questions", asks)
	}
}

func TestNewNeedsAllOfItsConfig(t *testing.T) {
	if _, err := New(Config{Node: "n1"}); err == nil {
		t.Error("a Gossip without functions")
	}
	c := Config{
		Node: "n1", Address: func() netip.Addr { return netip.Addr{} }, Clock: clock, Peers: func() map[string]netip.Addr { return nil },
		HasAPI: func(context.Context) bool { return true }, Spares: func(string) string { return "" }, Notify: func() {},
	}
	for _, port := range []int{0, -1, 65536} {
		c.Port = port
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), fmt.Sprint(port)) {
			t.Errorf("port %d: %v", port, err)
		}
	}
}
