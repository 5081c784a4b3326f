package pkg

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/fairlead/fairlead"

// layers are the packages of docs/design.md, the lowest first: a package imports those of lower layers only. Packages whose
// names follow a slash are part of another and may be imported by it alone.
var layers = [][]string{
	{"pkg/model", "pkg/api/v1alpha1"},
	{"pkg/plan", "pkg/pool", "pkg/source"},
	{"pkg/generated", "pkg/convert"},
	{"pkg/kube", "pkg/election", "pkg/gossip", "pkg/ipvs", "pkg/netif", "pkg/announce", "pkg/nft", "pkg/isolated", "pkg/host", "pkg/health"},
	{"pkg/controller", "pkg/speaker", "pkg/why"},
	{"cmd"},
}

// owners are the packages that alone may import a module: every kind of kernel state has one room.
var owners = map[string][]string{
	"github.com/moby/ipvs":                {"pkg/ipvs"},
	"github.com/vishvananda/netlink":      {"pkg/netif", "pkg/ipvs", "pkg/isolated", "pkg/nft", "pkg/host/netnstest"},
	"sigs.k8s.io/knftables":               {"pkg/nft"},
	"github.com/mdlayher/packet":          {"pkg/announce"},
	"github.com/mdlayher/arp":             {"pkg/announce"},
	"github.com/mdlayher/ndp":             {"pkg/announce"},
	"github.com/hashicorp/memberlist":     {"pkg/gossip"},
	"k8s.io/client-go":                    {"pkg/kube", "pkg/controller", "pkg/election", "pkg/generated", "cmd"},
	"github.com/prometheus/client_golang": {"pkg/kube", "pkg/controller", "pkg/election", "pkg/gossip", "pkg/speaker", "cmd"},
}

// pure packages compute: they touch neither the machine nor the API server.
var pure = []string{"pkg/model", "pkg/plan", "pkg/pool", "pkg/source", "pkg/convert", "pkg/why"}

var impure = []string{"os", "log", "net", "net/http", "os/exec", "syscall"}

func TestImportsPointDownwards(t *testing.T) {
	for name, imports := range packages(t) {
		own := layer(name)
		if own < 0 {
			t.Errorf("%s stands in no layer: give it one here and in docs/design.md", name)
		}
		for _, path := range imports {
			imported, ours := strings.CutPrefix(path, module+"/")
			if ours && !within(imported, root(name)) && layer(imported) >= own {
				t.Errorf("%s imports %s, which is not below it", name, imported)
			}
			for prefix, allowed := range owners {
				if within(path, prefix) && !slices.ContainsFunc(allowed, func(a string) bool { return within(name, a) }) {
					t.Errorf("%s imports %s, which only %v may", name, path, allowed)
				}
			}
			if slices.Contains(pure, name) && slices.Contains(impure, path) {
				t.Errorf("%s is pure and imports %s", name, path)
			}
		}
	}
}

// packages lists what each package of the product imports itself, without its tests.
func packages(t *testing.T) map[string][]string {
	t.Helper()
	out, err := exec.Command("go", "list", "-f", "{{.ImportPath}} {{join .Imports \" \"}}", module+"/pkg/...", module+"/cmd/...").Output()
	if err != nil {
		t.Fatal(fmt.Errorf("list packages: %w", err))
	}
	all := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		name := strings.TrimPrefix(fields[0], module+"/")
		if name != "pkg" {
			all[name] = fields[1:]
		}
	}
	return all
}

func layer(name string) int {
	return slices.IndexFunc(layers, func(layer []string) bool {
		return slices.ContainsFunc(layer, func(p string) bool { return within(name, p) })
	})
}

// root is the package of layers that a package is or is part of.
func root(name string) string {
	for _, layer := range layers {
		for _, p := range layer {
			if within(name, p) {
				return p
			}
		}
	}
	return name
}

func within(path, prefix string) bool { return path == prefix || strings.HasPrefix(path, prefix+"/") }
