package kube

import (
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
)

// betweenDials is how long a watch waits before it dials an API server again that it could not reach: 0.5 s at first, then up to
// 3 to 6 s. Reflectors of client-go wait for up to a minute (reflector.go, defaultBackoffMax and its jitter).
var betweenDials = wait.Backoff{Duration: 500 * time.Millisecond, Factor: 2, Cap: 3 * time.Second, Steps: 10, Jitter: 1}

// Patient makes watches of clients of config wait for an API server that cannot be reached, instead of failing. So informers know
// what is soon after an outage, however long it was: until then nobody could tell a node that died meanwhile, and a VIP that was
// deleted would stay. All other requests fail as they did.
func Patient(config *rest.Config) *rest.Config {
	config = rest.CopyConfig(config)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &patience{next: next, pause: betweenDials} })
	return config
}

// patience is the transport of Patient.
type patience struct {
	next  http.RoundTripper
	pause wait.Backoff
	away  atomic.Bool // for the log
}

func (p *patience) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := p.next.RoundTrip(request)
	if request.URL.Query().Get("watch") == "" {
		return response, err
	}
	ctx := request.Context()
	for pause := p.pause; err != nil && unreachable(err); {
		if !p.away.Swap(true) {
			klog.FromContext(ctx).Info("Watches wait for the API server", "host", request.URL.Host, "err", err)
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(pause.Step()):
		}
		response, err = p.next.RoundTrip(request)
	}
	if err == nil && p.away.Swap(false) {
		klog.FromContext(ctx).Info("Watches reach the API server again", "host", request.URL.Host)
	}
	return response, err
}

// unreachable reports whether an error is of the network, and no answer.
func unreachable(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) || utilnet.IsProbableEOF(err) || utilnet.IsTimeout(err)
}
