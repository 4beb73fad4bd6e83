package mesh

import (
	"sync"

	"github.com/serialspan/serialspan/mesh/identity"
)

// signals are notes for the control loop from goroutines that must not wait:
// those of wireguard-go. It is safe for concurrent use.
type signals struct {
	wake chan struct{}

	mu         sync.Mutex
	paths      map[identity.NodeID]bool // true: for our own sake too
	handshakes map[identity.NodeID]struct{}
	burnt      bool
}

func (s *signals) init() {
	s.wake = make(chan struct{}, 1)
	s.paths = make(map[identity.NodeID]bool)
	s.handshakes = make(map[identity.NodeID]struct{})
}

// wantPath notes that something should go to a member.
func (s *signals) wantPath(id identity.NodeID) { s.want(id, true) }

// wantStraight notes that something of another member's should go to a member.
func (s *signals) wantStraight(id identity.NodeID) { s.want(id, false) }

func (s *signals) want(id identity.NodeID, own bool) {
	s.mu.Lock()
	before, noted := s.paths[id]
	s.paths[id] = before || own
	s.mu.Unlock()
	if !noted {
		s.look()
	}
}

func (s *signals) handshaking(id identity.NodeID) {
	s.mu.Lock()
	s.handshakes[id] = struct{}{}
	s.mu.Unlock()
	s.look()
}

// keyBurnt notes that a new WireGuard key is needed.
func (s *signals) keyBurnt() {
	s.mu.Lock()
	s.burnt = true
	s.mu.Unlock()
	s.look()
}

// takeBurnt reports whether a new WireGuard key is needed, once.
func (s *signals) takeBurnt() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	burnt := s.burnt
	s.burnt = false
	return burnt
}

// look makes the control loop look again.
func (s *signals) look() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// take returns the notes, nil for none, and starts new ones.
func (s *signals) take() (paths map[identity.NodeID]bool, handshakes map[identity.NodeID]struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.paths) > 0 {
		paths, s.paths = s.paths, make(map[identity.NodeID]bool)
	}
	if len(s.handshakes) > 0 {
		handshakes, s.handshakes = s.handshakes, make(map[identity.NodeID]struct{})
	}
	return paths, handshakes
}
