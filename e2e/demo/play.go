package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/scenario"
	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
)

// play holds the steps of the story and what one step leaves to the next.
type play struct {
	*scenario.Scenario
	story  *story
	nodes  []string
	podsOn string
	vips   []netip.Addr
}

const manifest = `apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: demo
spec:
  addresses: [10.87.2.10-10.87.2.19, "fd87::2:10/124"]
---
apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  type: LoadBalancer
  ipFamilyPolicy: PreferDualStack
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
`

// expected are the addresses that an empty pool gives first: the client asks for them before they exist, so that nothing of
// the time to the first answer is lost.
var expected = []netip.Addr{netip.MustParseAddr("10.87.2.10"), netip.MustParseAddr("fd87::2:10")}

func (p *play) showCluster(ctx context.Context) (err error) {
	if p.nodes, err = p.Nodes(ctx); err != nil {
		return err
	}
	if len(p.nodes) < 3 {
		return fmt.Errorf("the demo needs 3 nodes, and there are %d: lab run --nodes 3", len(p.nodes))
	}
	if err := p.story.kubectl(ctx, "get", "nodes", "-o", "custom-columns=NODE:.metadata.name,ADDRESSES:.status.addresses[*].address,VERSION:.status.nodeInfo.kubeletVersion"); err != nil {
		return err
	}
	processes, err := p.Processes(ctx)
	if err != nil {
		return err
	}
	for _, process := range processes {
		if strings.HasPrefix(process.Name, "fairlead-") {
			p.story.say("%s runs on %s, %d MB resident", process.Name, process.Host, process.RSS>>20)
		}
	}
	return nil
}

// addPods puts both servers on one node, so that the machine that is switched off later need not be one of theirs.
func (p *play) addPods(ctx context.Context) error {
	p.podsOn = p.nodes[len(p.nodes)-1]
	if err := p.AddWebPods(ctx, "web", p.podsOn, p.podsOn); err != nil {
		return err
	}
	p.story.say("web-1 and web-2 answer on port 8080, behind node %s", p.podsOn)
	return nil
}

func (p *play) createService(ctx context.Context) error {
	probe, err := p.Probe(ctx, "client", cluster.ProbeOptions{}, urls(expected)...)
	if err != nil {
		return err
	}
	for line := range strings.Lines(manifest) {
		p.story.say("| %s", strings.TrimRight(line, "\n"))
	}
	poolText, serviceText, _ := strings.Cut(manifest, "---\n")
	var pool v1alpha1.IPPool
	var service corev1.Service
	if err := errors.Join(yaml.UnmarshalStrict([]byte(poolText), &pool), yaml.UnmarshalStrict([]byte(serviceText), &service)); err != nil {
		return err
	}
	service.Namespace = scenario.Namespace
	if _, err := p.Fairlead.FairleadV1alpha1().IPPools().Create(ctx, &pool, metav1.CreateOptions{}); err != nil {
		return err
	}
	if err := scenario.Until(ctx, func() error { return p.poolReady(ctx) }); err != nil {
		return err
	}
	started := time.Now()
	if _, err := p.CreateService(ctx, &service); err != nil {
		return err
	}
	if err := p.firstAnswers(ctx, probe, started); err != nil {
		return err
	}
	if p.vips, err = p.Addresses(ctx, "web", len(expected)); err != nil {
		return err
	}
	if !slices.Equal(p.vips, expected) {
		return fmt.Errorf("the Service has addresses %v, not %v", p.vips, expected)
	}
	return p.story.kubectl(ctx, "get", "service", "web")
}

// firstAnswers waits until every URL of a probe has answered.
func (p *play) firstAnswers(ctx context.Context, probe *cluster.Probe, started time.Time) error {
	answered := map[string]bool{}
	for len(answered) < len(expected) {
		event, err := probe.Next(ctx)
		if err != nil {
			return err
		}
		if event.Up && !answered[event.URL] {
			answered[event.URL] = true
			p.story.say("%s answered %d ms after the Service was created", event.URL, time.Since(started).Milliseconds())
		}
	}
	p.story.figure("first_answer_ms", milliseconds(time.Since(started)))
	_, err := probe.Stop()
	return err
}

func (p *play) poolReady(ctx context.Context) error {
	pool, err := p.Fairlead.FairleadV1alpha1().IPPools().Get(ctx, "demo", metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, condition := range pool.Status.Conditions {
		if condition.Type == "Ready" && condition.Status == metav1.ConditionTrue {
			return nil
		}
	}
	return errors.New("the pool is not Ready")
}

func urls(addresses []netip.Addr) (out []string) {
	for _, addr := range addresses {
		out = append(out, scenario.URL(addr, 80))
	}
	return out
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
