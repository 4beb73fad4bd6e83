package peering

import (
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
)

// EffectKind says what the caller has to do.
type EffectKind int

// The effects.
const (
	// SendRequest: send a probe request with Token to Route.
	SendRequest EffectKind = iota + 1
	// SendAnswer: send a probe answer with Token to Route.
	SendAnswer
	// Introduce: begin a join handshake with Route.Remote.
	Introduce
	// Initiate: begin a WireGuard handshake, the member asked for it.
	Initiate
	// PathUp: use Route from now on; the member was without a path for Down.
	PathUp
	// PathMoved: use Route from now on, there was another path until now.
	PathMoved
	// PathDown: there is no path any more.
	PathDown
	// ReplyBy: there is no path, but the member just reached us by Route. What
	// comes with that or right after it is best replied to the same way: that the
	// way back works as well is seen a round trip later. Where it does not, the
	// zero Route follows after a second. Nobody proves where a datagram comes
	// from: somebody on the way can have sealed replies sent elsewhere for so
	// long.
	ReplyBy
	// PathBack: the path answers again. It was silent, not for long enough to be
	// given up.
	PathBack
)

// Effect is one thing to do for a member.
type Effect struct {
	Kind  EffectKind
	Peer  identity.NodeID
	Route Route
	Token uint64
	// Ask is set on a request whose receiver should initiate a handshake.
	Ask bool
	// Down, with PathUp, is how long the member was without a path; zero for
	// its first one.
	Down time.Duration
}
