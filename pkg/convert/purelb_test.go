package convert

import "testing"

func TestPureLB(t *testing.T) { runCases(t, pureLBCases) }

var pureLBCases = []testCase{
	{
		name: "the group default gives to all, another to those that ask",
		input: `
apiVersion: purelb.io/v1
kind: ServiceGroup
metadata: {name: default, namespace: purelb}
spec:
  local:
    v4pool: {subnet: 192.0.2.0/24, pool: 192.0.2.240-192.0.2.250, aggregation: default}
    v6pool: {subnet: "2001:db8::/64", pool: "2001:db8::10-2001:db8::20", aggregation: default}
---
apiVersion: purelb.io/v1
kind: ServiceGroup
metadata: {name: edge, namespace: purelb}
spec:
  local:
    v4pools:
    - {subnet: 198.51.100.0/24, pool: 198.51.100.5/28, aggregation: /24}
    - {subnet: 198.51.100.0/24, pool: 198.51.100.32/28}
    v6pools: [{subnet: "2001:db8:1::/64", pool: "2001:db8:1::/124"}]
`,
		want: `
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: default
spec:
  addresses:
  - 192.0.2.240-192.0.2.250
  - 2001:db8::10-2001:db8::20
---
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: edge
spec:
  addresses:
  - 198.51.100.5-198.51.100.15
  - 198.51.100.32/28
  - 2001:db8:1::/124
  autoAssign: false
`,
		notes: []string{
			`ServiceGroup/purelb/edge: spec.local.aggregation "/24" has no equivalent: Fairlead binds each VIP as a single address`,
			`ServiceGroup/purelb/edge: is asked for by the annotation purelb.io/service-group: edge: give those Services fairlead.dev/pool: edge`,
		},
	},
	{
		name: "the fields of before dual stack",
		input: `
apiVersion: purelb.io/v1
kind: ServiceGroup
metadata: {name: default, namespace: purelb}
spec: {local: {subnet: 192.0.2.0/24, pool: 192.0.2.0/28, aggregation: default}}
`,
		want: `
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: default
spec:
  addresses:
  - 192.0.2.0/28
`,
	},
	{
		name: "what has no equivalent",
		input: `
apiVersion: purelb.io/v2
kind: ServiceGroup
metadata: {name: routed, namespace: purelb-system}
spec: {remote: {v4pool: {subnet: 203.0.113.0/24, pool: 203.0.113.0/24}}, namespaces: [shop]}
---
apiVersion: purelb.io/v1
kind: ServiceGroup
metadata: {name: box, namespace: purelb}
spec: {netbox: {url: "https://netbox.example", tenant: t}}
---
apiVersion: purelb.io/v1
kind: LBNodeAgent
metadata: {name: default, namespace: purelb}
spec: {local: {extlbint: kube-lb0, localint: eth1}}
---
apiVersion: purelb.io/v2
kind: LBNodeAgent
metadata: {name: other, namespace: purelb}
spec: {local: {localInterface: default, interfaces: [eth2]}}
---
apiVersion: purelb.io/v1
kind: ServiceGroup
metadata: {name: default, namespace: purelb}
spec: {local: {v4pool: {subnet: 192.0.2.0/24, pool: 192.0.2.0/28}}}
`,
		want: `
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: default
spec:
  addresses:
  - 192.0.2.0/28
`,
		notes: []string{
			`ServiceGroup/purelb-system/routed: spec.remote has no equivalent: its addresses are announced by routing; make an IPPool of addresses of a network of the nodes`,
			`ServiceGroup/purelb/box: spec.netbox has no equivalent: its addresses are kept by NetBox; make an IPPool of those that it gives to this cluster`,
			`LBNodeAgent/purelb/default: spec.local.localint "eth1" is set per pool in Fairlead: put the names of the interfaces into spec.interfaces of the pools`,
			`LBNodeAgent/purelb/other: spec.local.interfaces "[eth2]" is set per pool in Fairlead: put them into spec.interfaces of the pools, if the interface with the VIP's network is not the one`,
		},
	},
	{
		name: "a group of some namespaces is given to those",
		input: `
apiVersion: purelb.io/v2
kind: ServiceGroup
metadata: {name: shop, namespace: purelb}
spec: {local: {v4pool: {subnet: 192.0.2.0/24, pool: 192.0.2.0/28}}, namespaces: [shop], enforceNamespaces: true}
---
apiVersion: purelb.io/v2
kind: ServiceGroup
metadata: {name: blog, namespace: purelb}
spec: {local: {v4pool: {subnet: 192.0.2.0/24, pool: 192.0.2.16/28}}, namespaces: [blog]}
`,
		want: `
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: shop
spec:
  addresses:
  - 192.0.2.0/28
  namespaces:
  - shop
---
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: blog
spec:
  addresses:
  - 192.0.2.16/28
  namespaces:
  - blog
`,
		notes: []string{
			`ServiceGroup/purelb/blog: spec.namespaces "blog" does not keep Services of other namespaces from asking, in PureLB: Fairlead gives addresses of the pool to these alone; add the others to its spec.namespaces`,
		},
	},
}
