package convert

import "testing"

func TestInwinSTACK(t *testing.T) { runCases(t, inwinSTACKCases) }

var inwinSTACKCases = []testCase{
	{
		name: "pools of v1, and what they leave out",
		input: `
apiVersion: inwinstack.com/v1
kind: Pool
metadata: {name: internet}
spec:
  addresses: [192.0.2.0-192.0.2.50, 198.51.100.0/28]
  assignToNamespace: true
  ignoreNamespaces: [kube-system, kube-public, default]
  avoidBuggyIPs: true
  avoidGatewayIPs: true
  filterIPs: [192.0.2.10, 192.0.2.11]
status: {phase: Active, capacity: 40}
---
apiVersion: inwinstack.com/v1
kind: Pool
metadata: {name: asked}
spec: {addresses: [203.0.113.0/28], assignToNamespace: false, gateway: 203.0.113.1}
`,
		want: `
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: internet
spec:
  addresses:
  - 192.0.2.0-192.0.2.50
  - 198.51.100.0/28
  avoidBuggyIPs: true
  avoidGatewayIPs: true
  exclude:
  - 192.0.2.10
  - 192.0.2.11
  namespaceSelectors:
  - matchExpressions:
    - key: kubernetes.io/metadata.name
      operator: NotIn
      values:
      - kube-system
      - kube-public
      - default
---
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: asked
spec:
  addresses:
  - 203.0.113.0/28
  autoAssign: false
`,
		notes: []string{
			`Pool/asked: spec.gateway "203.0.113.1" is not converted: see kubectl explain ippools.spec for what a pool can have`,
		},
	},
	{
		name: "pools of earlier versions",
		input: `
apiVersion: inwinstack.com/v1alpha1
kind: Pool
metadata: {name: oldest}
spec: {ipRange: 192.0.2.50-192.0.2.60}
---
apiVersion: inwinstack.com/v1
kind: Pool
metadata: {name: old}
spec: {address: "192.0.2.0/28,192.0.2.16/28", autoAssignToNamespace: true, ignoreNamespaceAnnotation: true}
`,
		want: `
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: oldest
spec:
  addresses:
  - 192.0.2.50-192.0.2.60
---
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: old
spec:
  addresses:
  - 192.0.2.0/28
  - 192.0.2.16/28
`,
	},
	{
		name: "an IP becomes a claim that keeps its address",
		input: `
apiVersion: inwinstack.com/v1
kind: Pool
metadata: {name: test}
spec: {addresses: [192.0.2.0/28], assignToNamespace: true}
---
apiVersion: inwinstack.com/v1
kind: IP
metadata: {name: free, namespace: shop}
spec: {poolName: test}
---
apiVersion: inwinstack.com/v1
kind: IP
metadata: {name: wants, namespace: shop}
spec: {poolName: test, wantedAddress: 192.0.2.5}
status: {address: 192.0.2.6, phase: Active}
---
apiVersion: inwinstack.com/v1
kind: IP
metadata: {name: has, namespace: shop}
spec: {poolName: test, markNamespaceRefresh: true, mac: "00:00:5e:00:53:01"}
status: {address: 192.0.2.7, phase: Active}
`,
		want: `
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: test
spec:
  addresses:
  - 192.0.2.0/28
---
apiVersion: fairlead.dev/v1alpha1
kind: VIP
metadata:
  name: free
spec:
  pool: test
---
apiVersion: fairlead.dev/v1alpha1
kind: VIP
metadata:
  name: wants
spec:
  address: 192.0.2.5
  pool: test
---
apiVersion: fairlead.dev/v1alpha1
kind: VIP
metadata:
  name: has
spec:
  address: 192.0.2.7
  pool: test
`,
		notes: []string{
			`IP/shop/has: spec.mac "00:00:5e:00:53:01" is not converted: see kubectl explain ippools.spec for what a pool can have`,
			`IP/shop/has: spec asks for the address as an annotation of the namespace, which has no equivalent: read spec.address of the VIP`,
		},
	},
	{
		name: "claims have names of their own",
		input: `
apiVersion: inwinstack.com/v1
kind: IP
metadata: {name: web, namespace: shop}
spec: {poolName: test}
---
apiVersion: inwinstack.com/v1
kind: IP
metadata: {name: web, namespace: blog}
spec: {poolName: test, wantedAddress: nonsense}
---
apiVersion: inwinstack.com/v1
kind: IP
metadata: {name: 192.0.2.9, namespace: shop}
spec: {poolName: test, wantedAddress: 192.0.2.9}
`,
		want: `
apiVersion: fairlead.dev/v1alpha1
kind: VIP
metadata:
  name: web
spec:
  pool: test
---
apiVersion: fairlead.dev/v1alpha1
kind: VIP
metadata:
  name: web-blog
spec:
  pool: test
---
apiVersion: fairlead.dev/v1alpha1
kind: VIP
metadata:
  name: claim-192.0.2.9
spec:
  address: 192.0.2.9
  pool: test
`,
		notes: []string{
			`IP/shop/web: spec.poolName "test" is not in the input: make an IPPool of that name, or correct spec.pool`,
			`IP/blog/web: spec.wantedAddress "nonsense" is not an IP address: the claim will get any address of its pool`,
			`IP/blog/web: spec.poolName "test" is not in the input: make an IPPool of that name, or correct spec.pool`,
			`IP/blog/web: "web" is the name of another one too, and VIPs have no namespace: it becomes VIP web-blog`,
			`IP/shop/192.0.2.9: spec.poolName "test" is not in the input: make an IPPool of that name, or correct spec.pool`,
			`IP/shop/192.0.2.9: "192.0.2.9" is an address, which would make the VIP a reservation: it becomes VIP claim-192.0.2.9`,
		},
	},
}
