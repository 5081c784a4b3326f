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

// element is one element of one of the sets; what its set does not have is zero.
type element struct {
	set    string
	addr   netip.Addr
	proto  uint8
	port   uint16
	source netip.Prefix
}

// protocols are IANA's numbers.
var protocols = map[model.Protocol]uint8{model.TCP: 6, model.UDP: 17, model.SCTP: 132}

func (e element) compare(other element) int {
	order := strings.Compare(e.set, other.set)
	if order == 0 {
		order = e.addr.Compare(other.addr)
	}
	if order == 0 {
		order = cmp.Or(cmp.Compare(e.proto, other.proto), cmp.Compare(e.port, other.port))
	}
	if order == 0 && e.source != other.source { // comparing invalid prefixes is dear
		order = e.source.Compare(other.source)
	}
	return order
}

func (e element) key() []string {
	key := []string{e.addr.String()}
	if e.proto != 0 {
		key = append(key, strconv.Itoa(int(e.proto)), strconv.Itoa(int(e.port)))
	}
	if e.source.IsValid() {
		key = append(key, e.source.String())
	}
	return key
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

// parts is how many fields the elements of a set have.
func parts(set string) int {
	switch set {
	case vips4, vips6:
		return 1
	case sources4, sources6:
		return 4
	default:
		return 3
	}
}

// parse is the inverse of key, as nft gives keys back: protocols by name where it knows one, single addresses without /32.
func parse(set string, key []string) (element, error) {
	foreign := func(err error) (element, error) { return element{}, &foreignError{set: set, key: key, err: err} }
	if len(key) != parts(set) {
		return foreign(fmt.Errorf("it has %d fields instead of %d", len(key), parts(set)))
	}
	e := element{set: set}
	var err error
	if e.addr, err = netip.ParseAddr(key[0]); err != nil {
		return foreign(err)
	}
	if len(key) >= 3 {
		if e.proto, err = parseProtocol(key[1]); err != nil {
			return foreign(err)
		}
		port, err := strconv.ParseUint(key[2], 10, 16)
		if err != nil {
			return foreign(err)
		}
		e.port = uint16(port)
	}
	if len(key) == 4 {
		if e.source, err = parsePrefix(key[3]); err != nil {
			return foreign(err)
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
	for _, f := range s.Frontends {
		e, err := open(f, services4, services6)
		if err != nil {
			return nil, err
		}
		elements = append(elements, e)
	}
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
			source.set, source.source = pick(f.Addr, sources4, sources6), p
			elements = append(elements, source)
		}
	}
	for _, vip := range s.VIPs {
		elements = append(elements, element{set: pick(vip, vips4, vips6), addr: vip})
	}
	if !slices.IsSortedFunc(elements, element.compare) { // they are, without source ranges and with a sorted state
		slices.SortFunc(elements, element.compare)
	}
	return slices.Compact(elements), nil
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
	var adds []element
	for len(have) > 0 || len(want) > 0 {
		switch {
		case len(want) == 0 || len(have) > 0 && have[0].compare(want[0]) < 0:
			tx.Delete(&knftables.Element{Set: have[0].set, Key: have[0].key()})
			have = have[1:]
		case len(have) == 0 || have[0].compare(want[0]) > 0:
			adds, want = append(adds, want[0]), want[1:]
		default:
			have, want = have[1:], want[1:]
		}
	}
	for _, e := range adds {
		tx.Add(&knftables.Element{Set: e.set, Key: e.key()})
	}
}
