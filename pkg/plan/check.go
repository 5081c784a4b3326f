package plan

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/model"
)

// judge lists the members that are checked, with their verdicts. A node that is not Ready is checked too, so that it does not
// get connections on its kubelet's word alone when it is back. An endpoint that drains is not: it never comes back.
func (s *Snapshot) judge(members []member, check model.Check, port uint16) []Checked {
	var out []Checked
	for _, m := range members {
		if m.standing == draining || m.standing == absent {
			continue
		}
		target := model.Target{Addr: netip.AddrPortFrom(m.addr.Addr(), cmp.Or(port, m.addr.Port())), Check: check}
		out = append(out, Checked{Backend: m.addr, Target: target, Down: s.Down[target]})
	}
	return out
}

// checkOf is the health check of a frontend's backends, false if there is none. The port that takes the connections is checked
// only by their own protocol.
func checkOf(frontend *v1alpha1.Frontend) (model.Check, bool, error) {
	spec := frontend.HealthCheck
	if spec == nil {
		return model.Check{}, false, nil
	}
	check := model.Check{
		Type:     model.CheckType(cmp.Or(spec.Type, v1alpha1.CheckTCP)),
		Interval: seconds(spec.IntervalSeconds, v1alpha1.DefaultCheckIntervalSeconds),
		Timeout:  seconds(spec.TimeoutSeconds, v1alpha1.DefaultCheckTimeoutSeconds),
		Rise:     int(cmp.Or(spec.Rise, v1alpha1.DefaultCheckRise)),
		Fall:     int(cmp.Or(spec.Fall, v1alpha1.DefaultCheckFall)),
	}
	if spec.Port == 0 && model.Protocol(frontend.Protocol) != check.Type.Transport() {
		return model.Check{}, false, nil
	}
	switch check.Type {
	case model.CheckTCP:
	case model.CheckHTTP, model.CheckHTTPS:
		if err := askFor(&check, spec); err != nil {
			return model.Check{}, false, err
		}
	case model.CheckUDP:
		check.Payload, check.Reply = string(spec.Payload), string(spec.ExpectedReply)
	case model.CheckGRPC:
		check.Service = spec.GRPCService
	default:
		return model.Check{}, false, fmt.Errorf("healthCheck.type %q is not one of TCP, HTTP, HTTPS, UDP, GRPC: "+
			"set it to one of them in the pool", spec.Type)
	}
	return check, true, nil
}

// askFor fills in the GET of a check.
func askFor(check *model.Check, spec *v1alpha1.HealthCheck) (err error) {
	if check.Codes, err = statusCodes(spec.ExpectedCodes); err != nil {
		return err
	}
	check.Path, check.Host, check.Body = cmp.Or(spec.Path, v1alpha1.DefaultCheckPath), spec.Host, spec.BodyContains
	if check.Type == model.CheckHTTPS && spec.VerifyCertificate {
		check.Verify, check.CAs = true, spec.CABundle
	}
	return nil
}

func seconds(value, otherwise int32) time.Duration {
	return time.Duration(cmp.Or(value, otherwise)) * time.Second
}

func statusCodes(texts []v1alpha1.StatusCodes) (codes model.StatusCodes, err error) {
	if len(texts) == 0 {
		texts = []v1alpha1.StatusCodes{v1alpha1.DefaultCheckCodes}
	}
	for _, text := range texts {
		first, last, isRange := strings.Cut(string(text), "-")
		if !isRange {
			last = first
		}
		from, errFrom := strconv.Atoi(first)
		to, errTo := strconv.Atoi(last)
		if errFrom != nil || errTo != nil || !codes.Add(from, to) {
			return codes, fmt.Errorf("healthCheck.expectedCodes has %q, which is neither a status code (204) nor a range of them (200-399): "+
				"change it in the pool", text)
		}
	}
	return codes, nil
}
