package join

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/roster"
)

// Causes of a RefusedError.
var (
	// ErrVersion: the other side speaks another version of the protocol.
	ErrVersion = errors.New("another version of the join protocol; update the older node")
	// ErrNotAdmitted: the NodeID is not in the allowlist.
	ErrNotAdmitted = errors.New("not admitted: add its NodeID to cluster.allow")
	// ErrRemoved: the node was removed from the cluster.
	ErrRemoved = errors.New("the node was removed from the cluster; for this machine to enter again, remove the file \"identity\" in its node.state_dir, so that it becomes a new node")
	// ErrOldSecret: the joiner's secret is older than those accepted.
	ErrOldSecret = errors.New("the secret is too old")
	// ErrNewcomer: the joiner's secret is not the one in use, and the joiner
	// was no member when it was.
	ErrNewcomer = errors.New("the secret is not the one in use, and the node was no member when it was")
	// ErrReason: the member refused for a reason that this version does not
	// know.
	ErrReason = errors.New("refused for a reason that this version does not know; update this node")
	// ErrRecord: the peer's node record or message is not valid in this
	// cluster.
	ErrRecord = errors.New("its node record is not valid in this cluster")
	// ErrKey: the peer does not hold the WireGuard key in its record.
	ErrKey = errors.New("it does not hold the WireGuard key in its node record")
	// ErrSelf: a first message of this very process came back to it: the
	// address tried may be its own. It is a hint, not proven: do not forget
	// the address for good.
	ErrSelf = errors.New("the address leads back to this node")
	// ErrTwin: another process holds this node's identity, proven.
	ErrTwin = errors.New("another machine runs with this node's identity")
	// ErrOwnRecord: this node's own record does not fit its WireGuard key, a
	// mistake of the caller.
	ErrOwnRecord = errors.New("our own node record and WireGuard key do not fit")
)

// Side says who refused.
type Side int

const (
	// Here: this node refused the peer.
	Here Side = iota
	// There: the peer refused this node. It holds the secret, but which member
	// it is was not proven.
	There
)

// String returns "here" or "there".
func (s Side) String() string {
	if s == There {
		return "there"
	}
	return "here"
}

// RefusedError says why a handshake that opened with the secret ended without
// a peer. It unwraps to one of the causes above.
type RefusedError struct {
	Addr    netip.AddrPort  // the peer; for ErrSelf the address that was tried, if known
	Node    identity.NodeID // the peer, where its record told; else zero
	Side    Side            // who refused
	Version uint64          // the peer's protocol version, for ErrVersion
	Key     uint32          // key number of the joiner's secret, for ErrOldSecret and ErrNewcomer
	Newest  uint32          // key number in use at the member, for the same; 0: not told
	Twin    roster.Signed   // the other process's record, for ErrTwin
	Err     error           // the cause
}

// Error implements error.
func (e *RefusedError) Error() string {
	who := "refuse"
	if e.Side == There {
		who = "refused by"
	}
	peer := e.Addr.String()
	if !e.Node.IsZero() {
		peer = e.Node.Short() + " at " + peer
	}
	if errors.Is(e.Err, ErrOldSecret) || errors.Is(e.Err, ErrNewcomer) {
		return fmt.Sprintf("join: %s %s: %s", who, peer, e.secretText())
	}
	if errors.Is(e.Err, ErrVersion) {
		return fmt.Sprintf("join: %s %s: %v (here %d, there %d)", who, peer, e.Err, protocolVersion, e.Version)
	}
	return fmt.Sprintf("join: %s %s: %v", who, peer, e.Err)
}

// secretText says which secret is meant and what to do.
func (e *RefusedError) secretText() string {
	whose, which := "its secret", "it needs"
	if e.Side == There {
		whose, which = "this member's secret", "copy"
	}
	age := "not the one in use"
	if n := int64(e.Newest) - int64(e.Key); n > 0 {
		age = fmt.Sprintf("%d rotations old (key %d, in use is key %d)", n, e.Key, e.Newest)
		if n == 1 {
			age = fmt.Sprintf("1 rotation old (key %d, in use is key %d)", e.Key, e.Newest)
		}
	}
	more := ""
	if errors.Is(e.Err, ErrNewcomer) {
		more = ", and lets in former members only"
	}
	return fmt.Sprintf("%s is %s%s; next step: %s the secret file of a member that is up to date", whose, age, more, which)
}

// Unwrap returns the cause.
func (e *RefusedError) Unwrap() error { return e.Err }

// refusal is the code of a refusal on the wire; append only.
type refusal uint64

const (
	refusalNone       refusal = 0
	refusalVersion    refusal = 1
	refusalNotAllowed refusal = 2
	refusalOldSecret  refusal = 3
	refusalRemoved    refusal = 4
	refusalNewcomer   refusal = 5
)

// err returns the cause that a code stands for, nil for none.
func (r refusal) err() error {
	switch r {
	case refusalNone:
		return nil
	case refusalVersion:
		return ErrVersion
	case refusalNotAllowed:
		return ErrNotAdmitted
	case refusalOldSecret:
		return ErrOldSecret
	case refusalRemoved:
		return ErrRemoved
	case refusalNewcomer:
		return ErrNewcomer
	}
	return ErrReason
}
