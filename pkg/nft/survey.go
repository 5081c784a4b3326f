package nft

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
)

// Dropper is somebody's chain that drops what is forwarded unless one of its rules lets it pass. A verdict of ours cannot
// override that: every chain of a hook has to agree.
type Dropper struct {
	Family, Table, Chain string
	Text                 string // as nft lists it
}

func (d Dropper) String() string {
	return fmt.Sprintf("table %s %s, chain %s", d.Family, d.Table, d.Chain)
}

// Names reports whether a rule of the chain names an interface.
func (d Dropper) Names(link string) bool { return strings.Contains(d.Text, fmt.Sprintf("%q", link)) }

// Tables says which of our tables the calling thread's network namespace has: that of a datapath, and that of the outside of an
// isolated one.
func Tables(ctx context.Context) (datapath, outside bool, err error) {
	listed, err := exec.CommandContext(ctx, "nft", "--json", "list", "tables", "inet").Output()
	if err != nil {
		return false, false, fmt.Errorf("list the tables of nftables: %w", err)
	}
	var list struct {
		Nftables []struct{ Table struct{ Name string } }
	}
	if err := json.Unmarshal(listed, &list); err != nil {
		return false, false, fmt.Errorf("read nft's list of tables: %w", err)
	}
	for _, item := range list.Nftables {
		datapath = datapath || item.Table.Name == tableName
		outside = outside || item.Table.Name == outsideName
	}
	return datapath, outside, nil
}

// Droppers returns the chains of the calling thread's network namespace that drop what is forwarded by their policy. It does
// not see those of iptables-legacy.
func Droppers(ctx context.Context) ([]Dropper, error) {
	listed, err := exec.CommandContext(ctx, "nft", "--json", "list", "chains").Output()
	if err != nil {
		return nil, fmt.Errorf("list the chains of nftables: %w", err)
	}
	droppers, err := parseDroppers(listed)
	if err != nil {
		return nil, err
	}
	for i, d := range droppers {
		text, err := exec.CommandContext(ctx, "nft", "list", "chain", d.Family, d.Table, d.Chain).Output()
		if err != nil {
			return nil, fmt.Errorf("list %s of nftables: %w", d, err)
		}
		droppers[i].Text = string(text)
	}
	return droppers, nil
}

// parseDroppers reads what nft lists as JSON (libnftables-json(5)).
func parseDroppers(listed []byte) (droppers []Dropper, err error) {
	var list struct {
		Nftables []struct {
			Chain struct{ Family, Table, Name, Hook, Policy string }
		}
	}
	if err := json.Unmarshal(listed, &list); err != nil {
		return nil, fmt.Errorf("read nft's list of chains: %w", err)
	}
	for _, item := range list.Nftables {
		if c := item.Chain; c.Hook == "forward" && c.Policy == "drop" {
			droppers = append(droppers, Dropper{Family: c.Family, Table: c.Table, Chain: c.Name})
		}
	}
	return droppers, nil
}
