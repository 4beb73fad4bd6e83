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

type relayed struct {
	n   int
	buf [relayedMax]byte
}

func newBind(t *Tunnel) *bind {
	return &bind{
		t:       t,
		relayed: make(chan *relayed, relayQueue),
		pool:    sync.Pool{New: func() any { return new(relayed) }},
	}
}

// relaySource is the source of every relayed message. Cookies go nowhere: a
// member that knocks through a relay is a member already.
var relaySource = &source{}

// receiveRelayed is the receive function for messages that members passed on.
func (b *bind) receiveRelayed(stop <-chan struct{}, packets [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
	for {
		select {
		case <-stop:
			return 0, net.ErrClosed
		case m := <-b.relayed:
			n := copy(packets[0], m.buf[:m.n])
			b.pool.Put(m)
			if n < messageHeader || !b.strangers.wellFormed(packets[0][:n]) {
				b.t.stats.Strangers.Add(1)
				continue
			}
			if deliver, _ := b.inspectMember(packets[0][:n], netip.AddrPort{}, netip.Addr{}); deliver {
				sizes[0], eps[0] = n, relaySource
				return 1, nil
			}
		}
	}
}
