package tests

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/scenario"
	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
)

// dialogue is a TCP connection from a host on which lines are asked and answered.
type dialogue struct {
	in      *io.PipeWriter
	answers *bufio.Reader
}

// converse opens a connection from a host to a server that answers lines, and reads its greeting.
func converse(t *testing.T, s *scenario.Scenario, host string, addr netip.Addr, port int) *dialogue {
	t.Helper()
	script := fmt.Sprintf(`exec 3<>/dev/tcp/%s/%d && read -r -t 20 greeting <&3 || exit 1
		while read -r line; do echo "$line" >&3; read -r -t 20 answer <&3 || exit 2; echo "$answer"; done`, addr, port)
	in, writer := io.Pipe()
	reader, out := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := s.Exec(context.Background(), host, cluster.Stdio{In: in, Out: out}, "bash", "-c", script)
		out.CloseWithError(fmt.Errorf("the connection of %s to %s ended: %w", host, addr, err))
		in.Close()
	}()
	t.Cleanup(func() { writer.Close(); <-done })
	return &dialogue{in: writer, answers: bufio.NewReader(reader)}
}

// ask sends a line and returns the answer.
func (d *dialogue) ask(t *testing.T) string {
	t.Helper()
	if _, err := io.WriteString(d.in, "still there?\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := d.answers.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(answer)
}

// TestConnectionsOutliveTheirHolder moves a VIP there and back under connections to nodes behind it.
func TestConnectionsOutliveTheirHolder(t *testing.T) {
	s, ctx := connect(t)
	serve(t, s, "n3", "tcp:9000")
	for _, forwarding := range []v1alpha1.Forwarding{v1alpha1.ForwardMasquerade, v1alpha1.ForwardDirect, v1alpha1.ForwardTunnel} {
		t.Run(string(forwarding), func(t *testing.T) {
			hosts := func(names ...string) *metav1.LabelSelector {
				return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "kubernetes.io/hostname", Operator: "In", Values: names}}}
			}
			poolWith(t, s, func(spec *v1alpha1.IPPoolSpec) {
				spec.NodeSelector, spec.Forwarding = hosts("n1", "n2"), forwarding
				spec.Backends = &v1alpha1.Backends{Kind: v1alpha1.BackendNodes, NodeSelector: hosts("n3")}
			})
			addresses := webAs(t, s, "outlive-"+strings.ToLower(string(forwarding)), func(svc *corev1.Service) {
				svc.Spec.Ports = []corev1.ServicePort{{Name: "lines", Port: 9000, TargetPort: intstr.FromInt32(9000)}}
			})
			for _, addr := range addresses {
				must(t, scenario.Until(within(ctx, t), func() error {
					_, err := s.Output(ctx, "client", "bash", "-c", fmt.Sprintf("timeout 1 bash -c 'exec 3<>/dev/tcp/%s/9000; echo >&3; read <&3'", addr))
					return err
				}))
				var open []*dialogue
				for _, host := range []string{"client", "far", "client", "far"} {
					d := converse(t, s, host, addr, 9000)
					d.ask(t)
					open = append(open, d)
				}
				for range 2 {
					holder, err := s.Holder(within(ctx, t), addr, "")
					must(t, err)
					must(t, s.Fault(ctx, cluster.StopSpeaker, holder))
					_, err = s.Holder(within(ctx, t), addr, holder)
					must(t, err)
					for _, d := range open {
						if by := d.ask(t); !strings.HasPrefix(by, "n3 ") {
							t.Errorf("%s answered %q", addr, by)
						}
					}
					must(t, s.Fault(ctx, cluster.StartSpeaker, holder))
				}
			}
		})
	}
}
