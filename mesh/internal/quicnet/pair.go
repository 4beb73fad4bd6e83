package quicnet

import "github.com/serialspan/serialspan/mesh/identity"

// maxLinks is how many connections of one pair live at once: the used one, the
// loser of a tie, and room for a few more that drain.
const maxLinks = 6

// linkKey is what the choice among connections of a pair depends on.
type linkKey struct {
	instance instance
	round    uint64
	floor    uint64          // the dialer has given up connections below this round; 0: of another instance
	dialer   identity.NodeID // who dialed
}

// pair chooses among the connections to one peer. It is a pure machine, generic
// over the connection so that its table tests need none; its owner's mutex
// guards it.
type pair[L comparable] struct {
	links       []entry[L] // in order of adoption
	attempted   uint64     // highest round that we have dialed with; never goes back
	established uint64     // highest round of a connection to instance that came about
	instance    instance   // of the last connection
}

type entry[L comparable] struct {
	link L
	key  linkKey
}

// next returns round and floor for a new dial, and the instance of the peer that
// the floor is about. It is called when no connection is left, so all rounds
// that came about before are given up.
func (p *pair[L]) next() (round, floor uint64, of instance) {
	p.attempted = max(p.attempted, p.established) + 1
	return p.attempted, p.established + 1, p.instance
}

// adopt takes in a new connection. The connections that it returns have lost
// and are no longer of the pair; the caller closes them. One of them may be
// link itself, if there are too many.
func (p *pair[L]) adopt(link L, key linkKey) (lost []L) {
	if key.instance != p.instance {
		p.instance, p.established = key.instance, 0
	}
	p.established = max(p.established, key.round)
	kept := p.links[:0:0]
	for _, e := range p.links {
		restarted := e.key.instance != key.instance
		givenUp := e.key.dialer != key.dialer && e.key.round < key.floor ||
			e.key.dialer == key.dialer && e.key.round < key.round
		if restarted || givenUp {
			lost = append(lost, e.link)
		} else {
			kept = append(kept, e)
		}
	}
	p.links = append(kept, entry[L]{link, key})
	if len(p.links) > maxLinks {
		worst := 0
		for i := range p.links {
			if p.links[worst].key.better(p.links[i].key) {
				worst = i
			}
		}
		lost = append(lost, p.links[worst].link)
		p.links = append(p.links[:worst], p.links[worst+1:]...)
	}
	return lost
}

// remove forgets a connection that has ended.
func (p *pair[L]) remove(link L) {
	for i, e := range p.links {
		if e.link == link {
			p.links = append(p.links[:i:i], p.links[i+1:]...)
			return
		}
	}
}

// current returns the connection for new streams.
func (p *pair[L]) current() (link L, ok bool) {
	best := -1
	for i, e := range p.links {
		if best < 0 || !p.links[best].key.better(e.key) {
			best = i // of equals the last adopted
		}
	}
	if best < 0 {
		return link, false
	}
	return p.links[best].link, true
}

// better reports whether a connection goes before another to the same instance:
// the higher round, then that dialed by the smaller NodeID.
func (k linkKey) better(other linkKey) bool {
	if k.round != other.round {
		return k.round > other.round
	}
	return k.dialer.Compare(other.dialer) < 0
}
