package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/record"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/source"
)

// TestNoAddressIsGivenTwiceOrLostWhateverDies plays random users while controllers, two at once at times, are killed between
// any two requests, lose requests and answers, and see what happens late. After every write nobody may have an address that
// is another's, nor show one that is not his; when all is quiet nothing may be lost, and a restart may write nothing.
// FAIRLEAD_CHAOS_RUNS sets the number of plays.
func TestNoAddressIsGivenTwiceOrLostWhateverDies(t *testing.T) {
	runs := 12
	if n, err := strconv.Atoi(os.Getenv("FAIRLEAD_CHAOS_RUNS")); err == nil {
		runs = n
	}
	for seed := range uint64(runs) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			newChaos(t, seed).play()
		})
	}
}

// chaos is one play.
type chaos struct {
	*world
	random *rand.Rand
	names  []string

	// Of check, under the server's lock.
	wrong    []string
	history  []string        // the writes with what they made
	together map[string]bool // the pairs of Services that are on one VIP
	alone    bool            // one controller works at a time, and none left anything half done
}

func newChaos(t *testing.T, seed uint64) *chaos {
	c := &chaos{world: newWorld(t), random: rand.New(rand.NewPCG(seed, 11)), alone: true}
	for i := range 9 {
		c.names = append(c.names, fmt.Sprint("svc", i))
	}
	c.after = c.check
	c.pool("a", time.Hour, "192.0.2.0/30", "2001:db8::/126")
	c.pool("b", time.Minute, "198.51.100.0/31")
	return c
}

func (c *chaos) play() {
	lives := 6
	for range lives {
		processes := []process{c.process()}
		if c.random.IntN(2) == 0 {
			c.setAlone(false)
			processes = append(processes, c.process())
		}
		for range 60 {
			c.act()
			time.Sleep(time.Duration(c.random.IntN(8)) * time.Millisecond)
			if !slices.ContainsFunc(processes, func(p process) bool { return !p.killed() }) {
				break
			}
		}
		for _, p := range processes {
			p.stop()
		}
		c.repair()
	}
	_, stop := c.start(mapped)
	c.settled()
	before := c.state()
	stop()
	c.start(mapped)
	if writes := c.quiet(); len(writes) > 0 {
		c.Errorf("a restart wrote %v", writes)
	}
	if after := c.state(); after != before {
		c.Errorf("a restart made\n%s\nof\n%s", after, before)
	}
}

func (c *chaos) setAlone(alone bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.alone = alone
}

// repair lets one controller finish what two left, if two worked.
func (c *chaos) repair() {
	c.mu.Lock()
	alone := c.alone
	c.mu.Unlock()
	if !alone {
		_, stop := c.start(mapped)
		c.quiet()
		stop()
		c.setAlone(true)
	}
}

// process is a controller that works until it is killed.
type process struct {
	*link
	stop func()
}

// process runs a controller that is killed after a number of writes.
func (c *chaos) process() process {
	random := rand.New(rand.NewPCG(c.random.Uint64(), 3))
	l, core, fairlead := c.connect(random, int64(1+c.random.IntN(60)), 0.05, 30*time.Millisecond)
	config := Config{Core: core, Fairlead: fairlead, Recorder: record.NewFakeRecorder(100_000), Registry: prometheus.NewRegistry(),
		Rules: source.Rules{Class: source.DefaultClass, Classless: true}}
	mapped(&config)
	controller, err := New(config)
	if err != nil {
		c.Fatal(err)
	}
	ctx, cancel := context.WithCancel(c.ctx)
	done := make(chan error, 1)
	go func() { done <- controller.Run(ctx) }()
	c.eventually("caches filled", func() string {
		if l.killed() {
			return ""
		}
		return errText(controller.Ready())
	})
	return process{l, func() {
		l.once.Do(func() { close(l.dead) })
		cancel()
		if err := <-done; err != nil {
			c.Errorf("Run: %v", err)
		}
	}}
}

// act is something that a user does.
func (c *chaos) act() {
	name := c.names[c.random.IntN(len(c.names))]
	key := "one"
	if c.random.IntN(2) == 0 {
		key = "two"
	}
	switch svc, err := c.core.CoreV1().Services("default").Get(c.ctx, name, metav1.GetOptions{}); {
	case apierrors.IsNotFound(err):
		c.create(c.randomService(name, key))
	case err != nil:
		c.Error(err)
	case c.random.IntN(3) == 0:
		c.deleteService(name)
	default:
		fresh := c.randomService(name, key)
		svc.Spec, svc.Annotations = fresh.Spec, fresh.Annotations
		if _, err := c.core.CoreV1().Services("default").Update(c.ctx, svc, metav1.UpdateOptions{}); err != nil && !apierrors.IsConflict(err) {
			c.Error(err)
		}
	}
	switch c.random.IntN(8) {
	case 0:
		c.toggleClaim(fmt.Sprint("claim", c.random.IntN(2)))
	case 1:
		c.configMap([]string{"192.0.2.3", "default/" + name}[:2*c.random.IntN(2)]...)
	}
}

func (c *chaos) toggleClaim(name string) {
	if err := c.fairlead.FairleadV1alpha1().VIPs().Delete(c.ctx, name, metav1.DeleteOptions{}); apierrors.IsNotFound(err) {
		c.vip(name, v1alpha1.VIPSpec{})
	}
}

func (c *chaos) randomService(name, key string) *corev1.Service {
	families := []string{"IPv4", "IPv6", "IPv4 IPv6", "IPv6 IPv4"}[c.random.IntN(4)]
	svc := service(name, families, port(int32(80+c.random.IntN(3))))
	switch c.random.IntN(8) {
	case 5, 6, 7:
		svc.Annotations[source.AnnotationShareKey] = "one"
	case 0:
		svc.Spec.Type = corev1.ServiceTypeClusterIP
	case 1, 2:
		svc.Annotations[source.AnnotationShareKey] = key
	case 3:
		svc.Annotations[source.AnnotationPool] = "a"
	case 4:
		if families == "IPv4" {
			svc.Annotations[source.AnnotationAddresses] = fmt.Sprint("192.0.2.", c.random.IntN(4))
		}
	}
	if len(svc.Spec.IPFamilies) == 2 && c.random.IntN(2) == 0 {
		required(svc)
	}
	return svc
}

// check is called after every write, with the server locked.
func (c *chaos) check(write string) {
	fail := func(format string, args ...any) {
		c.wrong = append(c.wrong, "after "+write+": "+fmt.Sprintf(format, args...))
	}
	vips, services := c.objects()
	c.remember(write, vips, services)
	together := map[string]bool{}
	for _, vip := range vips {
		for i, a := range vip.Spec.Frontends {
			for _, b := range vip.Spec.Frontends[:i] {
				if a.Service.Name == b.Service.Name || a.ConfigMap != "" && b.ConfigMap != "" {
					continue // its own, or mapped together
				}
				pair := fmt.Sprint(vip.Name, vip.UID, min(a.Service.UID, b.Service.UID), max(a.Service.UID, b.Service.UID))
				together[pair] = true
				if why := source.Disagreement(a, b); why != "" && !c.together[pair] { // one may stop sharing later
					fail("VIP %s: %s", vip.Name, why)
				}
			}
		}
	}
	c.together = together
	if !c.alone { // a Service and a VIP are two writes: of two controllers, one may undo what the other tells
		return
	}
	for _, svc := range services {
		for _, addr := range addressesOf(svc) {
			has := slices.ContainsFunc(vips, func(vip *v1alpha1.VIP) bool {
				return vip.Name == source.VIPName(addr) && slices.ContainsFunc(vip.Spec.Frontends, frontendsOf(keyOf(svc), svc.UID))
			})
			if !has {
				fail("Service %s shows %s, and is not on its VIP: %s", svc.Name, addr, c.recall(svc.Name, source.VIPName(addr)))
			}
		}
	}
}

// remember keeps what a write made.
func (c *chaos) remember(write string, vips []*v1alpha1.VIP, services []*corev1.Service) {
	name := strings.Fields(write + " ? ?")[2]
	for _, vip := range vips {
		if vip.Name == name {
			for _, f := range vip.Spec.Frontends {
				write += fmt.Sprintf(" %s/%s:%d", f.Service.Name, f.Service.UID, f.Port)
			}
		}
	}
	for _, svc := range services {
		if svc.Name == name {
			condition := meta.FindStatusCondition(svc.Status.Conditions, ServiceAllocated)
			write += fmt.Sprint(" ", svc.UID, " rv", svc.ResourceVersion, addressesOf(svc), svc.Spec.Type, svc.Spec.Ports[0].Port, svc.Spec.IPFamilies,
				*svc.Spec.IPFamilyPolicy, svc.Annotations, condition)
		}
	}
	c.history = append(c.history, write)
}

// recall is the last of what was remembered of objects.
func (c *chaos) recall(names ...string) string {
	var lines []string
	for i := len(c.history) - 1; i >= 0 && len(lines) < 14; i-- {
		if slices.ContainsFunc(names, func(name string) bool { return strings.Contains(c.history[i], name) }) {
			lines = append(lines, c.history[i])
		}
	}
	slices.Reverse(lines)
	return "\n" + strings.Join(lines, "\n")
}

// objects are all VIPs and Services, read past the clientsets.
func (c *chaos) objects() (vips []*v1alpha1.VIP, services []*corev1.Service) {
	vipList, err := c.fairlead.Tracker().List(v1alpha1.SchemeGroupVersion.WithResource("vips"), v1alpha1.SchemeGroupVersion.WithKind("VIP"), "")
	if err != nil {
		c.Error(err)
		return nil, nil
	}
	serviceList, err := c.core.Tracker().List(corev1.SchemeGroupVersion.WithResource("services"), corev1.SchemeGroupVersion.WithKind("Service"), "")
	if err != nil {
		c.Error(err)
		return nil, nil
	}
	_ = meta.EachListItem(vipList, func(o runtime.Object) error { vips = append(vips, o.(*v1alpha1.VIP)); return nil })
	_ = meta.EachListItem(serviceList, func(o runtime.Object) error { services = append(services, o.(*corev1.Service)); return nil })
	return vips, services
}

// settled waits until all is quiet and looks whether nothing is lost: every VIP has somebody that it is for, every Service has
// what it can have, and the pools count what there is.
func (c *chaos) settled() {
	c.quiet()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, text := range c.wrong {
		c.Error(text)
	}
	vips, services := c.objects()
	used := map[string]int{}
	for _, vip := range vips {
		addr, isAddress := vipAddr(vip)
		if !isAddress {
			continue
		}
		used[vip.Spec.Pool]++
		if addr.Is6() {
			used[vip.Spec.Pool+"6"]++
		}
		c.checkWanted(vip, services)
	}
	full4 := used["a"]-used["a6"] == 4 && used["b"] == 2
	for _, svc := range services {
		if svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
			continue
		}
		_, asksAddress := svc.Annotations[source.AnnotationAddresses]
		_, asksPool := svc.Annotations[source.AnnotationPool]
		dual := len(svc.Spec.IPFamilies) > 1
		if len(addressesOf(svc)) == 0 && !asksAddress && !asksPool && !dual && svc.Spec.IPFamilies[0] == corev1.IPv4Protocol && !full4 {
			c.Errorf("Service %s has no address, and there are free ones: %v", svc.Name, used)
		}
		if condition := meta.FindStatusCondition(svc.Status.Conditions, ServiceAllocated); condition == nil {
			c.Errorf("Service %s has no condition", svc.Name)
		} else if (condition.Status == metav1.ConditionTrue) != (len(addressesOf(svc)) > 0) && *svc.Spec.IPFamilyPolicy != corev1.IPFamilyPolicyRequireDualStack {
			c.Errorf("Service %s has %v and says %s", svc.Name, addressesOf(svc), condition.Status)
		}
	}
}

// checkWanted reports a VIP that is for nobody.
func (c *chaos) checkWanted(vip *v1alpha1.VIP, services []*corev1.Service) {
	for _, f := range vip.Spec.Frontends {
		if f.ConfigMap != "" {
			continue
		}
		alive := slices.ContainsFunc(services, func(svc *corev1.Service) bool {
			return svc.Name == f.Service.Name && string(svc.UID) == f.Service.UID && svc.Spec.Type == corev1.ServiceTypeLoadBalancer &&
				slices.Contains(addressesOf(svc), netip.MustParseAddr(vip.Spec.Address))
		})
		if !alive {
			c.Errorf("VIP %s has a frontend of %s, which does not show it or is gone", vip.Name, f.Service.Name)
		}
	}
	for _, o := range vip.Spec.Owners {
		if o.Kind != v1alpha1.OwnerVIP {
			continue
		}
		claim, err := c.fairlead.Tracker().Get(v1alpha1.SchemeGroupVersion.WithResource("vips"), "", o.Name)
		if err != nil || string(claim.(*v1alpha1.VIP).UID) != o.UID || claim.(*v1alpha1.VIP).Spec.Address != vip.Spec.Address {
			c.Errorf("VIP %s is kept for claim %s, which is gone or has another", vip.Name, o.Name)
		}
	}
	if len(vip.Spec.Frontends) == 0 && len(vip.Spec.Owners) == 0 {
		c.Errorf("VIP %s is for nobody", vip.Name)
	}
}

// state is all that users see.
func (c *chaos) state() string {
	vips, services := c.objects()
	var lines []string
	for _, vip := range vips {
		spec, err := json.Marshal(vip.Spec)
		lines = append(lines, fmt.Sprintf("%s %s %v", vip.Name, spec, err))
	}
	for _, svc := range services {
		lines = append(lines, fmt.Sprint(svc.Name, addressesOf(svc), meta.FindStatusCondition(svc.Status.Conditions, ServiceAllocated)))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
