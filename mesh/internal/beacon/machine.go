package beacon

import (
	"net/netip"
	"time"
)

const (
	// period is the mean time between two beacons when nothing happens; 72
	// bytes and headers each, 4 bytes/s on the link.
	period = 30 * time.Second

	// answerGap keeps beacons that answer others' apart, so that many agents
	// that start at once, or a replayer, cannot make us chatter.
	answerGap = time.Second
	// An answer waits from answerMin to answerMin + answerSpread, so that a
	// link full of agents does not answer as one.
	answerMin, answerSpread = 50 * time.Millisecond, 250 * time.Millisecond

	// settle lets a link that has just come up finish its business.
	settle = 100 * time.Millisecond

	// tellAgain is how long an address is not suggested again.
	tellAgain = 3 * time.Second

	// Suggestions per second and at once. Each costs a join handshake whose
	// first datagram is 1200 bytes: a replayer gets 10 kB/s at most.
	tellRate, tellBurst = 8, 32

	// maxPeers bounds the addresses remembered; beyond, the one unheard for
	// longest is forgotten.
	maxPeers = 256
)

// burst is the gaps between the first beacons.
var burst = [...]time.Duration{250 * time.Millisecond, time.Second, 3 * time.Second}

// Machine decides when to send a beacon and what a heard one is worth. Times
// are on one monotonic clock. It is not safe for concurrent use; make one with
// NewMachine.
type Machine struct {
	own    Start
	jitter func(time.Duration) time.Duration

	next, sent time.Duration
	everSent   bool
	step       int // how much of burst was used

	peers  map[netip.AddrPort]peer
	spent  float64 // suggestions, at refill
	refill time.Duration
}

type peer struct {
	start       Start
	told, heard time.Duration
}

// NewMachine returns a machine whose first beacon is due at time 0. jitter(d)
// returns a random duration in [0, d).
func NewMachine(own Start, jitter func(d time.Duration) time.Duration) *Machine {
	return &Machine{own: own, jitter: jitter, peers: make(map[netip.AddrPort]peer)}
}

// Next returns when the next beacon is due.
func (m *Machine) Next() time.Duration { return m.next }

// Sent says that a beacon went out now.
func (m *Machine) Sent(now time.Duration) {
	m.sent, m.everSent = now, true
	if m.step < len(burst) {
		m.next = now + burst[m.step]
		m.step++
		return
	}
	m.next = now + period*3/4 + m.jitter(period/2)
}

// LinksChanged says that links came or changed: a burst of beacons follows.
func (m *Machine) LinksChanged(now time.Duration) {
	m.step = 0
	m.next = now + settle
}

// Heard takes a beacon that came from an address. It returns where a member may
// be found and whether to try it now.
func (m *Machine) Heard(now time.Duration, from netip.Addr, h Hello) (netip.AddrPort, bool) {
	if h.Start == m.own {
		return netip.AddrPort{}, false
	}
	where := netip.AddrPortFrom(from, h.Port)
	p, known := m.peers[where]
	anew := !known || p.start != h.Start
	if known {
		p.heard = now
		m.peers[where] = p
	}
	if !anew && now-p.told < tellAgain || !m.take(now) {
		return netip.AddrPort{}, false
	}
	if anew {
		m.answer(now)
	}
	if !known && len(m.peers) >= maxPeers {
		m.forget()
	}
	m.peers[where] = peer{start: h.Start, told: now, heard: now}
	return where, true
}

// answer makes the next beacon come soon: whoever is new wants to hear us.
func (m *Machine) answer(now time.Duration) {
	at := now
	if m.everSent {
		at = max(at, m.sent+answerGap)
	}
	m.next = min(m.next, at+answerMin+m.jitter(answerSpread))
}

// take spends a suggestion if one is left.
func (m *Machine) take(now time.Duration) bool {
	m.spent = max(0, m.spent-(now-m.refill).Seconds()*tellRate)
	m.refill = now
	if m.spent+1 > tellBurst {
		return false
	}
	m.spent++
	return true
}

// forget drops the peer unheard for longest; of several the one of the lowest
// address.
func (m *Machine) forget() {
	var oldest netip.AddrPort
	for where, p := range m.peers {
		o := m.peers[oldest]
		if !oldest.IsValid() || p.heard < o.heard || p.heard == o.heard && where.Compare(oldest) < 0 {
			oldest = where
		}
	}
	delete(m.peers, oldest)
}
