package tunnel

import (
	"net"
	"net/netip"
	"sync"

	"golang.zx2c4.com/wireguard/conn"
)

const (
	// relayQueue bounds the messages that members passed on to us and that
	// wireguard-go has not taken.
	relayQueue = 128
	// relayedMax is the longest message that fits a relay's datagram.
	relayedMax = MaxPayload
)

// relayed is a message that did not come by the socket just now.
type relayed struct {
	n      int
	buf    [relayedMax]byte
	source conn.Endpoint // of a message that was looked at before; nil: a member passed it on
}

func newBind(t *Tunnel) *bind {
	return &bind{
		t:       t,
		relayed: make(chan *relayed, relayQueue),
		pool:    sync.Pool{New: func() any { return new(relayed) }},
	}
}

// relaySource is the source of every relayed message. It has no address for
// cookies, so we meet those ourselves: a member that knocks through a relay is a
// member already.
var relaySource = &source{}

// queue hands over a message to receiveRelayed. It never waits and does not keep
// message; where the queue is full it is dropped and counted.
func (b *bind) queue(message []byte, source conn.Endpoint) {
	m := b.pool.Get().(*relayed)
	m.n, m.source = copy(m.buf[:], message), source
	select {
	case b.relayed <- m:
	default:
		b.pool.Put(m)
		b.t.stats.RelayQueueFull.Add(1)
	}
}

// receiveRelayed is the receive function for messages that members passed on,
// and for those of handshakes that are given to wireguard-go once more.
func (b *bind) receiveRelayed(stop <-chan struct{}, packets [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
	for {
		select {
		case <-stop:
			return 0, net.ErrClosed
		case m := <-b.relayed:
			n, again := copy(packets[0], m.buf[:m.n]), m.source
			b.pool.Put(m)
			if again != nil {
				sizes[0], eps[0] = n, again
				return 1, nil
			}
			if n < messageHeader || !b.strangers.wellFormed(packets[0][:n]) {
				b.t.stats.Strangers.Add(1)
				continue
			}
			if deliver, _ := b.inspectMember(packets[0][:n], netip.AddrPort{}, netip.Addr{}); deliver {
				b.noteHandshake(packets[0][:n], relaySource)
				sizes[0], eps[0] = n, relaySource
				return 1, nil
			}
		}
	}
}
