package convert

import "testing"

func TestConvert(t *testing.T) { runCases(t, convertCases) }

var convertCases = []testCase{
	{
		name: "several load balancers with pools of one name",
		input: `
apiVersion: purelb.io/v1
kind: ServiceGroup
metadata: {name: default, namespace: purelb}
spec: {local: {v4pool: {subnet: 192.0.2.0/24, pool: 192.0.2.0/28}}}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: default, namespace: metallb-system}
spec: {addresses: [192.0.2.16/28]}
---
apiVersion: inwinstack.com/v1
kind: Pool
metadata: {name: default}
spec: {addresses: [192.0.2.32/28], assignToNamespace: true}
---
apiVersion: inwinstack.com/v1
kind: IP
metadata: {name: web, namespace: shop}
spec: {poolName: default}
`,
		want: `
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: default
spec:
  addresses:
  - 192.0.2.16/28
---
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: default-purelb
spec:
  addresses:
  - 192.0.2.0/28
---
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: default-inwinstack
spec:
  addresses:
  - 192.0.2.32/28
---
apiVersion: fairlead.dev/v1alpha1
kind: VIP
metadata:
  name: web
spec:
  pool: default-inwinstack
`,
		notes: []string{
			`ServiceGroup/purelb/default: "default" is the name of another one too: it becomes pool default-purelb; Services that ask for it need the new name`,
			`Pool/default: "default" is the name of another one too: it becomes pool default-inwinstack; Services that ask for it need the new name`,
		},
	},
	{
		name: "lists, with and without the kinds of their items, and what is there twice",
		input: `
apiVersion: v1
kind: List
items:
- {apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: a, namespace: m}, spec: {addresses: [192.0.2.0/28]}}
- {apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: a, namespace: m}, spec: {addresses: [192.0.2.0/28]}}
- {apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: a, namespace: m}, spec: {addresses: [192.0.2.16/28]}}
---
{"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPoolList", "items": [
  {"metadata": {"name": "b"}, "spec": {"addresses": ["192.0.2.32/28"]}}]}
---
# nothing
---
`,
		want: `
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: a
spec:
  addresses:
  - 192.0.2.0/28
---
apiVersion: fairlead.dev/v1alpha1
kind: IPPool
metadata:
  name: b
spec:
  addresses:
  - 192.0.2.32/28
`,
		notes: []string{
			`IPAddressPool/m/a: is in the input twice: the first is converted; leave out the other`,
		},
	},
	{
		name: "what nobody knows is noted once a kind",
		input: `
apiVersion: v1
kind: Service
metadata: {name: a}
---
apiVersion: v1
kind: Service
metadata: {name: b}
---
apiVersion: example.com/v1
kind: IPAddressPool
metadata: {name: c}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: kube-root-ca.crt}
data: {ca.crt: text}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan}
spec: {addresses: [192.0.2.0/28]}
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
			`not converted: kind ConfigMap`,
			`not converted: kind IPAddressPool`,
			`not converted: kind Service (2 objects)`,
		},
	},
}
