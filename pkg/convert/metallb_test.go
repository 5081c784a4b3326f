package convert

import "testing"

func TestMetalLB(t *testing.T) { runCases(t, metalLBCases) }

var metalLBCases = []testCase{
	{
		name: "a pool becomes a pool, with what is the default left out",
		input: `
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata:
  name: lan
  namespace: metallb-system
  creationTimestamp: "2024-05-01T10:00:00Z"
  uid: 0a
spec:
  addresses: [192.0.2.16/28, 192.0.2.40-192.0.2.50, "2001:DB8:0::10 - 2001:db8::20"]
  autoAssign: true
  avoidBuggyIPs: true
status: {assignedIPv4: 3}
`,
		want: `
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: lan
spec:
  addresses:
  - 192.0.2.16/28
  - 192.0.2.40-192.0.2.50
  - 2001:db8::10-2001:db8::20
  avoidBuggyIPs: true
`,
	},
	{
		name: "a CIDR is the network that it is in, one address is one, and what is twice is once",
		input: `
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan}
spec:
  addresses: [192.0.2.20/28, 192.0.2.16/28, 192.0.2.40/32, 192.0.2.41-192.0.2.41]
  autoAssign: false
`,
		want: `
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: lan
spec:
  addresses:
  - 192.0.2.16/28
  - 192.0.2.40
  - 192.0.2.41
  autoAssign: false
`,
	},
	{
		name: "the order of priorities is turned around, and unset stays last",
		input: `
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: second}
spec: {addresses: [192.0.2.0/28], serviceAllocation: {priority: 50, namespaces: [shop, shop]}}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: last}
spec: {addresses: [192.0.2.16/28], serviceAllocation: {namespaceSelectors: [{matchLabels: {team: "a"}}]}}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: first}
spec:
  addresses: [192.0.2.32/28]
  serviceAllocation:
    priority: 1
    serviceSelectors: [{matchExpressions: [{key: tier, operator: In, values: [edge, front]}]}]
`,
		want: `
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: second
spec:
  addresses:
  - 192.0.2.0/28
  namespaces:
  - shop
  priority: 10
---
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: last
spec:
  addresses:
  - 192.0.2.16/28
  namespaceSelectors:
  - matchLabels:
      team: a
---
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: first
spec:
  addresses:
  - 192.0.2.32/28
  priority: 20
  serviceSelectors:
  - matchExpressions:
    - key: tier
      operator: In
      values:
      - edge
      - front
`,
	},
	{
		name: "a pool that is pinned to nothing is had by asking",
		input: `
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: asked, namespace: metallb-system}
spec: {addresses: [192.0.2.0/28], autoAssign: true, serviceAllocation: {priority: -1}}
`,
		want: `
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: asked
spec:
  addresses:
  - 192.0.2.0/28
  autoAssign: false
`,
		notes: []string{
			`IPAddressPool/metallb-system/asked: spec.serviceAllocation.priority "-1" is negative, where MetalLB has no order: set spec.priority of the pool; the highest comes first`,
			`IPAddressPool/metallb-system/asked: spec.serviceAllocation names no Services, so that MetalLB gives addresses of the pool only when asked for it: it becomes autoAssign: false; remove that if every Service may have them`,
		},
	},
	{
		name: "entries that cannot be used are noted, and the others stay",
		input: `
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan, namespace: metallb-system}
spec: {addresses: [192.0.2.300/24, 192.0.2.9-192.0.2.1, 224.0.0.0/24, 192.0.2.0/28], brandNew: {x: 1}}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: none, namespace: metallb-system}
spec: {addresses: [lan]}
`,
		want: `
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: lan
spec:
  addresses:
  - 192.0.2.0/28
`,
		notes: []string{
			`IPAddressPool/metallb-system/lan: spec.addresses "192.0.2.300/24" is not a CIDR: write a CIDR (192.0.2.0/28, 2001:db8::/120), a range (192.0.2.10-192.0.2.20), or one address (192.0.2.10)`,
			`IPAddressPool/metallb-system/lan: spec.addresses "192.0.2.9-192.0.2.1" ends before it begins: write 192.0.2.1-192.0.2.9`,
			`IPAddressPool/metallb-system/lan: spec.addresses "224.0.0.0/24" holds addresses of 224.0.0.0/4, which is multicast (RFC 5771): leave them out: nobody could connect to them`,
			`IPAddressPool/metallb-system/lan: spec.brandNew "{\"x\":1}" is not converted: see kubectl explain ippools.spec for what a pool can have`,
			`IPAddressPool/metallb-system/none: spec.addresses "lan" holds "lan", which is not an IP address: write a CIDR (192.0.2.0/28, 2001:db8::/120), a range (192.0.2.10-192.0.2.20), or one address (192.0.2.10)`,
			`IPAddressPool/metallb-system/none: spec.addresses has no address that can be used: the pool is left out`,
		},
	},
	{
		name: "a limit that nobody can have leaves the pool out, rather than open",
		input: `
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan, namespace: metallb-system}
spec: {addresses: [192.0.2.0/28], serviceAllocation: {namespaces: [No_Namespace]}}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: wan, namespace: metallb-system}
spec: {addresses: [192.0.2.16/28], serviceAllocation: {serviceSelectors: [{matchExpressions: [{key: a, operator: Near}]}]}}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: good}
spec: {addresses: [192.0.2.32/28]}
`,
		want: `
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: good
spec:
  addresses:
  - 192.0.2.32/28
`,
		notes: []string{
			`IPAddressPool/metallb-system/lan: spec.serviceAllocation names "No_Namespace", which is not the name of a namespace: the pool is left out; correct it`,
			`IPAddressPool/metallb-system/wan: spec.serviceAllocation has a selector that matches nothing: "Near" is not a valid label selector operator: the pool is left out; correct it`,
		},
	},
	{
		name: "BGP has no equivalent, and pools that share addresses are noted",
		input: `
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: router, namespace: metallb-system}
---
apiVersion: metallb.io/v1beta1
kind: BFDProfile
metadata: {name: fast, namespace: metallb-system}
---
apiVersion: metallb.io/v1beta1
kind: Community
metadata: {name: near, namespace: metallb-system}
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: all, namespace: metallb-system}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan, namespace: metallb-system}
spec: {addresses: [192.0.2.0/28]}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: other, namespace: metallb-system}
spec: {addresses: [192.0.2.8-192.0.2.20]}
---
apiVersion: metallb.io/v1beta1
kind: ServiceL2Status
metadata: {name: l2-x, namespace: metallb-system}
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
  name: other
spec:
  addresses:
  - 192.0.2.8-192.0.2.20
`,
		notes: []string{
			`BGPAdvertisement/metallb-system/all: has no equivalent: Fairlead announces by ARP and NDP only: addresses that are announced so need to be of a network of the nodes`,
			`BFDProfile/metallb-system/fast: has no equivalent: Fairlead announces by ARP and NDP only: leave it out`,
			`Community/metallb-system/near: has no equivalent: Fairlead announces by ARP and NDP only: leave it out`,
			`BGPPeer/metallb-system/router: has no equivalent: Fairlead announces by ARP and NDP only: leave it out`,
			`IPAddressPool/metallb-system/lan: is covered by no L2Advertisement of the input, so that MetalLB does not announce it by ARP and NDP: Fairlead will; leave the pool out if that is not what you want`,
			`IPAddressPool/metallb-system/other: is covered by no L2Advertisement of the input, so that MetalLB does not announce it by ARP and NDP: Fairlead will; leave the pool out if that is not what you want`,
			`not converted: kind ServiceL2Status`,
			`IPPool/other: spec.addresses "192.0.2.8/29" is also of pool lan, and Fairlead then uses the older pool alone: take the addresses out of one of them`,
		},
	},
	{
		name: "the forerunner of pools",
		input: `
apiVersion: metallb.io/v1beta1
kind: AddressPool
metadata: {name: lan, namespace: metallb-system}
spec: {protocol: layer2, addresses: [192.0.2.0/28], autoAssign: false}
---
apiVersion: metallb.io/v1beta1
kind: AddressPool
metadata: {name: wan, namespace: metallb-system}
spec: {protocol: bgp, addresses: [198.51.100.0/28], bgpAdvertisements: [{localPref: 100}]}
`,
		want: `
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: lan
spec:
  addresses:
  - 192.0.2.0/28
  autoAssign: false
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
			`AddressPool/metallb-system/wan: spec.protocol "bgp" has no equivalent: Fairlead announces by ARP and NDP only: the addresses need to be of a network of the nodes`,
			`AddressPool/metallb-system/wan: spec.bgpAdvertisements "[{\"localPref\":100}]" is not converted: see kubectl explain ippools.spec for what a pool can have`,
		},
	},
	{
		name: "the ConfigMap",
		input: `
apiVersion: v1
kind: ConfigMap
metadata: {name: config, namespace: metallb-system}
data:
  config: |
    peers:
    - {my-asn: 64501, peer-asn: 64500, peer-address: 10.0.0.1}
    address-pools:
    - name: default
      protocol: layer2
      addresses: [192.0.2.0/28]
    - name: My Pool
      protocol: bgp
      addresses: [198.51.100.0/28]
      auto-assign: false
      avoid-buggy-ips: true
      bgp-advertisements: [{localpref: 100}]
    bgp-communities: {no-export: "65535:65281"}
`,
		want: `
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: default
spec:
  addresses:
  - 192.0.2.0/28
---
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: my-pool
spec:
  addresses:
  - 198.51.100.0/28
  autoAssign: false
  avoidBuggyIPs: true
`,
		notes: []string{
			`ConfigMap/metallb-system/config: data.config peers has no equivalent: Fairlead announces by ARP and NDP only: leave it out`,
			`ConfigMap/metallb-system/config: data.config bgp-communities has no equivalent: Fairlead announces by ARP and NDP only: leave it out`,
			`ConfigMap/metallb-system/config: data.config address-pools[1].bgp-advertisements has no equivalent: Fairlead announces by ARP and NDP only: leave it out`,
			`ConfigMap/metallb-system/config: data.config address-pools[1].protocol "bgp" has no equivalent: Fairlead announces by ARP and NDP only: the addresses need to be of a network of the nodes`,
			`ConfigMap/metallb-system/config: "My Pool" cannot be the name of an object: it becomes pool my-pool; Services that ask for it need the new name`,
		},
	},
}
