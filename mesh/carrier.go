package mesh

import (
	"context"
	"net/netip"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/tunnel"
	"github.com/serialspan/serialspan/mesh/peering"
)

// Carrier carries datagrams between members: the WireGuard tunnel, whose
// methods say what each does, or in simulations its in-memory twin.
type Carrier interface {
	Run(ctx context.Context) error
	SetPeer(id identity.NodeID, key identity.WireGuardKey) error
	RemovePeer(id identity.NodeID)
	HasPeer(id identity.NodeID) bool
	IsStraight(id identity.NodeID) bool
	Peers() []identity.NodeID
	SetRoute(id identity.NodeID, r peering.Route)
	Initiate(id identity.NodeID)
	Rekey(private identity.WireGuardPrivate) error
	Send(to identity.NodeID, kind byte, payload []byte) error
	TrySend(to identity.NodeID, kind byte, payload []byte) error
	TryRelay(to identity.NodeID, kind byte, id identity.NodeID, message []byte) error
	Inject(message []byte)
	Activity(id identity.NodeID) (sent, heard time.Duration)
	Stats() *tunnel.Stats
	SetKubeSpan(link int, addr netip.Addr)
	Know(id identity.NodeID, at netip.AddrPort)
	Unknow(id identity.NodeID)
}
