package nft

import (
	"slices"
	"testing"
)

func TestParseDroppers(t *testing.T) {
	got, err := parseDroppers([]byte(`{"nftables": [{"metainfo": {"version": "1.0.6"}},
		{"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}},
		{"chain": {"family": "ip", "table": "filter", "name": "INPUT", "type": "filter", "hook": "input", "prio": 0, "policy": "drop"}},
		{"chain": {"family": "inet", "table": "fw", "name": "fwd", "type": "filter", "hook": "forward", "prio": 0, "policy": "accept"}},
		{"chain": {"family": "ip", "table": "filter", "name": "DOCKER"}}]}`))
	if want := []Dropper{{Family: "ip", Table: "filter", Chain: "FORWARD"}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := parseDroppers([]byte("{")); err == nil {
		t.Error("what is no JSON was read")
	}
}

func TestADropperThatNamesTheLinkLetsItPass(t *testing.T) {
	d := Dropper{Text: `iifname "fl-h" accept`}
	if !d.Names("fl-h") || d.Names("fl-d") || d.Names("fl") {
		t.Error("names are confused")
	}
}
