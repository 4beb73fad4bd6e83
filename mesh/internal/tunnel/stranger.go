package tunnel

import (
	"crypto/subtle"
	"hash"
	"net/netip"
	"sync/atomic"

	"golang.org/x/crypto/blake2s"

	"github.com/serialspan/serialspan/mesh/identity"
)

// strangers tells what a stranger sent from what may be a member's, so that it
// can be counted: wireguard-go drops it without a word. A message that cannot
// be a member's is not given to wireguard-go at all.
type strangers struct {
	mac1    atomic.Pointer[[32]byte]                    // key of MAC1 for messages to us
	remotes atomic.Pointer[map[netip.AddrPort]struct{}] // where routes lead
}

const (
	messageCookie  = 3
	cookieLen      = 64
	transportLeast = 32 // header, counter, tag

	macsLen = 32 // MAC1 and MAC2, the end of a handshake message
	macLen  = 16
)

// setKey makes MAC1 that of our WireGuard key: HASH("mac1----" ‖ public key),
// white paper section 5.4.4.
func (s *strangers) setKey(key identity.WireGuardKey) {
	sum := blake2s.Sum256(append([]byte("mac1----"), key[:]...))
	s.mac1.Store(&sum)
}

// wellFormed reports whether a datagram can be a WireGuard message to us: type,
// reserved bytes, length, and MAC1 where it has one.
func (s *strangers) wellFormed(p []byte) bool {
	if p[1]|p[2]|p[3] != 0 {
		return false
	}
	switch p[0] {
	case messageInitiation:
		return len(p) == initiationLen && s.addressed(p)
	case messageResponse:
		return len(p) == responseLen && s.addressed(p)
	case messageCookie:
		return len(p) == cookieLen
	default:
		return len(p) >= transportLeast
	}
}

// addressed reports whether MAC1 says that the message is for us. Only who
// knows our WireGuard key can make it so, and only members do.
func (s *strangers) addressed(p []byte) bool {
	mac, err := blake2s.New128(s.mac1.Load()[:])
	if err != nil {
		return true // a key of 32 bytes is always taken
	}
	return subtle.ConstantTimeCompare(sum(mac, p[:len(p)-macsLen]), p[len(p)-macsLen:len(p)-macLen]) == 1
}

func sum(h hash.Hash, p []byte) []byte {
	h.Write(p)
	return h.Sum(make([]byte, 0, macLen))
}

// knows reports whether a route leads to an address. A member that has just
// moved sends from another, so what comes from elsewhere is only counted.
func (s *strangers) knows(from netip.AddrPort) bool {
	remotes := s.remotes.Load()
	if remotes == nil {
		return false
	}
	_, ok := (*remotes)[from]
	return ok
}

// setRemotes notes where the routes of a table lead.
func (s *strangers) setRemotes(t *table) {
	remotes := make(map[netip.AddrPort]struct{}, len(t.byID))
	for _, l := range t.byID {
		if r := l.route.Load(); r != nil {
			remotes[r.Remote] = struct{}{}
		}
	}
	s.remotes.Store(&remotes)
}
