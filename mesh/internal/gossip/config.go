package gossip

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/serialspan/serialspan/mesh/identity"
)

const (
	// port is a constant that memberlist wants; nothing is opened there.
	port = 51821

	// MaxPacket is the size of the largest datagram, bytes.
	MaxPacket = 1150

	// packetBudget leaves room for the seal, and for the checksum header (5
	// bytes) that memberlist adds to what it has already measured.
	packetBudget = MaxPacket - sealOverhead - 5

	// MaxMeta is memberlist's limit for a record (MetaMaxSize), bytes.
	MaxMeta = memberlist.MetaMaxSize

	// MaxMessage bounds a broadcast, bytes: with its name, frame (14),
	// memberlist's type (1) and checksum (5) and the seal (28) it fits MaxPacket.
	// 1000 + 30 + 14 + 1 + 5 + 28 = 1078.
	MaxMessage = 1000
	// MaxName bounds the name of a broadcast, bytes.
	MaxName  = 30
	maxLabel = 62

	// retransmit times the decimal digits of the cluster's size is how often
	// memberlist tells a rumour, besides the flood; that leaves in sparse
	// clusters only (rumour.go).
	retransmit = 3
	// rumourNodes times two rumours with records are what memberlist may have to
	// tell in a round, which bounds how many members can join at once.
	rumourNodes = 8

	messageQueue = 1024
	recordQueue  = 4096
	packetQueue  = 256
)

// Intervals are the timings of SWIM. Zero fields are the defaults.
type Intervals struct {
	// Probe is how often one member is pinged. Default 5 s.
	Probe time.Duration
	// ProbeTimeout is how long an answer may take before others are asked to
	// ping. Default 3 s.
	ProbeTimeout time.Duration
	// Suspicion is how many probe intervals (times log10 of the cluster's size,
	// at least 1) a suspect has to refute. Default 4.
	Suspicion int
	// Gossip is how often what memberlist has to tell is passed on. Nothing is
	// sent when there is none. Default 200 ms, so that 1,000 members, five hops
	// apart, know after 1 s at most.
	Gossip time.Duration
	// Dead is how long a dead member still gets gossip, so that it can refute.
	// Default 60 s.
	Dead time.Duration
	// Repair is how often members compare what they know after a change; five
	// times that while nothing changes. Default 2 s.
	Repair time.Duration
	// Stream bounds Join's exchange with one member. Default 10 s.
	Stream time.Duration
}

// Config sets up a Gossip. Required: Self, Address, Label, Key, Meta, Verify,
// Packets, Addr, NodeOf, DialStream, AcceptStream.
type Config struct {
	// Self is this node.
	Self identity.NodeID
	// Address gives the mesh address of a member.
	Address func(identity.NodeID) netip.Addr
	// Label names the cluster; other labels' packets are dropped. 1 to 62 bytes.
	Label string
	// Key encrypts and authenticates packets and streams (AES-256-GCM).
	Key [32]byte

	// Meta returns this node's signed record, at most MaxMeta bytes.
	Meta func() []byte
	// Verify checks a record and returns whose it is.
	Verify func(meta []byte) (identity.NodeID, error)

	// Packets carries datagrams of at most MaxPacket bytes. ReadFrom must be
	// unblocked by SetReadDeadline. Run does not close it.
	Packets net.PacketConn
	// Addr gives a member's address on Packets.
	Addr func(identity.NodeID) net.Addr
	// NodeOf gives the member of an address of Packets.
	NodeOf func(net.Addr) (identity.NodeID, bool)
	// DialStream opens a stream to another member's Gossip.
	DialStream func(context.Context, identity.NodeID) (net.Conn, error)
	// AcceptStream returns the next stream from another member's Gossip. Run
	// ends it by its context; any other error ends Run.
	AcceptStream func(context.Context) (net.Conn, identity.NodeID, error)

	// OnRecord is told each valid record that differs from the last one of that
	// member, older ones and our own included. Default: nothing.
	OnRecord func(id identity.NodeID, meta []byte)
	// OnMessage is told each message of Broadcast on another member, usually
	// once. The message is the callee's. Default: nothing.
	OnMessage func(message []byte)
	// Known reports whether a message would tell this node nothing. It is then
	// not told, and not passed on either: who broadcasts what it was late to
	// learn reaches the others that were late, and not the whole cluster. Called
	// on memberlist's goroutines, without its locks; it must be quick. Default:
	// nothing is known.
	Known func(message []byte) bool
	// OnChange is told the members of which Members would return something else
	// than before; those that it would not return any more have no State.
	// Changes in quick succession are told once. Default: nothing.
	OnChange func(changed []Member)

	// Digest stands for what the user of this package wants to be the same on
	// all members. It is sent along with digests of the membership, so it must
	// be quick. Default: zero.
	Digest func() [8]byte
	// OnDiffer is told of a member whose Digest is another, seconds to tens of
	// seconds after it came to be so. Default: nothing.
	OnDiffer func(identity.NodeID)

	// Logger gets debug events, memberlist's log among them; default discards.
	Logger *slog.Logger
	// Intervals are the timings; zero: defaults.
	Intervals Intervals
}

func (c Config) withDefaults() (Config, error) {
	switch {
	case c.Self.IsZero():
		return c, errors.New("configure gossip: Self is missing")
	case c.Address == nil || c.Addr == nil || c.NodeOf == nil:
		return c, errors.New("configure gossip: Address, Addr or NodeOf is missing")
	case c.Label == "" || len(c.Label) > maxLabel:
		return c, errors.New("configure gossip: Label must have 1 to 62 bytes")
	case c.Key == [32]byte{}:
		return c, errors.New("configure gossip: Key is missing")
	case c.Meta == nil || c.Verify == nil:
		return c, errors.New("configure gossip: Meta or Verify is missing")
	case c.Packets == nil || c.DialStream == nil || c.AcceptStream == nil:
		return c, errors.New("configure gossip: Packets, DialStream or AcceptStream is missing")
	}
	if c.OnRecord == nil {
		c.OnRecord = func(identity.NodeID, []byte) {}
	}
	if c.OnMessage == nil {
		c.OnMessage = func([]byte) {}
	}
	if c.OnChange == nil {
		c.OnChange = func([]Member) {}
	}
	if c.Known == nil {
		c.Known = func([]byte) bool { return false }
	}
	if c.Digest == nil {
		c.Digest = func() [8]byte { return [8]byte{} }
	}
	if c.OnDiffer == nil {
		c.OnDiffer = func(identity.NodeID) {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	i := &c.Intervals
	defaults := map[*time.Duration]time.Duration{
		&i.Probe:        5 * time.Second,
		&i.ProbeTimeout: 3 * time.Second,
		&i.Gossip:       200 * time.Millisecond,
		&i.Dead:         60 * time.Second,
		&i.Repair:       2 * time.Second,
		&i.Stream:       10 * time.Second,
	}
	for field, value := range defaults {
		if *field == 0 {
			*field = value
		}
	}
	if i.Suspicion == 0 {
		i.Suspicion = 4
	}
	return c, nil
}

// memberlistConfig translates; transport and delegate do the rest.
func (g *Gossip) memberlistConfig() *memberlist.Config {
	c := memberlist.DefaultWANConfig()
	c.Name = g.cfg.Self.String()
	c.Transport = g.transport
	c.GossipNodes = rumourNodes
	c.RequireNodeNames = true
	c.AdvertisePort = port
	c.BindPort = port
	c.UDPBufferSize = packetBudget
	c.EnableCompression = false // keys and signatures do not compress
	c.PushPullInterval = 0
	c.DisableTcpPings = true // QUIC takes the same paths as the packets
	c.ProbeInterval = g.cfg.Intervals.Probe
	c.ProbeTimeout = g.cfg.Intervals.ProbeTimeout
	c.SuspicionMult = g.cfg.Intervals.Suspicion
	c.RetransmitMult = retransmit
	c.GossipInterval = g.cfg.Intervals.Gossip
	c.GossipToTheDeadTime = g.cfg.Intervals.Dead
	c.TCPTimeout = g.cfg.Intervals.Stream
	// An edge node that is cut off is nothing unusual here; it must not take
	// minutes to probe normally again.
	c.AwarenessMaxMultiplier = 4
	c.Logger = logger(g.cfg.Logger)
	d := (*delegate)(g)
	c.Delegate, c.Events, c.Alive = d, d, d
	return c
}
