package roster

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"unicode"
	"unicode/utf8"

	"github.com/serialspan/serialspan/mesh/identity"
)

// Limits of a record.
const (
	// MaxWire bounds the wire form of a record, in bytes.
	MaxWire = 450
	// MaxName bounds a node name, in bytes.
	MaxName = 63
	// MaxEndpoints bounds the endpoints of a record.
	MaxEndpoints = 8
	// MaxThrough bounds the relays of a record.
	MaxThrough = 3
	// MaxVersion bounds the software version, in bytes.
	MaxVersion = 24
	// MaxCount bounds epoch and sequence, so that no jump past a held epoch
	// can wrap around.
	MaxCount = 1<<62 - 1
)

var (
	// ErrRecord is wrapped by the errors for a record that breaks the format
	// or its limits.
	ErrRecord = errors.New("not a node record")
	// ErrSignature is wrapped by the error for a record whose signature does
	// not verify: damaged, forged, or of another cluster.
	ErrSignature = errors.New("signature does not verify in this cluster")
)

// Start tells the processes of one node apart: 16 random bytes, drawn once per
// process. The zero value names no process.
type Start [16]byte

// RelayHint is the first two bytes of a relay's NodeID: a hint, so that a record
// has room for three. Where several members that offer to relay begin so, each of
// them is tried.
type RelayHint [2]byte

// HintOf returns the hint at a member.
func HintOf(id identity.NodeID) RelayHint { return RelayHint(id[:2]) }

// Record is what a node says of itself. It is a plain value; Sign and Parse
// check it. Key may be left nil for Sign.
type Record struct {
	Name      string                // self-given, 1 to MaxName bytes; chooses, never authorises
	Key       ed25519.PublicKey     // identity key
	WireGuard identity.WireGuardKey // key of this start
	Start     Start                 // the process
	Epoch     uint64                // boot counter, up to MaxCount
	Sequence  uint64                // of the records in Epoch, up to MaxCount
	KubeSpan  netip.Addr            // unique local IPv6 address; the zero Addr: none
	Endpoints []netip.AddrPort      // UDP addresses to try, at most MaxEndpoints, best first
	Version   string                // software version, at most MaxVersion bytes; empty: not told
	Relay     bool                  // passes messages on for members that cannot reach each other
	Through   []RelayHint           // relays to which it keeps a path open through its router, at most MaxThrough
}

// ValidName reports whether name may be a node name: 1 to MaxName bytes of
// UTF-8, only visible characters, and neither '@' (device@node), '/' (names
// become file names) nor a leading '-' (a command-line option).
func ValidName(name string) bool {
	if len(name) < 1 || len(name) > MaxName || name[0] == '-' || name == "." || name == ".." || !utf8.ValidString(name) {
		return false
	}
	for _, c := range name {
		if c == '@' || c == '/' || unicode.IsSpace(c) || !unicode.IsGraphic(c) {
			return false
		}
	}
	return true
}

// check returns the first rule of the format that r breaks, nil if none.
func (r *Record) check() error {
	switch {
	case !ValidName(r.Name):
		return fmt.Errorf("%w: %q cannot be a node name (1 to %d bytes, no space, '@' or '/')", ErrRecord, r.Name, MaxName)
	case len(r.Key) != ed25519.PublicKeySize:
		return fmt.Errorf("%w: identity key of %d bytes", ErrRecord, len(r.Key))
	case r.WireGuard.IsZero():
		return fmt.Errorf("%w: no WireGuard key", ErrRecord)
	case r.Start == Start{}:
		return fmt.Errorf("%w: no start", ErrRecord)
	case r.Epoch > MaxCount || r.Sequence > MaxCount:
		return fmt.Errorf("%w: epoch %d, sequence %d: too large", ErrRecord, r.Epoch, r.Sequence)
	case r.KubeSpan.IsValid() && (!r.KubeSpan.Is6() || !r.KubeSpan.IsPrivate() || r.KubeSpan.Zone() != ""):
		return fmt.Errorf("%w: KubeSpan address %s is not a unique local IPv6 address", ErrRecord, r.KubeSpan)
	case len(r.Endpoints) > MaxEndpoints:
		return fmt.Errorf("%w: %d endpoints, want at most %d", ErrRecord, len(r.Endpoints), MaxEndpoints)
	case len(r.Version) > MaxVersion || !printable(r.Version):
		return fmt.Errorf("%w: %q cannot be a software version (at most %d printable ASCII bytes)", ErrRecord, r.Version, MaxVersion)
	}
	if len(r.Through) > MaxThrough {
		return fmt.Errorf("%w: %d relays, want at most %d", ErrRecord, len(r.Through), MaxThrough)
	}
	for _, e := range r.Endpoints {
		if err := checkEndpoint(e); err != nil {
			return err
		}
	}
	return nil
}

// checkEndpoint refuses what no datagram can be sent to. Loopback is allowed:
// several agents on one machine are a mesh too.
func checkEndpoint(e netip.AddrPort) error {
	a := e.Addr()
	if !a.IsValid() || a.Is4In6() || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() || e.Port() == 0 {
		return fmt.Errorf("%w: endpoint %s: want a unicast address without zone, and a port", ErrRecord, e)
	}
	return nil
}

// printable reports whether s has only visible ASCII characters.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// clone returns a copy of r that shares no memory with it.
func (r *Record) clone() Record {
	c := *r
	c.Key = slices.Clone(r.Key)
	c.Endpoints = slices.Clone(r.Endpoints)
	c.Through = slices.Clone(r.Through)
	return c
}
