package tests

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/e2e/scenario"
	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
)

func TestAPoolWithAMalformedAddressIsRefused(t *testing.T) {
	s, ctx := connect(t)
	for _, text := range []string{"10.87.300.1", "10.87.2.10-", "10.87.2.10-fd87::1", "10.87.2.0/33", "everything"} {
		_, err := s.CreatePool(ctx, "malformed", text)
		if err == nil {
			t.Errorf("a pool of %q was accepted", text)
			must(t, s.Fairlead.FairleadV1alpha1().IPPools().Delete(ctx, "malformed", metav1.DeleteOptions{}))
			continue
		}
		for _, part := range []string{"spec.addresses[0]", text, "must be a CIDR (192.0.2.0/28), a range"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("the refusal of %q does not name %q: %v", text, part, err)
			}
		}
	}
}

// ready waits until a pool's condition Ready has a reason, and returns its message.
func ready(t *testing.T, s *scenario.Scenario, name, reason string) (message string) {
	t.Helper()
	ctx := within(t.Context(), t)
	must(t, scenario.Until(ctx, func() error {
		pool, err := s.Fairlead.FairleadV1alpha1().IPPools().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, condition := range pool.Status.Conditions {
			if condition.Type == v1alpha1.PoolReady && condition.Reason == reason {
				message = condition.Message
				return nil
			}
		}
		return fmt.Errorf("IPPool %s has conditions %v, want reason %s", name, pool.Status.Conditions, reason)
	}))
	return message
}

// event waits for an event about an object, whose text holds all parts.
func event(t *testing.T, s *scenario.Scenario, kind, name string, parts ...string) {
	t.Helper()
	ctx := within(t.Context(), t)
	must(t, scenario.Until(ctx, func() error {
		events, err := s.Core.CoreV1().Events(metav1.NamespaceAll).List(ctx, metav1.ListOptions{
			FieldSelector: "involvedObject.kind=" + kind + ",involvedObject.name=" + name,
		})
		if err != nil {
			return err
		}
		var seen []string
		for _, event := range events.Items {
			missing := false
			for _, part := range parts {
				missing = missing || !strings.Contains(event.Message, part)
			}
			if !missing {
				return nil
			}
			seen = append(seen, event.Message)
		}
		return fmt.Errorf("no event of %s %s names %q; there are %q", kind, name, parts, seen)
	}))
}

func temporaryPool(t testing.TB, s *scenario.Scenario, name string, change func(*v1alpha1.IPPool), addresses ...string) {
	t.Helper()
	pool := &v1alpha1.IPPool{ObjectMeta: metav1.ObjectMeta{Name: name}}
	for _, text := range addresses {
		pool.Spec.Addresses = append(pool.Spec.Addresses, v1alpha1.AddressRange(text))
	}
	if change != nil {
		change(pool)
	}
	_, err := s.Fairlead.FairleadV1alpha1().IPPools().Create(t.Context(), pool, metav1.CreateOptions{})
	must(t, err)
	t.Cleanup(func() {
		must(t, s.Fairlead.FairleadV1alpha1().IPPools().Delete(context.Background(), name, metav1.DeleteOptions{}))
	})
}

func temporaryService(t *testing.T, s *scenario.Scenario, name string, change func(*corev1.Service)) {
	t.Helper()
	_, err := s.CreateService(t.Context(), scenario.Service(name, change))
	must(t, err)
	t.Cleanup(func() {
		must(t, s.Core.CoreV1().Services(scenario.Namespace).Delete(context.Background(), name, metav1.DeleteOptions{}))
	})
}

func manual(pool *v1alpha1.IPPool) { no := false; pool.Spec.AutoAssign = &no }

func single(service *corev1.Service) {
	policy := corev1.IPFamilyPolicySingleStack
	service.Spec.IPFamilyPolicy, service.Spec.IPFamilies = &policy, []corev1.IPFamily{corev1.IPv4Protocol}
}

func TestAPoolThatOverlapsAnOlderOneIsNotUsed(t *testing.T) {
	s, _ := connect(t)
	temporaryPool(t, s, "older", manual, "10.87.100.0/28")
	ready(t, s, "older", v1alpha1.PoolReasonReady)
	temporaryPool(t, s, "younger", manual, "10.87.100.8-10.87.100.20")
	message := ready(t, s, "younger", v1alpha1.PoolReasonOverlap)
	if !strings.Contains(message, "older") || !strings.Contains(message, "10.87.100.8") {
		t.Errorf("the condition does not name the other pool and the addresses: %s", message)
	}
	ready(t, s, "older", v1alpha1.PoolReasonReady)
}

func TestAServiceThatAsksForAnAddressOfNoPoolIsTold(t *testing.T) {
	s, _ := connect(t)
	temporaryService(t, s, "asking", func(service *corev1.Service) {
		single(service)
		service.Annotations = map[string]string{"fairlead.dev/addresses": "192.0.2.77"}
	})
	event(t, s, "Service", "asking", "192.0.2.77", "IPPool")
}

func TestAServiceThatFindsItsPoolFullIsToldAndGetsTheAddressThatIsFreed(t *testing.T) {
	s, ctx := connect(t)
	temporaryPool(t, s, "tiny", manual, "10.87.101.1")
	asks := func(service *corev1.Service) {
		single(service)
		service.Annotations = map[string]string{"fairlead.dev/pool": "tiny"}
	}
	_, err := s.CreateService(ctx, scenario.Service("first", asks))
	must(t, err)
	addresses, err := s.Addresses(within(ctx, t), "first", 1)
	must(t, err)
	ready(t, s, "tiny", v1alpha1.PoolReasonExhausted)
	temporaryService(t, s, "second", asks)
	event(t, s, "Service", "second", "tiny")
	must(t, s.Core.CoreV1().Services(scenario.Namespace).Delete(ctx, "first", metav1.DeleteOptions{}))
	again, err := s.Addresses(within(ctx, t), "second", 1)
	must(t, err)
	if again[0] != addresses[0] {
		t.Errorf("the second Service got %v, not the freed %v", again, addresses)
	}
}

func TestAVIPThatNoNodeHasAnInterfaceForSaysSo(t *testing.T) {
	s, ctx := connect(t)
	temporaryPool(t, s, "remote", manual, "192.0.2.0/28")
	temporaryService(t, s, "remote", func(service *corev1.Service) {
		single(service)
		service.Annotations = map[string]string{"fairlead.dev/pool": "remote"}
	})
	addresses, err := s.Addresses(within(ctx, t), "remote", 1)
	must(t, err)
	must(t, scenario.Until(within(ctx, t), func() error {
		vip, err := s.VIP(ctx, addresses[0])
		if err != nil {
			return err
		}
		for _, condition := range vip.Status.Conditions {
			if condition.Reason == v1alpha1.VIPReasonNoCandidate && strings.Contains(condition.Message, "n1: no interface is in the network of 192.0.2.0") {
				return nil
			}
		}
		return fmt.Errorf("VIP %s has conditions %v", addresses[0], vip.Status.Conditions)
	}))
}

// TestASpeakerThatLacksRightsSaysWhich starts a second speaker on a node with no capability at all.
func TestASpeakerThatLacksRightsSaysWhich(t *testing.T) {
	s, ctx := connect(t)
	binary, err := s.Output(ctx, "n1", "sh", "-c", "readlink /proc/$(pgrep -x fairlead-speake | head -1)/exe")
	must(t, err)
	out, err := s.Output(ctx, "n1", "sh", "-c", "setpriv --bounding-set=-all --inh-caps=-all "+binary+" --node-name=n1 2>&1; echo status $?")
	must(t, err)
	for _, part := range []string{"CAP_NET_ADMIN", "CAP_NET_RAW", "needs you", "remedy:", "status 1"} {
		if !strings.Contains(out, part) {
			t.Errorf("a speaker without rights does not say %q:\n%s", part, out)
		}
	}
}
