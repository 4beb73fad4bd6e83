package tunnel

import (
	"bytes"
	"encoding/binary"
	"sync"
	"time"
)

// WireGuard's message types and the layout that the bind has to see, from the
// WireGuard white paper, section 5.4.
const (
	messageInitiation = 1
	messageResponse   = 2
	messageTransport  = 4

	messageHeader = 4 // type and three zero bytes

	initiationLen = 148
	responseLen   = 92
)

// repeatAfter are the gaps after which a held initiation is sent again; their
// sum stays under the 5 s after which wireguard-go makes a new one.
var repeatAfter = [...]time.Duration{100 * time.Millisecond, 300 * time.Millisecond, 900 * time.Millisecond, 2700 * time.Millisecond}

// askFirst is how long the larger NodeID of a pair waits for the smaller one
// to initiate before it does so itself.
const askFirst = 2 * time.Second

// never is a due time that does not come.
const never = time.Duration(1<<63 - 1)

// initiation is the newest handshake initiation that wireguard-go made for a
// peer, until it is answered. It is pure state, times are since the tunnel's
// start. The link's mutex guards it.
type initiation struct {
	message []byte // nil: none waits
	sent    int
	due     time.Duration // next time to send; never: not by time
	own     time.Duration // not to be sent before: the other side's turn
}

// hold takes a new initiation in place of an older one. first says whether we
// are the one of the pair that initiates.
func (i *initiation) hold(now time.Duration, message []byte, first bool) {
	i.message = bytes.Clone(message)
	i.sent = 0
	i.own = now
	if !first {
		i.own = now + askFirst
	}
	i.due = i.own
}

// settle forgets the initiation: it was answered, or the peer's came first.
func (i *initiation) settle() {
	i.message, i.due = nil, never
}

// take returns the message if it is to be sent at now, and plans the repeat.
// force asks for it at once, as a new route does; never before own.
func (i *initiation) take(now time.Duration, force bool) []byte {
	if i.message == nil || now < i.own || (now < i.due && !force) {
		return nil
	}
	if i.sent < len(repeatAfter) {
		i.due = now + repeatAfter[i.sent]
	} else {
		i.due = never
	}
	i.sent++
	return i.message
}

// responses remembers which response answered which initiation, so that a
// repeat of the same bytes can be answered again. It is safe for concurrent
// use. Both lists are small rings: junk can push out what is remembered and so
// cost a repeat, never memory.
type responses struct {
	mu       sync.Mutex
	seen     [32]answered // initiations not answered yet; anyone can fill it
	nextSeen int
	done     [64]answered // answered ones; only members get here
	nextDone int
}

type answered struct {
	initiation [initiationLen]byte
	used       bool
	link       *link
	response   [responseLen]byte
	at         time.Duration
	repeats    int
}

const (
	// answerRepeatsFor outlasts the sum of repeatAfter and a slow path.
	answerRepeatsFor = 6 * time.Second
	maxAnswers       = len(repeatAfter) + 1
)

// arrived notes an initiation on its way to wireguard-go. If it repeats one
// that was answered, it returns the stored response and the link to send it
// on; the repeat itself is then not for wireguard-go.
func (r *responses) arrived(now time.Duration, initiation []byte) (*link, []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.done {
		d := &r.done[i]
		if !d.used || !bytes.Equal(d.initiation[:], initiation) {
			continue
		}
		if now-d.at > answerRepeatsFor || d.repeats >= maxAnswers {
			d.used = false
			return nil, nil
		}
		d.repeats++
		return d.link, bytes.Clone(d.response[:])
	}
	for i := range r.seen {
		if r.seen[i].used && bytes.Equal(r.seen[i].initiation[:], initiation) {
			return nil, nil
		}
	}
	s := &r.seen[r.nextSeen%len(r.seen)]
	r.nextSeen++
	*s = answered{used: true}
	copy(s.initiation[:], initiation)
	return nil, nil
}

// left notes a response on its way to the network. A response names the
// initiation it answers by its receiver index.
func (r *responses) left(now time.Duration, to *link, response []byte) {
	index := binary.LittleEndian.Uint32(response[8:12])
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.seen {
		s := &r.seen[i]
		if !s.used || binary.LittleEndian.Uint32(s.initiation[4:8]) != index {
			continue
		}
		s.used = false
		d := &r.done[r.nextDone%len(r.done)]
		r.nextDone++
		*d = answered{used: true, initiation: s.initiation, link: to, at: now}
		copy(d.response[:], response)
		return
	}
}
