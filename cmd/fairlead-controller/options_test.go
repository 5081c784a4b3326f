package main

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	o, err := parse(nil)
	if err != nil {
		t.Fatal(err)
	}
	if o.metricsAddress != ":7474" || o.rules.Class != "fairlead.dev/lb" || !o.rules.Classless || o.client.QPS != 200 || o.client.Burst != 400 ||
		!strings.HasPrefix(o.identity, o.hostname+"_") {
		t.Errorf("defaults: %+v", o)
	}
	again, _ := parse(nil)
	if again.identity == o.identity {
		t.Error("two starts have one identity")
	}
	for _, tc := range []struct{ name, args, says string }{
		{"a class that no Service can have", "--load-balancer-class=not a class", "--load-balancer-class"},
		{"no workers", "--workers=0", "at least 1"},
		{"no rate", "--kube-api-qps=-1", "--kube-api-qps"},
		{"an unknown flag", "--pool=a", "unknown flag"},
		{"an argument", "start", "unexpected argument"},
		{"a ConfigMap without a namespace", "--vip-configmap=vips", "write namespace/name"},
		{"a ConfigMap without a name", "--services-configmap=kube-system/", "write namespace/name"},
		{"a bad selector", "--vip-configmap-selector=a=b=c", "--vip-configmap-selector"},
		{"no namespace for the Lease", "--namespace=", "--leader-elect=false"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := parse([]string{tc.args}); err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v, want %q", err, tc.says)
			}
		})
	}
}
