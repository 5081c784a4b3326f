package election

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	clienttesting "k8s.io/client-go/testing"
)

const namespace = "fairlead-system"

// newAPI is a fake API server that does what the protocol rests on and client-go's fake does not: resourceVersions that
// rise, updates that conflict, and UIDs.
func newAPI() *fake.Clientset {
	client := fake.NewClientset()
	var mu sync.Mutex
	version := 0
	stamp := func(lease *coordinationv1.Lease) {
		version++
		lease.ResourceVersion = strconv.Itoa(version)
	}
	client.PrependReactor("create", "leases", func(action clienttesting.Action) (bool, runtime.Object, error) {
		mu.Lock()
		defer mu.Unlock()
		lease := action.(clienttesting.CreateAction).GetObject().(*coordinationv1.Lease).DeepCopy()
		lease.Namespace = namespace
		stamp(lease)
		lease.UID = types.UID(fmt.Sprint("uid-", version))
		if err := client.Tracker().Create(action.GetResource(), lease, namespace); err != nil {
			return true, nil, err
		}
		return true, lease, nil
	})
	client.PrependReactor("update", "leases", func(action clienttesting.Action) (bool, runtime.Object, error) {
		mu.Lock()
		defer mu.Unlock()
		lease := action.(clienttesting.UpdateAction).GetObject().(*coordinationv1.Lease).DeepCopy()
		found, err := client.Tracker().Get(action.GetResource(), namespace, lease.Name)
		if err != nil {
			return true, nil, err
		}
		if found.(*coordinationv1.Lease).ResourceVersion != lease.ResourceVersion {
			return true, nil, apierrors.NewConflict(coordinationv1.Resource("leases"), lease.Name, fmt.Errorf("another version"))
		}
		stamp(lease)
		if err := client.Tracker().Update(action.GetResource(), lease, namespace); err != nil {
			return true, nil, err
		}
		return true, lease, nil
	})
	return client
}

// quick makes the protocol fast enough for a test and slow enough for a busy machine.
func quick() Timing {
	return Timing{
		TSelf: 1500 * time.Millisecond, TTake: 2 * time.Second, RenewEvery: 200 * time.Millisecond,
		IdleRenewEvery: time.Second, IdleExpiry: 10 * time.Second, StepDelay: 10 * time.Second, RevokeDelay: 50 * time.Millisecond,
		RestartGrace: 20 * time.Second,
	}
}

type member struct {
	*Elector
	stop func()
}

func join(t *testing.T, client *fake.Clientset, node string) *member {
	t.Helper()
	e := New(Config{Node: node, Namespace: namespace, Client: client, Timing: quick(), Clock: BootTime, Notify: func() {}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	var once sync.Once
	m := &member{Elector: e, stop: func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("elector of %s: %v", node, err)
			}
		})
	}}
	t.Cleanup(m.stop)
	e.SetVIPs([]VIP{{Name: "10.0.0.1", Candidates: []string{"a", "b"}}}, Status{Settled: true})
	e.SetBound(map[string]bool{})
	e.SetInfo(Info{})
	return m
}

func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if check() {
			return
		}
	}
	t.Fatal("waited in vain until", what)
}

func (m *member) holds() bool { return slices.Equal(m.Status().Hold, []string{"10.0.0.1"}) }

// holder waits until one of two members holds the VIP and returns it first, then the other.
func holder(t *testing.T, a, b *member) (*member, *member) {
	t.Helper()
	eventually(t, "somebody holds the VIP", func() bool { return a.holds() || b.holds() })
	if a.holds() {
		return a, b
	}
	return b, a
}

func TestAnotherTakesOverFromOneThatDied(t *testing.T) {
	client := newAPI()
	first, second := holder(t, join(t, client, "a"), join(t, client, "b"))
	eventually(t, "both know each other", func() bool { return len(second.Status().Speakers) == 2 })
	eventually(t, "one saw the other renew", func() bool { return len(second.Status().Silent) == 1 })
	first.stop() // without handing anything back, as if it was killed
	died := BootTime()
	eventually(t, "the other took over", second.holds)
	if BootTime() < first.Until() {
		t.Errorf("taken over %v before the right of the dead one ended", first.Until().Sub(BootTime()))
	}
	t.Logf("taken over after %v", BootTime().Sub(died))
	if silent, seen := second.Status().Silent[first.config.Node]; !seen || silent < BootTime().Sub(died) {
		t.Errorf("it died %v ago, and is held to be silent for %v (seen to live: %v)", BootTime().Sub(died), silent, seen)
	}
	lease, err := client.CoordinationV1().Leases(namespace).Get(context.Background(), HeartbeatName(first.config.Node), metav1.GetOptions{})
	if err != nil || lease.Spec.HolderIdentity != nil {
		t.Errorf("the dead one's heartbeat was not revoked: %v, %v", lease, err)
	}
}

func TestOneThatWasDeadBeforeIsNotHeldToHaveLived(t *testing.T) {
	client := newAPI()
	a := join(t, client, "a")
	eventually(t, "it holds the VIP", a.holds)
	a.stop()
	b := join(t, client, "b")
	eventually(t, "the other took over", b.holds)
	if silent := b.Status().Silent; len(silent) != 0 {
		t.Errorf("seen to live: %v", silent)
	}
}

func TestWhoWasReachedHasLived(t *testing.T) {
	now := Instant(time.Hour)
	e := New(Config{Node: "a", Namespace: namespace, Client: newAPI(), Timing: quick(), Clock: func() Instant { return now }, Notify: func() {}})
	ago := func(d time.Duration) Instant { return now.Add(-d) }
	e.renewed = map[string]Instant{"b": ago(time.Second), "c": ago(time.Second), "d": ago(time.Second)}
	e.SetReach(map[string]Reach{
		"c": {Alive: true}, "d": {Dead: ago(2 * time.Second)},
		"e": {Alive: true}, "f": {Dead: ago(3 * time.Second)},
	})
	want := map[string]time.Duration{"b": time.Second, "c": 0, "d": time.Second, "e": 0, "f": 3 * time.Second}
	if got := e.Status().Silent; !maps.Equal(got, want) {
		t.Errorf("silent %v, want %v", got, want)
	}
}

func TestHandingBackLetsAnotherTakeOverAtOnce(t *testing.T) {
	client := newAPI()
	first, second := holder(t, join(t, client, "a"), join(t, client, "b"))
	eventually(t, "both know each other", func() bool { return len(second.Status().Speakers) == 2 })
	first.stop()
	if err := first.Resign(context.Background()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other took over", second.holds)
	leases, err := client.CoordinationV1().Leases(namespace).List(context.Background(), metav1.ListOptions{})
	if err != nil || len(leases.Items) != 2 {
		t.Errorf("Leases left: %v, %v; want the other's heartbeat and the claim", leases.Items, err)
	}
}

func TestARevokedSpeakerLosesItsRightAndComesBackWithANewEpoch(t *testing.T) {
	client := newAPI()
	a := join(t, client, "a")
	eventually(t, "it holds the VIP", a.holds)
	leases := client.CoordinationV1().Leases(namespace)
	epoch := ""
	eventually(t, "the revocation is written", func() bool {
		lease, err := leases.Get(context.Background(), HeartbeatName("a"), metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		epoch = parseOwner(lease.Spec.HolderIdentity).Epoch
		revoke(lease, "b", "a test")
		_, err = leases.Update(context.Background(), lease, metav1.UpdateOptions{})
		return err == nil
	})
	eventually(t, "it claims the VIP again under another epoch", func() bool {
		lease, err := leases.Get(context.Background(), ClaimName("10.0.0.1"), metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		owner := parseOwner(lease.Spec.HolderIdentity)
		return owner.Node == "a" && owner.Epoch != epoch && a.holds()
	})
	lease, err := leases.Get(context.Background(), HeartbeatName("a"), metav1.GetOptions{})
	if err != nil || lease.Annotations[annotationRevoked] != epoch {
		t.Errorf("its heartbeat does not tell that epoch %s was revoked: %v, %v", epoch, lease, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.view.Lost == 0 {
		t.Error("it does not know that it was revoked")
	}
}

func TestARestartedSpeakerGoesOnWithItsEpoch(t *testing.T) {
	client := newAPI()
	a := join(t, client, "a")
	eventually(t, "it holds the VIP", a.holds)
	a.stop()
	before, err := client.CoordinationV1().Leases(namespace).Get(context.Background(), ClaimName("10.0.0.1"), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	again := join(t, client, "a")
	eventually(t, "the next process holds the VIP", again.holds)
	after, err := client.CoordinationV1().Leases(namespace).Get(context.Background(), ClaimName("10.0.0.1"), metav1.GetOptions{})
	if err != nil || before.ResourceVersion != after.ResourceVersion {
		t.Errorf("the claim was written: %v before, %v after (%v)", before.ResourceVersion, after.ResourceVersion, err)
	}
}

// TestWhatWasFoundOfAProcessDoesNotCountForTheNext: the others know that the one before ended, and hear that the next one lives
// only after its first heartbeat.
func TestWhatWasFoundOfAProcessDoesNotCountForTheNext(t *testing.T) {
	client := newAPI()
	one, other := holder(t, join(t, client, "a"), join(t, client, "b"))
	node := one.config.Node
	heartbeat := func() *coordinationv1.Lease {
		lease, err := client.CoordinationV1().Leases(namespace).Get(context.Background(), HeartbeatName(node), metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return lease
	}
	epoch := parseOwner(heartbeat().Spec.HolderIdentity).Epoch
	one.stop()
	if _, err := one.Pause(context.Background()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other knows that it restarts", func() bool {
		other.mu.Lock()
		defer other.mu.Unlock()
		return other.view.Peers[node].Grace > 0
	})
	other.SetReach(map[string]Reach{node: {Dead: BootTime(), Refused: true}})
	again := join(t, client, node)
	eventually(t, "the next process holds the VIP", again.holds)
	renewals := map[string]bool{}
	eventually(t, "it has renewed its heartbeat", func() bool {
		lease := heartbeat()
		if now := parseOwner(lease.Spec.HolderIdentity).Epoch; now != epoch {
			t.Fatalf("its epoch was %s and is %s", epoch, now)
		}
		renewals[lease.ResourceVersion] = true
		return len(renewals) > 3
	})
}

func TestAClaimIsDeletedOnlyWhenItsVIPIsNotBound(t *testing.T) {
	client := newAPI()
	a := join(t, client, "a")
	eventually(t, "it holds the VIP", a.holds)
	a.SetBound(map[string]bool{"10.0.0.1": true})
	a.SetVIPs(nil, a.Status())
	eventually(t, "it holds nothing", func() bool { return len(a.Status().Hold) == 0 })
	get := func() error {
		_, err := client.CoordinationV1().Leases(namespace).Get(context.Background(), ClaimName("10.0.0.1"), metav1.GetOptions{})
		return err
	}
	time.Sleep(2 * quick().RenewEvery)
	if err := get(); err != nil {
		t.Fatalf("the claim is gone although the VIP is bound: %v", err)
	}
	a.SetBound(map[string]bool{})
	eventually(t, "the claim is deleted", func() bool { return apierrors.IsNotFound(get()) })
}

// gated keeps new claims back, as a slow API server does, until the gate opens, and tells of them.
type gated struct {
	coordinationclient.LeaseInterface
	asked chan string
	gate  chan struct{}
}

func (g gated) Create(ctx context.Context, lease *coordinationv1.Lease, options metav1.CreateOptions) (*coordinationv1.Lease, error) {
	if isClaim(lease.Name) {
		g.asked <- lease.Name
		<-g.gate
	}
	return g.LeaseInterface.Create(ctx, lease, options)
}

func TestAClaimThatAnotherWroteBeforeItsTurnCameIsLeftAlone(t *testing.T) {
	client := newAPI()
	timing := quick()
	timing.TTake = time.Minute // nobody knows the other: it is waited for
	e := New(Config{Node: "a", Namespace: namespace, Client: client, Timing: timing, Clock: BootTime, Notify: func() {}})
	leases := gated{LeaseInterface: e.leases, asked: make(chan string, 2*maxWrites), gate: make(chan struct{})}
	e.leases = leases
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	waits := map[string]bool{}
	var vips []VIP
	for i := range maxWrites + 1 {
		vips = append(vips, VIP{Name: fmt.Sprintf("10.0.0.%d", 100+i), Candidates: []string{"a"}})
		waits[ClaimName(vips[i].Name)] = true
	}
	e.SetVIPs(vips, Status{Settled: true})
	e.SetBound(map[string]bool{})
	e.SetInfo(Info{})
	for range maxWrites {
		delete(waits, <-leases.asked)
	}
	for name := range waits {
		vip, _ := strings.CutPrefix(name, claimPrefix)
		lease := &coordinationv1.Lease{}
		claim(lease, Owner{"b", "1"}, "", Move{VIP: vip, To: Owner{"b", "1"}}, metav1.NowMicro())
		written, err := client.CoordinationV1().Leases(namespace).Create(context.Background(), lease, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "it sees the other's claim", func() bool {
			e.mu.Lock()
			defer e.mu.Unlock()
			return e.objects[name] != nil
		})
		close(leases.gate)
		eventually(t, "it holds all others and writes none any more", func() bool {
			e.mu.Lock()
			defer e.mu.Unlock()
			return len(e.status.Hold) >= maxWrites && !slices.ContainsFunc(slices.Collect(maps.Keys(e.busy)), isClaim)
		})
		after, err := client.CoordinationV1().Leases(namespace).Get(context.Background(), name, metav1.GetOptions{})
		if err != nil || after.ResourceVersion != written.ResourceVersion {
			t.Errorf("the other's claim was written over: %v, %v", after, err)
		}
	}
}

// late keeps the answer to a write back until others did something, as a slow network does.
type late struct {
	coordinationclient.LeaseInterface
	meanwhile func(written *coordinationv1.Lease)
}

func (l late) Update(ctx context.Context, lease *coordinationv1.Lease, options metav1.UpdateOptions) (*coordinationv1.Lease, error) {
	written, err := l.LeaseInterface.Update(ctx, lease, options)
	if err == nil {
		l.meanwhile(written)
	}
	return written, err
}

func TestARenewalThatIsAnsweredAfterTheRevocationGivesNoRight(t *testing.T) {
	e := New(Config{Node: "a", Namespace: namespace, Client: newAPI(), Timing: quick(), Clock: BootTime, Notify: func() {}})
	if err := e.renew(t.Context(), nil); err != nil || !e.view.Registered {
		t.Fatalf("registered %v, error %v", e.view.Registered, err)
	}
	epoch, leases := e.view.Self.Epoch, e.leases
	e.leases = late{LeaseInterface: leases, meanwhile: func(written *coordinationv1.Lease) {
		lease := written.DeepCopy()
		revoke(lease, "b", "a test")
		revoked, err := leases.Update(t.Context(), lease, metav1.UpdateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		e.observe(revoked) // as the watch does
	}}
	if err := e.renew(t.Context(), nil); !errors.Is(err, errLost) || e.view.Registered {
		t.Errorf("after the revocation: registered %v, error %v", e.view.Registered, err)
	}
	e.leases = leases
	if err := e.renew(t.Context(), nil); err != nil || !e.view.Registered || e.view.Self.Epoch == epoch {
		t.Errorf("after that: registered %v as %v, error %v; want another epoch than %s", e.view.Registered, e.view.Self, err, epoch)
	}
}
