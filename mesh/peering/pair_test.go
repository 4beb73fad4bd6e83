package peering_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/peering"
)

// two runs two machines against each other. Each has two addresses, of IPv4 and
// of IPv6, with a delay for each family.
type two struct {
	now     time.Duration
	side    [2]*peering.Machine
	id      [2]identity.NodeID
	addrs   [2][2]netip.AddrPort // side, family
	delay   [2]time.Duration     // of a family, one way
	cut     [2]bool              // of a family
	post    []letter
	probes  int
	changes [2]int
	heard   [2]time.Duration
	path    [2]peering.Route
}

type letter struct {
	at     time.Duration
	to     int
	family int
	answer bool
	token  uint64
}

func newTwo(delay4, delay6 time.Duration) *two {
	p := &two{now: time.Second, delay: [2]time.Duration{delay4, delay6}}
	var tokens uint64
	for i := range 2 {
		p.id[i] = identity.NodeID{byte(i + 1)}
		p.addrs[i] = [2]netip.AddrPort{
			netip.MustParseAddrPort(fmt.Sprintf("192.0.2.%d:51821", i+1)),
			netip.MustParseAddrPort(fmt.Sprintf("[2001:db8::%d]:51821", i+1)),
		}
		p.side[i] = peering.New(func() uint64 { tokens++; return tokens })
	}
	for i := range 2 {
		p.side[i].SetCandidates(p.id[1-i], p.addrs[1-i][:])
	}
	return p
}

func (p *two) do(side int, effects []peering.Effect) {
	for _, e := range effects {
		family := 0
		if e.Route.Remote.Addr().Is6() {
			family = 1
		}
		switch e.Kind {
		case peering.SendRequest, peering.SendAnswer:
			p.probes++
			if !p.cut[family] {
				p.post = append(p.post, letter{p.now + p.delay[family], 1 - side, family, e.Kind == peering.SendAnswer, e.Token})
			}
		case peering.PathUp, peering.PathMoved, peering.PathDown:
			p.changes[side]++
			p.path[side] = e.Route
		}
	}
}

// run lets time pass. Both sides send data all the time, which is heard as long
// as the sender's path is not cut.
func (p *two) run(d time.Duration) {
	for end := p.now + d; p.now < end; p.now += ms {
		post := p.post
		p.post = nil
		for _, l := range post {
			if l.at > p.now {
				p.post = append(p.post, l)
				continue
			}
			from := peering.Route{Remote: p.addrs[1-l.to][l.family]}
			if l.answer {
				p.do(l.to, p.side[l.to].Answer(p.now, p.id[1-l.to], from, l.token))
			} else {
				p.do(l.to, p.side[l.to].Request(p.now, p.id[1-l.to], from, l.token, false))
			}
		}
		for i := range 2 {
			other := p.path[1-i]
			if !other.IsZero() && !p.cut[map[bool]int{false: 0, true: 1}[other.Remote.Addr().Is6()]] {
				p.heard[i] = p.now
			}
			effects, _ := p.side[i].Tick(p.now, func(identity.NodeID) (time.Duration, time.Duration) { return p.now, p.heard[i] })
			p.do(i, effects)
		}
	}
}

// Two members with two addresses each must not answer each other's probes with
// more probes, whatever the delays and losses.
func TestTwoAddressesDoNotStorm(t *testing.T) {
	for _, delays := range [][2]time.Duration{{ms, ms}, {10 * ms, 25 * ms}, {25 * ms, 10 * ms}, {100 * ms, 150 * ms}} {
		for _, inUse := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v in use %v", delays, inUse), func(t *testing.T) {
				p := newTwo(delays[0], delays[1])
				for i := range 2 {
					p.do(i, p.side[i].Want(p.now, p.id[1-i]))
					p.do(i, p.side[i].SetInUse(p.now, p.id[1-i], inUse))
				}
				for range 5 {
					p.run(5 * time.Second)
					p.cut = [2]bool{true, true} // a loss of 800 ms
					p.run(800 * ms)
					p.cut = [2]bool{}
				}
				p.run(2 * time.Second)
				before, changed := p.probes, p.changes
				p.run(10 * time.Second)
				if n := p.probes - before; n > 10*20 {
					t.Errorf("%d probes in 10 s of peace", n)
				}
				if p.changes != changed {
					t.Errorf("paths changed in peace: %v, then %v", changed, p.changes)
				}
				if p.probes > 35*60 {
					t.Errorf("%d probes in 39 s", p.probes)
				}
			})
		}
	}
}

// One family dies for good: both sides end on the other.
func TestOtherFamilyTakesOver(t *testing.T) {
	for family := range 2 {
		p := newTwo(10*ms, 15*ms)
		for i := range 2 {
			p.do(i, p.side[i].SetInUse(p.now, p.id[1-i], true))
		}
		p.run(2 * time.Second)
		p.cut[family] = true
		p.run(3 * time.Second)
		for i := range 2 {
			if is6 := p.path[i].Remote.Addr().Is6(); p.path[i].IsZero() || is6 != (family == 0) {
				t.Errorf("family %d cut: side %d is on %v", family, i, p.path[i])
			}
		}
	}
}
