package mesh

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/tunnel"
	"github.com/serialspan/serialspan/mesh/internal/underlay"
	"github.com/serialspan/serialspan/mesh/kubespan"
)

// DefaultPort is the UDP port of a node, and of a join address without one.
const DefaultPort = 51821

// DefaultForgetAfter outlasts a long weekend without power.
const DefaultForgetAfter = 7 * 24 * time.Hour

// Socket is the node's UDP socket; ListenUDP opens the real one.
type Socket interface {
	// ReadFrom waits for a datagram and says where it came from, which of our
	// addresses it was sent to and by which interface (its index; 0: unknown).
	// It fails with net.ErrClosed, os.ErrDeadlineExceeded or an error of the
	// socket itself.
	ReadFrom(b []byte) (n int, from netip.AddrPort, local netip.Addr, link int, err error)
	// WriteTo sends a datagram, from local if that is valid and still ours.
	WriteTo(b []byte, to netip.AddrPort, local netip.Addr) error
	// WriteFrom sends a datagram from local, or fails.
	WriteFrom(b []byte, to netip.AddrPort, local netip.Addr) error
	SetReadDeadline(t time.Time) error
	// SetMark gives all datagrams sent from now on a firewall mark; 0: none.
	// Without the right to, its error unwraps to os.ErrPermission.
	SetMark(mark uint32) error
	LocalAddr() netip.AddrPort
	Close() error
}

// KubeSpan tells of the KubeSpan that this host is in; *kubespan.Reader is the
// real one.
type KubeSpan interface {
	// State is what is known now; Changes has a value after it has changed.
	State() kubespan.State
	Changes() <-chan struct{}
	// Run follows it until ctx ends, and then returns nil.
	Run(ctx context.Context) error
}

// ListenUDP opens the node's UDP socket at "HOST:PORT"; an empty host means
// all addresses of both families, port 0 any free port.
func ListenUDP(address string) (Socket, error) {
	s, err := underlay.Listen(address)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Config is what a Mesh needs. Store, Secret, Name and Socket must be set.
type Config struct {
	Store  *Store          // open; the caller closes it after Run
	Secret identity.Secret // of the cluster
	Name   string          // this node's name for people, see roster.ValidName
	Socket Socket          // open; the caller closes it after Run

	// Version is the software version that others see; default none.
	Version string
	// Join are addresses to join through, "HOST[:PORT]"; default none. Names
	// are resolved again at each try.
	Join []string
	// Advertise are addresses, besides those of the interfaces, at which
	// others may try to reach this node; default none.
	Advertise []netip.AddrPort
	// Protocols are the stream protocols that Accept will be called for;
	// default none.
	Protocols []string
	// Admit says who may be a member besides holding the secret (admission:
	// allowlist); default everybody. It must not block.
	Admit func(identity.NodeID) bool
	// Admins are the nodes whose removals of others are honoured here, and, if
	// there are any, the only ones whose new secrets are taken. Asked again and
	// again; it must not block. Default: none.
	Admins func() []identity.NodeID
	// OnSecret is told the cluster secret when another is in use than before.
	// Calls do not overlap; the mesh goes on when it returns. Default: nothing.
	OnSecret func(identity.Secret)
	// OnRemoved is told of a member that was removed, a moment before its
	// connections are closed: its streams should be ended. It must not block
	// for long. Default: nothing.
	OnRemoved func(identity.NodeID)
	// LAN finds members on the same link by a multicast beacon; default off.
	// It opens sockets of its own.
	LAN bool
	// Relay says whether this node passes messages on for others; default
	// RelayAuto.
	Relay RelayMode
	// KubeSpan follows the KubeSpan of this host; Run runs it. Default: none is
	// looked for, and none used.
	KubeSpan KubeSpan
	// ForgetAfter is how long a member may be gone before it is forgotten;
	// default DefaultForgetAfter.
	ForgetAfter time.Duration
	// OnBroadcast gets every message of Broadcast from other members, at least
	// once each; it must not block or keep the message. Default: ignored.
	OnBroadcast func(message []byte)
	// Known reports whether a message of Broadcast would tell this node nothing:
	// it is then neither told nor passed on. It must be quick. Default: nothing
	// is known.
	Known func(message []byte) bool
	// Digest stands for what should be the same on all members; it must be
	// quick. Default: nothing is compared.
	Digest func() [8]byte
	// OnDiffer is told of a member whose Digest is another; it must not block.
	// Default: ignored.
	OnDiffer func(identity.NodeID)
	// Addresses returns this host's own addresses; default those of the
	// network interfaces that are up.
	Addresses func() ([]netip.Addr, error)
	// Resolve looks a host name up; default net.DefaultResolver.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// Wall is the wall clock: shown to people as skew, and watched for going
	// back (DESIGN section 6). Default time.Now, which WireGuard uses.
	Wall func() time.Time
	// Carrier makes what carries datagrams between members; for package
	// meshtest, which can name its types. Default: the WireGuard tunnel.
	Carrier func(tunnel.Config) Carrier
	// Logger; nil discards.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.ForgetAfter <= 0 {
		c.ForgetAfter = DefaultForgetAfter
	}
	if c.Admit == nil {
		c.Admit = func(identity.NodeID) bool { return true }
	}
	if c.Admins == nil {
		c.Admins = func() []identity.NodeID { return nil }
	}
	if c.OnSecret == nil {
		c.OnSecret = func(identity.Secret) {}
	}
	if c.OnRemoved == nil {
		c.OnRemoved = func(identity.NodeID) {}
	}
	if c.Known == nil {
		c.Known = func([]byte) bool { return false }
	}
	if c.OnBroadcast == nil {
		c.OnBroadcast = func([]byte) {}
	}
	if c.Wall == nil {
		c.Wall = time.Now
	}
	if c.Addresses == nil {
		c.Addresses = interfaceAddresses
	}
	if c.Carrier == nil {
		c.Carrier = func(t tunnel.Config) Carrier { return tunnel.New(t) }
	}
	if c.Resolve == nil {
		c.Resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	return c
}
