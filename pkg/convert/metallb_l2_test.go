package convert

import "testing"

func TestMetalLBAdvertisements(t *testing.T) { runCases(t, metalLBAdvertisementsCases) }

var metalLBAdvertisementsCases = []testCase{
	{
		name: "an advertisement without a selection covers every pool",
		input: `
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan, namespace: metallb-system, labels: {zone: east}}
spec: {addresses: [192.0.2.0/28]}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: wan, namespace: metallb-system}
spec: {addresses: [198.51.100.0/28]}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: l2-1, namespace: metallb-system}
spec: {nodeSelectors: [{matchLabels: {role: edge}}], interfaces: [eth1]}
`,
		want: `
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: lan
spec:
  addresses:
  - 192.0.2.0/28
  interfaces:
  - eth1
  nodeSelector:
    matchLabels:
      role: edge
---
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: wan
spec:
  addresses:
  - 198.51.100.0/28
  interfaces:
  - eth1
  nodeSelector:
    matchLabels:
      role: edge
`,
	},
	{
		name: "pools are selected by name and by label, and one that nothing covers is noted",
		input: `
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan, namespace: metallb-system, labels: {zone: east}}
spec: {addresses: [192.0.2.0/28]}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: wan, namespace: metallb-system}
spec: {addresses: [198.51.100.0/28]}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: l2-1, namespace: metallb-system}
spec: {ipAddressPoolSelectors: [{matchLabels: {zone: east}}], interfaces: [eth1]}
`,
		want: `
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: lan
spec:
  addresses:
  - 192.0.2.0/28
  interfaces:
  - eth1
---
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: wan
spec:
  addresses:
  - 198.51.100.0/28
`,
		notes: []string{
			`IPAddressPool/metallb-system/wan: is covered by no L2Advertisement of the input, so that MetalLB does not announce it by ARP and NDP: Fairlead will; leave the pool out if that is not what you want`,
		},
	},
	{
		name: "nodes by name become one selector",
		input: `
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan, namespace: metallb-system, labels: {zone: east}}
spec: {addresses: [192.0.2.0/28]}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: wan, namespace: metallb-system}
spec: {addresses: [198.51.100.0/28]}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: l2-1, namespace: metallb-system}
spec: 
  ipAddressPools: [lan, wan]
  nodeSelectors:
  - matchLabels: {kubernetes.io/hostname: n2}
  - matchLabels: {kubernetes.io/hostname: n1}
  - matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [n3, n1]}]
`,
		want: `
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: lan
spec:
  addresses:
  - 192.0.2.0/28
  nodeSelector:
    matchExpressions:
    - key: kubernetes.io/hostname
      operator: In
      values:
      - n1
      - n2
      - n3
---
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: wan
spec:
  addresses:
  - 198.51.100.0/28
  nodeSelector:
    matchExpressions:
    - key: kubernetes.io/hostname
      operator: In
      values:
      - n1
      - n2
      - n3
`,
	},
	{
		name: "selectors that one cannot say: the first stays",
		input: `
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan, namespace: metallb-system, labels: {zone: east}}
spec: {addresses: [192.0.2.0/28]}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: wan, namespace: metallb-system}
spec: {addresses: [198.51.100.0/28]}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: l2-1, namespace: metallb-system}
spec: 
  ipAddressPools: [lan, wan]
  nodeSelectors:
  - matchLabels: {role: edge}
  - matchLabels: {zone: east}
`,
		want: `
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: lan
spec:
  addresses:
  - 192.0.2.0/28
  nodeSelector:
    matchLabels:
      role: edge
---
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: wan
spec:
  addresses:
  - 198.51.100.0/28
  nodeSelector:
    matchLabels:
      role: edge
`,
		notes: []string{
			`L2Advertisement/metallb-system/l2-1: spec.nodeSelectors are several that one selector cannot say, for pool lan: the pool keeps the first; give all these nodes one label and set spec.nodeSelector to it`,
			`L2Advertisement/metallb-system/l2-1: spec.nodeSelectors are several that one selector cannot say, for pool wan: the pool keeps the first; give all these nodes one label and set spec.nodeSelector to it`,
		},
	},
	{
		name: "what one advertisement allows, another cannot take away",
		input: `
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan, namespace: metallb-system, labels: {zone: east}}
spec: {addresses: [192.0.2.0/28]}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: wan, namespace: metallb-system}
spec: {addresses: [198.51.100.0/28]}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: l2-1, namespace: metallb-system}
spec: {ipAddressPools: [lan], nodeSelectors: [{matchLabels: {role: edge}}], interfaces: [eth1]}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: l2-2, namespace: metallb-system}
spec: {}
`,
		want: `
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: lan
spec:
  addresses:
  - 192.0.2.0/28
---
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: wan
spec:
  addresses:
  - 198.51.100.0/28
`,
	},
	{
		name: "advertisements of the same interface add nodes, of the same nodes interfaces",
		input: `
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan, namespace: metallb-system, labels: {zone: east}}
spec: {addresses: [192.0.2.0/28]}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: wan, namespace: metallb-system}
spec: {addresses: [198.51.100.0/28]}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: l2-1, namespace: metallb-system}
spec: {ipAddressPools: [lan], nodeSelectors: [{matchLabels: {role: edge}}], interfaces: [eth1]}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: l2-2, namespace: metallb-system}
spec: {ipAddressPools: [lan], nodeSelectors: [{matchLabels: {role: gate}}], interfaces: [eth1]}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: l2-3, namespace: metallb-system}
spec: {ipAddressPools: [wan, old], nodeSelectors: [{matchLabels: {role: edge}}], interfaces: [eth1]}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: l2-4, namespace: metallb-system}
spec: {ipAddressPools: [wan], nodeSelectors: [{matchLabels: {role: edge}}], interfaces: [eth2, an-interface-name-that-is-long]}
`,
		want: `
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: lan
spec:
  addresses:
  - 192.0.2.0/28
  interfaces:
  - eth1
  nodeSelector:
    matchExpressions:
    - key: role
      operator: In
      values:
      - edge
      - gate
---
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: wan
spec:
  addresses:
  - 198.51.100.0/28
  interfaces:
  - eth1
  - eth2
  nodeSelector:
    matchLabels:
      role: edge
`,
		notes: []string{
			`IPAddressPool/metallb-system/wan: spec.interfaces "eth1,eth2,an-interface-name-that-is-long" are several, and MetalLB answers on all of them: Fairlead binds a VIP to the first that the node has; put the best first`,
			`IPAddressPool/metallb-system/wan: spec.interfaces "an-interface-name-that-is-long" is not the name of an interface: it is left out; write 1 to 15 characters`,
			`L2Advertisement/metallb-system/l2-3: spec.ipAddressPools "old" is not in the input: convert it together with the IPAddressPool`,
		},
	},
	{
		name: "other nodes with other interfaces: the first stays",
		input: `
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan, namespace: metallb-system, labels: {zone: east}}
spec: {addresses: [192.0.2.0/28]}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: wan, namespace: metallb-system}
spec: {addresses: [198.51.100.0/28]}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: l2-1, namespace: metallb-system}
spec: {nodeSelectors: [{matchLabels: {role: edge}}], interfaces: [eth1]}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: l2-2, namespace: metallb-system}
spec: {ipAddressPools: [lan], nodeSelectors: [{matchLabels: {role: gate}}], interfaces: [eth2]}
`,
		want: `
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: lan
spec:
  addresses:
  - 192.0.2.0/28
  interfaces:
  - eth1
  nodeSelector:
    matchLabels:
      role: edge
---
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: wan
spec:
  addresses:
  - 198.51.100.0/28
  interfaces:
  - eth1
  nodeSelector:
    matchLabels:
      role: edge
`,
		notes: []string{
			`IPAddressPool/metallb-system/lan: is covered by L2Advertisements that differ in nodes and interfaces (l2-1, l2-2): the pool keeps what l2-1 says; make a pool for each of the others`,
		},
	},
}
