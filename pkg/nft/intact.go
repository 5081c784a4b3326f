package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// mark is what tells, at the cost of a message, that nobody touched the table.
type mark struct {
	generation uint32 // of all nftables of the namespace: every transaction of anybody adds one
	whole      uint32 // the generation in which the elements were known to be as wanted, too; 0: none
	shape      []counted
}

// counted is a table or a chain, with how many things are in it. Handles are never used again for something else.
type counted struct {
	name   string
	handle uint64
	use    uint32
}

// marks reads marks from the kernel.
type marks interface {
	generation() (uint32, error)
	// shape is the table and its chains in the order of their handles; nil without the table.
	shape() ([]counted, error)
}

// guard tells whether others touched a table.
type guard struct {
	marks marks

	mu   sync.Mutex // held while we touch it, and by Intact
	left *mark      // by Sync; nil: nothing is known
}

// Intact reports whether the table still is the one that Sync left, with its chains and as many rules in them; true before
// the first Sync. While nobody changes any rule of the namespace that takes one message to the kernel. What is in the sets
// it does not see: Verify does. It may be called beside the other methods, and in any thread.
func (g *guard) Intact() (bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.intact()
}

func (g *guard) intact() (bool, error) {
	if g.left == nil {
		return true, nil
	}
	generation, err := g.marks.generation()
	if err != nil || generation == g.left.generation {
		return true, err
	}
	shape, err := g.marks.shape()
	if err != nil {
		return true, err
	}
	if !slices.Equal(shape, g.left.shape) {
		return false, nil
	}
	g.left.generation = generation
	return true, nil
}

// verify reports whether all of the table is as wanted: reading it tells, unless nobody touched any rule of the namespace since
// that was last known. True before the first Sync. It does not hold mu while it reads, which takes long: what it finds while
// another method changes the table counts for nothing.
func (g *guard) verify(read func() (asWanted bool, err error)) (bool, error) {
	g.mu.Lock()
	left := g.left
	if left == nil {
		g.mu.Unlock()
		return true, nil
	}
	before, err := g.marks.generation()
	known := left.whole == before
	g.mu.Unlock()
	if known || err != nil {
		return true, err
	}
	asWanted, err := read()
	if err != nil || !asWanted {
		return false, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if after, err := g.marks.generation(); err == nil && after == before && g.left == left {
		left.whole = before
	}
	return true, nil
}

// change makes a change of our own, which may count in a chain too: elements of maps name chains. What others did before stays
// to be noticed.
func (g *guard) change(run func() (changed bool, err error)) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	ours, err := g.intact()
	ours = ours && err == nil && g.left != nil
	whole := ours && g.left.whole == g.left.generation
	before := g.left
	changed, err := run()
	if err != nil {
		return err
	}
	if ours {
		g.note()
	}
	if whole {
		g.alone(before.generation, changed)
	}
	return nil
}

// alone notes that the elements are as wanted if nobody else made a transaction since a generation in which they were, or in
// which they were read. The caller holds mu.
func (g *guard) alone(before uint32, changed bool) {
	if changed {
		before++
	}
	if g.left != nil && g.left.generation == before {
		g.left.whole = before
	}
}

// sync reads the table, has it changed and notes what it looks like then.
func (g *guard) sync(run func() (changed bool, err error)) (changed bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.left = nil
	before, unknown := g.marks.generation()
	if changed, err = run(); err != nil {
		return changed, err
	}
	g.note()
	if unknown == nil {
		g.alone(before, changed)
	}
	return changed, nil
}

// note remembers what the table looks like now that it is as wanted. Failing that, Intact says nothing. The caller holds mu.
func (g *guard) note() {
	g.left = nil
	generation, err := g.marks.generation()
	if err != nil {
		return
	}
	if shape, err := g.marks.shape(); err == nil && shape != nil {
		g.left = &mark{generation: generation, shape: shape}
	}
}

// kernelMarks asks by nfnetlink: the program nft is too slow to be run several times a second.
type kernelMarks struct {
	conn  *netlink.Conn
	table string
}

// newMarks reads those of an inet table in the calling thread's namespace.
func newMarks(table string) (kernelMarks, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return kernelMarks{}, fmt.Errorf("open a netlink socket for nftables: %w", err)
	}
	return kernelMarks{conn: conn, table: table}, nil
}

// answerWithin ends a request whose answer was lost. A request takes microseconds.
const answerWithin = 5 * time.Second

const (
	// tableHandle is NFTA_TABLE_HANDLE (linux/netfilter/nf_tables.h), which package unix lacks.
	tableHandle = 4
	// nfgenmsg is the length of struct nfgenmsg (linux/netfilter/nfnetlink.h), which attributes follow.
	nfgenmsg = 4
)

// ask sends a request with at most one attribute, a string, and returns the attributes of each answer.
func (k kernelMarks) ask(message uint16, family byte, flags netlink.HeaderFlags, kind uint16, text string) ([][]byte, error) {
	request := netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | message), Flags: netlink.Request | flags},
		Data:   []byte{family, unix.NFNETLINK_V0, 0, 0},
	}
	if text != "" {
		encoder := netlink.NewAttributeEncoder()
		encoder.String(kind, text)
		attributes, err := encoder.Encode()
		if err != nil {
			return nil, err
		}
		request.Data = append(request.Data, attributes...)
	}
	answers, err := k.exchange(request)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for _, answer := range answers {
		if len(answer.Data) >= nfgenmsg {
			out = append(out, answer.Data[nfgenmsg:])
		}
	}
	return out, nil
}

// exchange sends a request and waits for the answer to it. Answers that came too late for one that was given up are passed over.
func (k kernelMarks) exchange(request netlink.Message) ([]netlink.Message, error) {
	if err := k.conn.SetDeadline(time.Now().Add(answerWithin)); err != nil {
		return nil, err
	}
	sent, err := k.conn.Send(request)
	for err == nil {
		var answers []netlink.Message
		if answers, err = k.conn.Receive(); err == nil && (len(answers) == 0 || answers[0].Header.Sequence == sent.Header.Sequence) {
			return answers, nil
		}
	}
	return nil, err
}

func (k kernelMarks) generation() (uint32, error) {
	answers, err := k.ask(unix.NFT_MSG_GETGEN, unix.AF_UNSPEC, 0, 0, "")
	if err != nil {
		return 0, fmt.Errorf("read the generation of the nftables rules: %w", err)
	}
	for _, attributes := range answers {
		decoder, err := bigEndian(attributes)
		if err != nil {
			return 0, err
		}
		for decoder.Next() {
			if decoder.Type() == unix.NFTA_GEN_ID {
				return decoder.Uint32(), decoder.Err()
			}
		}
	}
	return 0, errors.New("read the generation of the nftables rules: the kernel's answer has none")
}

func (k kernelMarks) shape() ([]counted, error) {
	tables, err := k.ask(unix.NFT_MSG_GETTABLE, unix.NFPROTO_INET, 0, unix.NFTA_TABLE_NAME, k.table)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for nftables table inet %s: %w", k.table, err)
	}
	chains, err := k.ask(unix.NFT_MSG_GETCHAIN, unix.NFPROTO_INET, netlink.Dump, 0, "")
	if err != nil {
		return nil, fmt.Errorf("list the nftables chains: %w", err)
	}
	var shape []counted
	for _, attributes := range tables {
		table, _, err := count(attributes, unix.NFTA_TABLE_NAME, tableHandle, unix.NFTA_TABLE_USE, 0)
		if err != nil {
			return nil, err
		}
		shape = append(shape, table)
	}
	for _, attributes := range chains {
		chain, of, err := count(attributes, unix.NFTA_CHAIN_NAME, unix.NFTA_CHAIN_HANDLE, unix.NFTA_CHAIN_USE, unix.NFTA_CHAIN_TABLE)
		if err != nil {
			return nil, err
		}
		if of == k.table {
			shape = append(shape, chain)
		}
	}
	slices.SortFunc(shape, func(a, b counted) int { return int(int64(a.handle) - int64(b.handle)) })
	return shape, nil
}

// count reads a table or a chain, given the numbers of their attributes, and the table that a chain is of.
func count(attributes []byte, name, handle, use, table uint16) (c counted, of string, err error) {
	decoder, err := bigEndian(attributes)
	if err != nil {
		return c, "", err
	}
	for decoder.Next() {
		switch decoder.Type() {
		case name:
			c.name = decoder.String()
		case handle:
			c.handle = decoder.Uint64()
		case use:
			c.use = decoder.Uint32()
		case table:
			of = decoder.String()
		}
	}
	return c, of, decoder.Err()
}

// bigEndian reads attributes of netfilter, whose numbers are in network order.
func bigEndian(attributes []byte) (*netlink.AttributeDecoder, error) {
	decoder, err := netlink.NewAttributeDecoder(attributes)
	if err == nil {
		decoder.ByteOrder = binary.BigEndian
	}
	return decoder, err
}
