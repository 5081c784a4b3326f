package nft

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/knftables"

	"github.com/fairlead/fairlead/pkg/model"
)

// element is one element of one of the sets and maps; what its set does not have is zero.
type element struct {
	set     string
	addr    netip.Addr
	backend netip.Addr
	proto   uint8
	port    uint16
	network netip.Prefix
	verdict string // of a map's element
}

// protocols are IANA's numbers.
var protocols = map[model.Protocol]uint8{model.TCP: 6, model.UDP: 17, model.SCTP: 132}

func (e element) compare(other element) int {
	order := strings.Compare(e.set, other.set)
	if order == 0 {
		order = e.addr.Compare(other.addr)
	}
	if order == 0 {
		order = cmp.Or(e.backend.Compare(other.backend), cmp.Compare(e.proto, other.proto), cmp.Compare(e.port, other.port),
			strings.Compare(e.verdict, other.verdict))
	}
	if order == 0 && e.network != other.network { // comparing invalid prefixes is dear
		order = e.network.Compare(other.network)
	}
	return order
}

func (e element) key() (key []string) {
	for _, addr := range []netip.Addr{e.addr, e.backend} {
		if addr.IsValid() {
			key = append(key, addr.String())
		}
	}
	if e.proto != 0 {
		key = append(key, strconv.Itoa(int(e.proto)), strconv.Itoa(int(e.port)))
	}
	if e.network.IsValid() {
		key = append(key, e.network.String())
	}
	return key
}

// nft is the element as it is written.
func (e element) nft() *knftables.Element {
	if e.verdict != "" {
		return &knftables.Element{Map: e.set, Key: e.key(), Value: []string{e.verdict}}
	}
	return &knftables.Element{Set: e.set, Key: e.key()}
}

// foreignError is about an element that this package would not have written.
type foreignError struct {
	set string
	key []string
	err error
}

func (e *foreignError) Error() string {
	return fmt.Sprintf("element %q of set %s is not one of ours: %v", strings.Join(e.key, " . "), e.set, e.err)
}

func (e *foreignError) Unwrap() error { return e.err }

func asForeign(err error, target **foreignError) bool { return errors.As(err, target) }

// field reads one field of a key into an element.
type field func(*element, string) error

func addr(e *element, s string) (err error)    { e.addr, err = netip.ParseAddr(s); return err }
func backend(e *element, s string) (err error) { e.backend, err = netip.ParseAddr(s); return err }
func proto(e *element, s string) (err error)   { e.proto, err = parseProtocol(s); return err }
func network(e *element, s string) (err error) { e.network, err = parsePrefix(s); return err }

func port(e *element, s string) error {
	number, err := strconv.ParseUint(s, 10, 16)
	e.port = uint16(number)
	return err
}

// fields are those of a set's keys.
func fields(set string) []field {
	switch set {
	case vips4, vips6:
		return []field{addr}
	case inside4, inside6:
		return []field{network}
	case sources4, sources6:
		return []field{addr, proto, port, network}
	case translations4, translations6:
		return []field{addr, backend, proto, port}
	default:
		return []field{addr, proto, port}
	}
}

// parse is the inverse of nft, as nft gives keys back: protocols by name where it knows one, single addresses without /32.
func parse(set string, key, value []string) (element, error) {
	want := fields(set)
	if len(key) != len(want) {
		return element{}, &foreignError{set: set, key: key, err: fmt.Errorf("it has %d fields instead of %d", len(key), len(want))}
	}
	e := element{set: set, verdict: strings.Join(value, " ")}
	for i, read := range want {
		if err := read(&e, key[i]); err != nil {
			return element{}, &foreignError{set: set, key: key, err: err}
		}
	}
	return e, nil
}

func parseProtocol(s string) (uint8, error) {
	if number, ok := protocols[model.Protocol(strings.ToUpper(s))]; ok {
		return number, nil
	}
	number, err := strconv.ParseUint(s, 10, 8)
	if err == nil && number == 0 {
		return 0, fmt.Errorf("protocol 0")
	}
	return uint8(number), err
}

func parsePrefix(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		return netip.ParsePrefix(s)
	}
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	return addr.Prefix(addr.BitLen())
}

// elementsOf returns the elements of all sets for a state, sorted, none twice.
func elementsOf(s State) ([]element, error) {
	elements := make([]element, 0, len(s.VIPs)+len(s.Frontends)+2*len(s.SourceRanges))
	ranges := map[model.Frontend][]netip.Prefix{}
	for _, r := range s.SourceRanges {
		ranges[r.Frontend] = append(ranges[r.Frontend], r.Prefix)
	}
	for f, prefixes := range ranges {
		restricted, err := open(f, restricted4, restricted6)
		if err != nil {
			return nil, err
		}
		elements = append(elements, restricted)
		for _, p := range merge(prefixes, f.Addr.Is4()) {
			source := restricted
			source.set, source.network = pick(f.Addr, sources4, sources6), p
			elements = append(elements, source)
		}
	}
	for _, as := range []struct {
		frontends  []model.Frontend
		set4, set6 string
	}{{s.Received, received4, received6}, {s.Frontends, services4, services6}, {s.Tunnelled, tunnelled4, tunnelled6}} {
		for _, f := range as.frontends {
			e, err := open(f, as.set4, as.set6)
			if err != nil {
				return nil, err
			}
			elements = append(elements, e)
		}
	}
	for _, vip := range s.VIPs {
		elements = append(elements, element{set: pick(vip, vips4, vips6), addr: vip})
	}
	elements, err := appendTranslations(elements, s)
	if err != nil {
		return nil, err
	}
	if !slices.IsSortedFunc(elements, element.compare) { // they are, without source ranges and with a sorted state
		slices.SortFunc(elements, element.compare)
	}
	return slices.Compact(elements), nil
}

// appendTranslations adds whose address backends see. Of two sources for one backend of a VIP the VIP wins: its answers find
// their way in any case.
func appendTranslations(elements []element, s State) ([]element, error) {
	seen := map[element]bool{}
	for _, source := range []struct {
		model.Source
		chains [2]string
	}{{model.FromVIP, fromVIP}, {model.FromClient, fromClient}} {
		for _, t := range s.Translations {
			if t.Source != source.Source {
				continue
			}
			e, err := open(model.Frontend{Addr: t.VIP, Port: t.Backend.Port(), Proto: t.Proto}, translations4, translations6)
			if err != nil {
				return nil, err
			}
			if e.backend = t.Backend.Addr(); seen[e] {
				continue
			}
			seen[e] = true
			e.verdict = "jump " + pick(t.VIP, source.chains[0], source.chains[1])
			elements = append(elements, e)
		}
	}
	for _, is4 := range []bool{true, false} {
		for _, network := range merge(s.Inside, is4) {
			elements = append(elements, element{set: pick(network.Addr(), inside4, inside6), network: network})
		}
	}
	return elements, nil
}

// open returns the element of a frontend in the set of its family.
func open(f model.Frontend, set4, set6 string) (element, error) {
	proto, ok := protocols[f.Proto]
	if !ok {
		return element{}, fmt.Errorf("frontend %s has protocol %q: nothing but TCP, UDP and SCTP has ports", netip.AddrPortFrom(f.Addr, f.Port), f.Proto)
	}
	return element{set: pick(f.Addr, set4, set6), addr: f.Addr, proto: proto, port: f.Port}, nil
}

func pick(addr netip.Addr, set4, set6 string) string {
	if addr.Is4() {
		return set4
	}
	return set6
}

// change adds to a transaction what turns one sorted list of elements into another. Deletions come first: a network may
// be added only where none overlaps it.
func change(tx *knftables.Transaction, have, want []element) {
	if !slices.IsSortedFunc(have, element.compare) {
		slices.SortFunc(have, element.compare)
	}
	if networksLeaving(have, want) > maxNetworksLeaving {
		rebuild(tx)
		have = nil
	}
	var adds []element
	for len(have) > 0 || len(want) > 0 {
		switch {
		case len(want) == 0 || len(have) > 0 && have[0].compare(want[0]) < 0:
			tx.Delete(have[0].nft())
			have = have[1:]
		case len(have) == 0 || have[0].compare(want[0]) > 0:
			adds, want = append(adds, want[0]), want[1:]
		default:
			have, want = have[1:], want[1:]
		}
	}
	for _, e := range adds {
		tx.Add(e.nft())
	}
}

// maxNetworksLeaving is from how many networks on it costs less to write the table anew. The kernel takes each out of a set of
// concatenated intervals at a cost that grows with the set (nft_set_pipapo.c): 3,200 of 3,200 took half a minute and more in
// a guest of one processor, the whole table seconds.
const maxNetworksLeaving = 128

// networksLeaving counts the networks of source ranges that are no longer wanted. Both lists are sorted.
func networksLeaving(have, want []element) (count int) {
	for _, e := range have {
		if !e.network.IsValid() {
			continue
		}
		if _, stays := slices.BinarySearchFunc(want, e, element.compare); !stays {
			count++
		}
	}
	return count
}
