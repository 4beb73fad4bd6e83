package join

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/roster"
)

// First bytes of the datagrams.
const (
	TypeFirst  = 5 // joiner to member
	TypeSecond = 6 // member to joiner
	TypeThird  = 7 // joiner to member
)

// Config is what a Machine needs. The functions are called with the machine's
// mutex held: they must not call the machine.
type Config struct {
	// Secret is the cluster's secret. Required; SetKeys replaces its key.
	Secret identity.Secret
	// Private is the WireGuard key of this start. Required; Rekey replaces it.
	Private identity.WireGuardPrivate
	// Record returns this node's newest record; its WireGuard key must be that
	// of the key in use. Required.
	Record func() roster.Signed
	// Held returns the newest record held of a node. Default: none is held.
	Held func(identity.NodeID) (roster.Signed, bool)
	// Admit reports whether a holder of the secret may be a member. It is
	// asked about joiners and about members joined through. Default: all.
	Admit func(identity.NodeID) bool
	// Removed reports whether a node was removed from the cluster. Default:
	// none was.
	Removed func(identity.NodeID) bool
	// Known reports whether a node was a member when an older secret was in
	// use: only such nodes may join with it. Default: none was.
	Known func(identity.NodeID) bool
	// Rand gives random bytes. Default: crypto/rand.
	Rand io.Reader
}

// Peer is the result of a completed handshake: it holds the secret, the
// identity key of Record and the WireGuard key in it.
type Peer struct {
	Record    roster.Signed  // its record; not yet compared with one held
	Addr      netip.AddrPort // where its last message came from
	SeenAs    netip.AddrPort // where it sees us; the zero value if it does not tell
	HeldOfUs  *roster.Signed // a record of ours it holds that is another than the one sent; or nil
	Initiator bool           // we began
	Old       bool           // both used a secret that is not the one in use
}

// Result is what became of a datagram. All three may be nil: no word is said
// about what does not open.
type Result struct {
	Reply   []byte // to send to where the datagram came from
	Done    *Peer  // a handshake is complete
	Refused error  // a *RefusedError: the secret fits, but there is no peer
}

// SourceJunk says how much that did not open came from one source.
type SourceJunk struct {
	Source netip.Prefix // an IPv4 address or an IPv6 /64
	Junk   uint64
}

// Stats counts datagrams since New.
type Stats struct {
	Begun     uint64 // handshakes begun here
	Answered  uint64 // first messages answered, refusals included
	Completed uint64 // handshakes done, either side
	Refused   uint64 // opened, but refused by either side
	Junk      uint64 // did not open or had no valid form: a stranger, or another secret
	Replayed  uint64 // first messages answered before
	Repeated  uint64 // second and third messages that came again
	Stray     uint64 // second and third messages of no handshake under way
	Limited   uint64 // dropped by a rate limit or a full table
	// Sources with junk, most junk first: those seen last only (at most 1024).
	Sources []SourceJunk
}

// Machine runs the join handshakes of one node, both sides. It is safe for
// concurrent use: one mutex guards all of it.
type Machine struct {
	mu      sync.Mutex
	config  Config
	keys    []Key                    // the first is the one in use
	begun   map[handshakeID]*begun   // we are the joiner
	pending map[handshakeID]*pending // we are the member
	sources *recent[netip.Prefix, source]
	firsts  *recent[[16]byte, struct{}]
	opens   bucket
	answers bucket
	stats   Stats
}

// handshakeID finds a handshake in the tables of the side that drew it.
type handshakeID [4]byte

// source is what is kept of one source address.
type source struct {
	opens, answers bucket
	junk           uint64
}

// New makes the machine of one node. It panics without Config.Record.
func New(config Config) *Machine {
	if config.Record == nil {
		panic("join: Config.Record is required")
	}
	if config.Held == nil {
		config.Held = func(identity.NodeID) (roster.Signed, bool) { return roster.Signed{}, false }
	}
	if config.Admit == nil {
		config.Admit = func(identity.NodeID) bool { return true }
	}
	if config.Removed == nil {
		config.Removed = func(identity.NodeID) bool { return false }
	}
	if config.Known == nil {
		config.Known = func(identity.NodeID) bool { return false }
	}
	if config.Rand == nil {
		config.Rand = rand.Reader
	}
	return &Machine{
		config:  config,
		keys:    []Key{{Number: config.Secret.KeyNumber, PSK: config.Secret.JoinKey()}},
		begun:   make(map[handshakeID]*begun),
		pending: make(map[handshakeID]*pending),
		sources: newRecent[netip.Prefix, source](maxSources),
		firsts:  newRecent[[16]byte, struct{}](recentFirst),
	}
}

// Rekey makes new handshakes use another WireGuard key; Config.Record must
// return a record with it from now on. Handshakes under way are given up, as
// they would tell the peer a key that is gone: begin again.
func (m *Machine) Rekey(private identity.WireGuardPrivate) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.config.Private = private
	for id, b := range m.begun {
		if b.third == nil {
			delete(m.begun, id)
		}
	}
	for id, p := range m.pending {
		if p.handshake != nil {
			delete(m.pending, id)
		}
	}
}

// Handle takes a datagram of type 5, 6 or 7; now is the time since the process
// started. It does not keep datagram. A Reply goes to from.
func (m *Machine) Handle(now time.Duration, from netip.AddrPort, datagram []byte) Result {
	m.mu.Lock()
	defer m.mu.Unlock()
	from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	src := m.source(from)
	if len(datagram) == 0 || len(datagram) > FirstLen {
		return m.junk(src)
	}
	switch datagram[0] {
	case TypeFirst:
		return m.handleFirst(now, from, src, datagram)
	case TypeSecond:
		return m.handleSecond(now, from, src, datagram)
	case TypeThird:
		return m.handleThird(now, from, src, datagram)
	}
	return m.junk(src)
}

// Expire forgets the handshakes that have waited for Lifetime. It returns the
// addresses where joining was tried and no answer came, in order, except those
// where a later try was answered. Call it about once a second.
func (m *Machine) Expire(now time.Duration) []netip.AddrPort {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expirePending(now)
	var silent []netip.AddrPort
	for id, b := range m.begun {
		if now-b.at < Lifetime {
			continue
		}
		delete(m.begun, id)
		if b.third == nil {
			silent = append(silent, b.to)
		}
	}
	for _, b := range m.begun {
		if b.third != nil {
			silent = slices.DeleteFunc(silent, func(a netip.AddrPort) bool { return a == b.to })
		}
	}
	slices.SortFunc(silent, netip.AddrPort.Compare)
	return slices.Compact(silent)
}

func (m *Machine) expirePending(now time.Duration) {
	for id, p := range m.pending {
		if now-p.at >= Lifetime {
			delete(m.pending, id)
		}
	}
}

// Stats returns the counts so far.
func (m *Machine) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	stats := m.stats
	m.sources.each(func(prefix netip.Prefix, s *source) {
		if s.junk > 0 {
			stats.Sources = append(stats.Sources, SourceJunk{prefix, s.junk})
		}
	})
	slices.SortStableFunc(stats.Sources, func(a, b SourceJunk) int { return cmp.Compare(b.Junk, a.Junk) })
	return stats
}

// source finds what is kept of the source of a datagram.
func (m *Machine) source(from netip.AddrPort) *source {
	bits := 64
	if from.Addr().Is4() {
		bits = 32
	}
	prefix, _ := from.Addr().Prefix(bits) // the zero Prefix for the zero Addr
	s, _ := m.sources.use(prefix)
	return s
}

// mayOpen spends the tokens for trying to open a datagram.
func (m *Machine) mayOpen(now time.Duration, src *source) bool {
	return src.opens.take(now, openRatePerSource, openBurstPerSource) && m.opens.take(now, openRate, openBurst)
}

// mayAnswer spends the tokens for answering a first message.
func (m *Machine) mayAnswer(now time.Duration, src *source) bool {
	return src.answers.take(now, answerRatePerSource, answerBurstPerSource) && m.answers.take(now, answerRate, answerBurst)
}

func (m *Machine) junk(src *source) Result {
	m.stats.Junk++
	src.junk++
	return Result{}
}

func (m *Machine) stray() Result {
	m.stats.Stray++
	return Result{}
}

func (m *Machine) limited() Result {
	m.stats.Limited++
	return Result{}
}

// refuse counts and reports; reply is nil unless the peer is told.
func (m *Machine) refuse(reply []byte, err *RefusedError) Result {
	m.stats.Refused++
	return Result{Reply: reply, Refused: err}
}

// random fills b; it fails only if Config.Rand does.
func (m *Machine) random(b []byte) error {
	if _, err := io.ReadFull(m.config.Rand, b); err != nil {
		return fmt.Errorf("read random bytes: %w", err)
	}
	return nil
}

// ownRecord returns this node's record if it fits the key in use.
func (m *Machine) ownRecord() (roster.Signed, bool) {
	own := m.config.Record()
	return own, own.Record().WireGuard == m.config.Private.Public()
}
