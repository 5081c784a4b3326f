package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	corefake "k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/election"
	"github.com/fairlead/fairlead/pkg/generated/clientset/versioned/fake"
	"github.com/fairlead/fairlead/pkg/kube"
)

// fakeCluster has two VIPs of Service shop/web, and three nodes, of which n3 is in maintenance. All is on n1.
type fakeCluster struct {
	core     *corefake.Clientset
	fairlead *fake.Clientset
}

const other6 = "2001-0db8-0000-0000-0000-0000-0000-0010"

func newFakeCluster() *fakeCluster {
	var core []runtime.Object
	for _, name := range []string{"n1", "n2", "n3"} {
		core = append(core,
			&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name},
				Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}},
			lease(election.HeartbeatName(name), election.KindHeartbeat, name+"/e"))
	}
	core[4].(*corev1.Node).Labels = map[string]string{v1alpha1.LabelMaintenance: "true"}
	core = append(core,
		&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "poor"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer},
			Status: corev1.ServiceStatus{Conditions: []metav1.Condition{{Type: "fairlead.dev/Allocated", Status: metav1.ConditionFalse,
				Reason: "AllocationFailed", Message: "IPPool lan is exhausted"}}}},
		&corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "e"}, Reason: "Announced", Message: "node n1 announces it on eth0"})
	var vips []runtime.Object
	for name, addr := range map[string]string{"192.0.2.10": "192.0.2.10", other6: "2001:db8::10"} {
		vips = append(vips, &v1alpha1.VIP{ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: v1alpha1.VIPSpec{Address: addr, Pool: "lan", Frontends: []v1alpha1.Frontend{
				{Port: 80, Protocol: corev1.ProtocolTCP, Service: v1alpha1.ServiceReference{Namespace: "shop", Name: "web"}}}},
			Status: v1alpha1.VIPStatus{Node: "n1", Interface: "eth0", Backends: "2/2"}})
		core = append(core, lease(election.ClaimName(name), election.KindClaim, "n1/e"))
	}
	vips = append(vips, &v1alpha1.VIP{ObjectMeta: metav1.ObjectMeta{Name: "shop"}, Spec: v1alpha1.VIPSpec{Address: "192.0.2.10"}})
	return &fakeCluster{core: corefake.NewClientset(core...), fairlead: fake.NewSimpleClientset(vips...)}
}

func lease(name, kind, holder string) *coordinationv1.Lease {
	seconds, renewed := int32(4), metav1.NowMicro()
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: "fairlead-system", Name: name, Labels: map[string]string{election.LabelLease: kind},
			Annotations: map[string]string{"fairlead.dev/speaker": `{"interfaces":{"eth0":["192.0.2.0/24","2001:db8::/64"]}}`}},
		Spec: coordinationv1.LeaseSpec{HolderIdentity: &holder, LeaseDurationSeconds: &seconds, RenewTime: &renewed},
	}
}

// run runs a command and returns what it wrote and the status that the program would end with.
func (f *fakeCluster) run(t *testing.T, args ...string) (out string, status int, err error) {
	t.Helper()
	cmd := command(&connection{clients: &kube.Clients{Core: f.core, Fairlead: f.fairlead}, namespace: "shop"})
	var text bytes.Buffer
	cmd.SetOut(&text)
	cmd.SetArgs(args)
	err = cmd.ExecuteContext(t.Context())
	return text.String(), statusOf(err), err
}

// obeyed makes VIPs go where they are asked to, but for those named.
func (f *fakeCluster) obeyed(not ...string) {
	f.fairlead.PrependReactor("patch", "vips", func(action clienttesting.Action) (bool, runtime.Object, error) {
		patch, ok := action.(clienttesting.PatchAction)
		if !ok || patch.GetPatchType() != types.MergePatchType {
			return false, nil, nil
		}
		object, err := f.fairlead.Tracker().Get(action.GetResource(), "", patch.GetName())
		if err != nil {
			return true, nil, err
		}
		vip := object.(*v1alpha1.VIP).DeepCopy()
		vip.Annotations = map[string]string{v1alpha1.AnnotationMoveTo: strings.Split(string(patch.GetPatch()), `"`)[7]}
		if len(not) == 0 || not[0] != vip.Name {
			vip.Status.Node = vip.Annotations[v1alpha1.AnnotationMoveTo]
		}
		return true, vip, f.fairlead.Tracker().Update(action.GetResource(), vip, "")
	})
}

func (f *fakeCluster) vip(t *testing.T, name string) *v1alpha1.VIP {
	t.Helper()
	vip, err := f.fairlead.FairleadV1alpha1().VIPs().Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return vip
}

func TestWhy(t *testing.T) {
	forbidden := func(resource string) func(*fakeCluster) {
		return func(f *fakeCluster) {
			deny := func(clienttesting.Action) (bool, runtime.Object, error) {
				return true, nil, apierrors.NewForbidden(corev1.Resource(resource), "", errors.New("no"))
			}
			f.core.PrependReactor("list", resource, deny)
			f.fairlead.PrependReactor("list", resource, deny)
		}
	}
	for _, tc := range []struct {
		name   string
		args   []string
		change func(*fakeCluster)
		status int
		parts  []string // of the output
		failed string   // part of the error
	}{
		{name: "an address", args: []string{"192.0.2.10"}, parts: []string{"192.0.2.10 answers", "Next:       n2\n", "n3: label fairlead.dev/maintenance",
			"Announced: node n1"}},
		{name: "an address in another notation", args: []string{"2001:DB8:0::10"}, parts: []string{"2001:db8::10 answers"}},
		{name: "an IPv4 address written as IPv6", args: []string{"::ffff:192.0.2.10"}, parts: []string{"192.0.2.10 answers"}},
		{name: "a name", args: []string{other6}, parts: []string{"2001:db8::10 answers"}},
		{name: "a claim", args: []string{"shop"}, parts: []string{"192.0.2.10 answers"}},
		{name: "a Service", args: []string{"shop/web"}, parts: []string{"192.0.2.10 answers", "\n\n2001:db8::10 answers"}},
		{name: "a Service in the namespace of the context", args: []string{"web"}, parts: []string{"192.0.2.10 answers", "2001:db8::10 answers"}},
		{name: "for programs", args: []string{"192.0.2.10", "-o", "json"}, parts: []string{`"healthy": true`, `"node": "n3"`}},
		{name: "for programs in YAML", args: []string{"192.0.2.10", "-o", "yaml"}, parts: []string{"- address: 192.0.2.10\n"}},
		{name: "one of two is bad", args: []string{"shop/web"}, status: statusBad, parts: []string{"192.0.2.10 does not answer", "2001:db8::10 answers"},
			change: func(f *fakeCluster) {
				_ = f.core.CoordinationV1().Leases("fairlead-system").Delete(context.Background(), "vip-192.0.2.10", metav1.DeleteOptions{})
			}},
		{name: "Leases are forbidden", args: []string{"192.0.2.10"}, change: forbidden("leases"),
			parts: []string{"192.0.2.10 answers", "Not read:   leases", "the holder is the one of the VIP's status"}},
		{name: "Nodes are forbidden", args: []string{"192.0.2.10"}, change: forbidden("nodes"), parts: []string{"Held by:    n1", "Not read:   nodes"}},
		{name: "Events are forbidden", args: []string{"192.0.2.10"}, change: forbidden("events"), parts: []string{"Next:       n2", "Not read:   events"}},
		{name: "VIPs are forbidden", args: []string{"192.0.2.10"}, change: forbidden("vips"), status: statusError, failed: "read VIPs"},
		{name: "no speaker in the namespace", args: []string{"192.0.2.10", "--system-namespace", "other"}, status: statusBad,
			parts: []string{"name it by --system-namespace"}},
		{name: "no VIP", args: []string{"192.0.2.99"}, status: statusError, failed: "there is no VIP 192.0.2.99"},
		{name: "no Service", args: []string{"shop/wep"}, status: statusError, failed: "nor a Service shop/wep"},
		{name: "a Service without VIP", args: []string{"shop/poor"}, status: statusBad, failed: "AllocationFailed: IPPool lan is exhausted"},
		{name: "an output that there is not", args: []string{"192.0.2.10", "-o", "wide"}, status: statusError, failed: "--output=wide"},
		{name: "no argument", status: statusError, failed: "accepts 1 arg"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFakeCluster()
			if tc.change != nil {
				tc.change(f)
			}
			out, status, err := f.run(t, append([]string{"why"}, tc.args...)...)
			if status != tc.status {
				t.Errorf("status %d, want %d: %v", status, tc.status, err)
			}
			if tc.failed != "" && (err == nil || !strings.Contains(err.Error(), tc.failed)) {
				t.Errorf("%v, want %q", err, tc.failed)
			}
			for _, part := range tc.parts {
				if !strings.Contains(out, part) {
					t.Errorf("%q is missing in\n%s", part, out)
				}
			}
		})
	}
}

func TestMove(t *testing.T) {
	f := newFakeCluster()
	f.obeyed()
	out, status, err := f.run(t, "move", "shop/web", "n2")
	if status != 0 || !strings.Contains(out, "192.0.2.10 moved from n1 to n2 in ") || !strings.Contains(out, "2001:db8::10 moved from n1 to n2 in ") {
		t.Errorf("%q, %v", out, err)
	}
	for _, name := range []string{"192.0.2.10", other6} {
		if vip := f.vip(t, name); vip.Status.Node != "n2" || len(vip.Annotations) > 0 {
			t.Errorf("%s is on %s with %v", name, vip.Status.Node, vip.Annotations)
		}
	}
	if out, status, err := f.run(t, "move", "192.0.2.10", "n2"); status != 0 || out != "192.0.2.10 is on n2 already\n" {
		t.Errorf("again: %q, %v", out, err)
	}
}

func TestMoveIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	f := newFakeCluster()
	_, status, err := f.run(t, "move", "shop/web", "n3")
	if status != statusBad || !strings.Contains(err.Error(), "node n3 may not hold 192.0.2.10: label fairlead.dev/maintenance") {
		t.Errorf("%d, %v", status, err)
	}
	for _, action := range f.fairlead.Actions() {
		if action.GetVerb() == "patch" {
			t.Errorf("it wrote %v", action)
		}
	}
}

func TestMoveTakesItsRequestBackInAnyCase(t *testing.T) {
	t.Run("nothing happened", func(t *testing.T) {
		f := newFakeCluster()
		f.obeyed("192.0.2.10")
		_, status, err := f.run(t, "move", "192.0.2.10", "n2", "--timeout", "10ms")
		if status != statusBad || !strings.Contains(err.Error(), "did not move from n1 to n2: waited for 10ms") {
			t.Errorf("%d, %v", status, err)
		}
		if vip := f.vip(t, "192.0.2.10"); len(vip.Annotations) > 0 {
			t.Errorf("it left %v", vip.Annotations)
		}
	})
	t.Run("the user interrupts it", func(t *testing.T) {
		f := newFakeCluster()
		f.obeyed("192.0.2.10")
		ctx, cancel := context.WithCancel(t.Context())
		f.fairlead.PrependReactor("get", "vips", func(clienttesting.Action) (bool, runtime.Object, error) {
			if len(f.vipAnnotations()) > 0 { // it waits
				cancel()
			}
			return false, nil, nil
		})
		to := &connection{clients: &kube.Clients{Core: f.core, Fairlead: f.fairlead}, system: "fairlead-system"}
		err := runMove(ctx, &bytes.Buffer{}, to, "192.0.2.10", "n2", time.Hour)
		if statusOf(err) != statusBad || !strings.Contains(err.Error(), "did not move") {
			t.Errorf("%v", err)
		}
		if left := f.vipAnnotations(); len(left) > 0 {
			t.Errorf("it left %v", left)
		}
	})
	t.Run("somebody else wants it elsewhere meanwhile", func(t *testing.T) {
		f := newFakeCluster()
		f.obeyed()
		f.fairlead.PrependReactor("patch", "vips", func(action clienttesting.Action) (bool, runtime.Object, error) {
			if action.(clienttesting.PatchAction).GetPatchType() != types.JSONPatchType {
				return false, nil, nil
			}
			object, err := f.fairlead.Tracker().Get(action.GetResource(), "", "192.0.2.10")
			if err != nil {
				return true, nil, err
			}
			vip := object.(*v1alpha1.VIP).DeepCopy()
			vip.Annotations[v1alpha1.AnnotationMoveTo] = "n1"
			return false, nil, f.fairlead.Tracker().Update(action.GetResource(), vip, "")
		})
		if _, status, err := f.run(t, "move", "192.0.2.10", "n2"); status != 0 {
			t.Errorf("%d, %v", status, err)
		}
		if left := f.vipAnnotations(); left[v1alpha1.AnnotationMoveTo] != "n1" {
			t.Errorf("it left %v", left)
		}
	})
}

// vipAnnotations are those of 192.0.2.10, past all reactors.
func (f *fakeCluster) vipAnnotations() map[string]string {
	object, err := f.fairlead.Tracker().Get(v1alpha1.SchemeGroupVersion.WithResource("vips"), "", "192.0.2.10")
	if err != nil {
		return nil
	}
	return object.(*v1alpha1.VIP).Annotations
}

func TestRebalance(t *testing.T) {
	f := newFakeCluster()
	f.obeyed()
	out, status, err := f.run(t, "rebalance", "--dry-run")
	if status != 0 || !strings.HasPrefix(out, "1 of 2 VIPs are to move:\n") || !strings.HasSuffix(out, " from n1 to n2\n") {
		t.Errorf("dry run: %q, %v", out, err)
	}
	if out, status, err = f.run(t, "rebalance"); status != 0 || !strings.Contains(out, " moved from n1 to n2 in ") {
		t.Errorf("%q, %v", out, err)
	}
	if a, b := f.vip(t, "192.0.2.10").Status.Node, f.vip(t, other6).Status.Node; a == b {
		t.Errorf("both are on %s", a)
	}
	if _, status, err = f.run(t, "rebalance", "--pool", "none"); status != statusBad || !strings.Contains(err.Error(), `IPPool "none"`) {
		t.Errorf("%d, %v", status, err)
	}
}
