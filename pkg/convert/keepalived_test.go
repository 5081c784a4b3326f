package convert

import "testing"

func TestKeepalived(t *testing.T) { runCases(t, keepalivedCases) }

var keepalivedCases = []testCase{
	{
		name: "the map is kept, under the name that the controller reads",
		input: `
apiVersion: v1
kind: ConfigMap
metadata: {name: vip-configmap, namespace: default}
data:
  10.4.0.50: default/echoheaders
  10.4.0.51: default/web:NAT
  10.4.0.52: ""
  2001-0db8-0000-0000-0000-0000-0000-0010: "default/web,default/dns"
`,
		want: `
apiVersion: v1
data:
  10.4.0.50: default/echoheaders
  10.4.0.51: default/web:NAT
  10.4.0.52: ""
  2001-0db8-0000-0000-0000-0000-0000-0010: |-
    default/web
    default/dns
kind: ConfigMap
metadata:
  name: fairlead-vips
  namespace: fairlead-system
`,
	},
	{
		name: "methods that may not be served are noted",
		input: `
apiVersion: v1
kind: ConfigMap
metadata: {name: vip-configmap, namespace: default}
data:
  10.4.0.50: default/echoheaders:DR
  10.4.0.51: |
    default/web:PROXY
    default/dns
`,
		want: `
apiVersion: v1
data:
  10.4.0.50: default/echoheaders:DR
  10.4.0.51: |-
    default/web:PROXY
    default/dns
kind: ConfigMap
metadata:
  name: fairlead-vips
  namespace: fairlead-system
`,
		notes: []string{
			`ConfigMap/default/vip-configmap: data.10.4.0.50 "default/echoheaders:DR" asks for DR: pods on the host's network are served so, if they listen on the Service's own port; others as NAT`,
			`ConfigMap/default/vip-configmap: data.10.4.0.51 "default/web:PROXY" asks for PROXY, which is not available: the Service is not served; write :NAT if its pods can do without`,
		},
	},
	{
		name: "one address of several keys is one",
		input: `
apiVersion: v1
kind: ConfigMap
metadata: {name: vip-configmap, namespace: default}
data:
  1-10.4.0.50: default/web
  2-10.4.0.50: default/dns
  10.4.0.50: default/web
  10.4.0.51@eth1: default/web
  "2001:db8::10": default/web
`,
		want: `
apiVersion: v1
data:
  10.4.0.50: |-
    default/web
    default/dns
  10.4.0.51: default/web
  2001-0db8-0000-0000-0000-0000-0000-0010: default/web
kind: ConfigMap
metadata:
  name: fairlead-vips
  namespace: fairlead-system
`,
		notes: []string{
			`ConfigMap/default/vip-configmap: data.10.4.0.51@eth1 "eth1" names an interface, which is set per pool in Fairlead: put it into spec.interfaces of the pool that has the address`,
		},
	},
	{
		name: "bad lines are left out",
		input: `
apiVersion: v1
kind: ConfigMap
metadata: {name: vip-configmap, namespace: default}
data:
  10.4.0.50: "web,default/web:TUN,a/b/c,default/web"
  10.4.0.51: nonsense
  note: "not an address"
`,
		want: `
apiVersion: v1
data:
  10.4.0.50: default/web
kind: ConfigMap
metadata:
  name: fairlead-vips
  namespace: fairlead-system
`,
		notes: []string{
			`ConfigMap/default/vip-configmap: data.10.4.0.50 "web" names no Service: the line is left out; write namespace/service, or namespace/service:NAT`,
			`ConfigMap/default/vip-configmap: data.10.4.0.50 "default/web:TUN" has the unknown method "TUN": the line is left out; write namespace/service, or namespace/service:NAT`,
			`ConfigMap/default/vip-configmap: data.10.4.0.50 "a/b/c" names no Service: the line is left out; write namespace/service, or namespace/service:NAT`,
			`ConfigMap/default/vip-configmap: data.10.4.0.51 "nonsense" names no Service: the line is left out; write namespace/service, or namespace/service:NAT`,
			`ConfigMap/default/vip-configmap: data.note "not an address" is not an address: it is left out; write IPv4 (192.0.2.10), or IPv6 with - for :`,
		},
	},
}
