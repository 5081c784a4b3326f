package convert

import "testing"

func TestKubeVIP(t *testing.T) { runCases(t, kubeVIPCases) }

var kubeVIPCases = []testCase{
	{
		name: "global and namespaces, CIDRs and ranges",
		input: `
apiVersion: v1
kind: ConfigMap
metadata: {name: kubevip, namespace: kube-system}
data:
  cidr-global: 192.0.2.220/29,2001:db8::/124
  cidr-dev: 192.0.2.32/29
  interface-dev: eth5
  interface-global: eth3
  search-order: asc
`,
		want: `
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: kubevip-dev
spec:
  addresses:
  - 192.0.2.32/29
  interfaces:
  - eth5
  namespaces:
  - dev
---
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: kubevip-global
spec:
  addresses:
  - 192.0.2.216/29
  - 2001:db8::/124
  interfaces:
  - eth3
`,
		notes: []string{
			`ConfigMap/kube-system/kubevip: data.cidr-global is not used by kube-vip for the namespaces with addresses of their own (dev), and Fairlead uses it once those are full: to prevent that, let spec.namespaceSelectors of the pool leave these namespaces out`,
		},
	},
	{
		name: "ranges alone",
		input: `
apiVersion: v1
kind: ConfigMap
metadata: {name: kubevip, namespace: kube-system}
data:
  range-global: 192.0.2.10-192.0.2.20, 2001:db8::10-2001:db8::20
  range-dev: 192.0.2.30-192.0.2.40
`,
		want: `
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: kubevip-dev
spec:
  addresses:
  - 192.0.2.30-192.0.2.40
  namespaces:
  - dev
---
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: kubevip-global
spec:
  addresses:
  - 192.0.2.10-192.0.2.20
  - 2001:db8::10-2001:db8::20
`,
		notes: []string{
			`ConfigMap/kube-system/kubevip: data.range-global is not used by kube-vip for the namespaces with addresses of their own (dev), and Fairlead uses it once those are full: to prevent that, let spec.namespaceSelectors of the pool leave these namespaces out`,
		},
	},
	{
		name: "the ends of IPv4 networks are left out when told to",
		input: `
apiVersion: v1
kind: ConfigMap
metadata: {name: kubevip, namespace: kube-system}
data:
  cidr-global: 192.0.2.0/28,192.0.2.16/31,192.0.2.20/32,2001:db8::/124
  skip-end-ips-in-cidr: "true"
`,
		want: `
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: kubevip-global
spec:
  addresses:
  - 192.0.2.0/28
  - 192.0.2.16/31
  - 192.0.2.20
  - 2001:db8::/124
  exclude:
  - 192.0.2.0
  - 192.0.2.15
`,
	},
	{
		name: "any CIDR goes before ranges",
		input: `
apiVersion: v1
kind: ConfigMap
metadata: {name: kubevip, namespace: kube-system}
data:
  cidr-global: 192.0.2.0/28
  range-global: 192.0.2.20-192.0.2.30
  range-dev: 192.0.2.40-192.0.2.50
`,
		want: `
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: kubevip-global
spec:
  addresses:
  - 192.0.2.0/28
`,
		notes: []string{
			`ConfigMap/kube-system/kubevip: data.range-dev "192.0.2.40-192.0.2.50" is not read by kube-vip, since a CIDR goes before it: the addresses are left out; add them to a pool if they are to be used`,
			`ConfigMap/kube-system/kubevip: data.range-global "192.0.2.20-192.0.2.30" is not read by kube-vip, since a CIDR goes before it: the addresses are left out; add them to a pool if they are to be used`,
		},
	},
	{
		name: "what has no equivalent",
		input: `
apiVersion: v1
kind: ConfigMap
metadata: {name: my-provider, namespace: kube-system}
data:
  cidr-global: 0.0.0.0/32
  cidr-dev: 192.0.2.0/28
  allow-share-dev: "true"
  allow-share-test: "false"
  interface-test: eth7
  search-order: desc
  config-x: other
`,
		want: `
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: my-provider-dev
spec:
  addresses:
  - 192.0.2.0/28
  namespaces:
  - dev
`,
		notes: []string{
			`ConfigMap/kube-system/my-provider: data.allow-share-dev lets all Services share addresses, which in Fairlead each Service agrees to: give those that may share an address the annotation metallb.io/allow-shared-ip with one value`,
			`ConfigMap/kube-system/my-provider: data.config-x "other" is not converted: Fairlead has no such setting`,
			`ConfigMap/kube-system/my-provider: data.search-order "desc" has no equivalent: Fairlead gives the lowest free address`,
			`ConfigMap/kube-system/my-provider: data.cidr-global "0.0.0.0/32" leaves the addresses to DHCP, which has no equivalent: make an IPPool of addresses that the DHCP server does not give`,
			`ConfigMap/kube-system/my-provider: data.interface-test "eth7" is for a namespace without a pool of its own: make a pool with spec.namespaces [test] and spec.interfaces [eth7]`,
		},
	},
}
