package convert

import (
	"encoding/json"
	"fmt"

	"sigs.k8s.io/yaml"
)

// metallbConfig is the text of MetalLB's ConfigMap, before v0.13.
type metallbConfig struct {
	Pools []json.RawMessage `json:"address-pools"`

	Peers       []json.RawMessage `json:"peers"`
	BFDProfiles []json.RawMessage `json:"bfd-profiles"`
	Communities map[string]string `json:"bgp-communities"`
}

type metallbConfigPool struct {
	Name          string   `json:"name"`
	Protocol      string   `json:"protocol"`
	Addresses     []string `json:"addresses"`
	AutoAssign    *bool    `json:"auto-assign"`
	AvoidBuggyIPs bool     `json:"avoid-buggy-ips"`

	BGPAdvertisements []json.RawMessage `json:"bgp-advertisements"`
}

const metallbKey = "config"

// isMetalLBConfig knows the ConfigMap by what it holds: its name is an argument of MetalLB.
func isMetalLBConfig(o object) bool {
	if !isConfigMap(o) {
		return false
	}
	var data map[string]any
	if json.Unmarshal(o.Data, &data) != nil {
		return false
	}
	text, _ := data[metallbKey].(string)
	var fields map[string]json.RawMessage
	if yaml.Unmarshal([]byte(text), &fields) != nil {
		return o.Metadata.Name == "config" && o.Metadata.Namespace == "metallb-system"
	}
	for _, key := range []string{"address-pools", "peers", "bfd-profiles", "bgp-communities"} {
		if _, ok := fields[key]; ok {
			return true
		}
	}
	return false
}

func isConfigMap(o object) bool { return o.Kind == "ConfigMap" && o.group() == "" }

func (m *metallb) config(o object) {
	const path = "data." + metallbKey
	data, ok := decode[map[string]string](m.collector, o, "data", o.Data)
	if !ok {
		return
	}
	text, err := yaml.YAMLToJSON([]byte(data[metallbKey]))
	if err != nil {
		m.fail(o, path, err)
		return
	}
	config, ok := decode[metallbConfig](m.collector, o, path, text)
	if !ok {
		return
	}
	for _, bgp := range []struct {
		name string
		size int
	}{{"peers", len(config.Peers)}, {"bfd-profiles", len(config.BFDProfiles)}, {"bgp-communities", len(config.Communities)}} {
		if bgp.size > 0 {
			m.note(o, path+" "+bgp.name, "", onlyLayer2, "leave it out")
		}
	}
	m.others(o, path, text, "address-pools", "peers", "bfd-profiles", "bgp-communities")
	for i, entry := range config.Pools {
		m.configPool(o, fmt.Sprintf("%s address-pools[%d]", path, i), entry)
	}
}

func (m *metallb) configPool(o object, path string, text json.RawMessage) {
	p, ok := decode[metallbConfigPool](m.collector, o, path, text)
	if !ok {
		return
	}
	if len(p.BGPAdvertisements) > 0 {
		m.note(o, path+".bgp-advertisements", "", onlyLayer2, "leave it out")
	}
	m.others(o, path, text, "name", "protocol", "addresses", "auto-assign", "avoid-buggy-ips", "bgp-advertisements")
	m.oldPool(o, path, p.Name, metallbPool{
		Addresses: p.Addresses, AutoAssign: p.AutoAssign, AvoidBuggyIPs: p.AvoidBuggyIPs, Protocol: p.Protocol,
	})
}
