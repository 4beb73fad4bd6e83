package memnet_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/mesh/internal/memnet"
)

// TestOverlay sends between two endpoints in an overlay and one outside.
func TestOverlay(t *testing.T) {
	var plain, inner [3]netip.AddrPort
	for i := range plain {
		plain[i] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), 7)
		inner[i] = netip.AddrPortFrom(netip.AddrFrom16([16]byte{0xfd, 7: 2, 15: byte(i + 1)}), 7)
	}
	const overlay, outside = memnet.OverlayLink, 0
	type seen struct {
		from  netip.AddrPort
		local netip.Addr
		link  int
	}
	for _, c := range []struct {
		name         string
		from         int
		to           netip.AddrPort
		mark, dead   bool
		left         bool // the sender is not in it
		want         seen // zero: lost
		at           int  // endpoint that gets it
		fromOverlay  error
		unprivileged bool
	}{
		{name: "inside", from: 0, to: inner[1], want: seen{inner[0], inner[1].Addr(), overlay}, at: 1},
		{name: "inside, marked", from: 0, to: inner[1], mark: true, want: seen{inner[0], inner[1].Addr(), overlay}, at: 1},
		{name: "inside, dead", from: 0, to: inner[1], dead: true},
		{name: "to nobody", from: 0, to: inner[2]},
		{name: "forced", from: 0, to: plain[1], want: seen{plain[0], plain[1].Addr(), overlay}, at: 1, fromOverlay: syscall.EADDRNOTAVAIL},
		{name: "forced, dead", from: 0, to: plain[1], dead: true, fromOverlay: syscall.EADDRNOTAVAIL},
		{name: "marked, dead", from: 0, to: plain[1], mark: true, dead: true, want: seen{plain[0], plain[1].Addr(), outside}, at: 1, fromOverlay: syscall.EADDRNOTAVAIL},
		{name: "may not mark, dead", from: 0, to: plain[1], mark: true, unprivileged: true, dead: true, fromOverlay: syscall.EADDRNOTAVAIL},
		{name: "to outside", from: 0, to: plain[2], dead: true, want: seen{plain[0], plain[2].Addr(), outside}, at: 2, fromOverlay: syscall.EADDRNOTAVAIL},
		{name: "from outside", from: 2, to: plain[1], dead: true, want: seen{plain[2], plain[1].Addr(), outside}, at: 1, fromOverlay: syscall.EADDRNOTAVAIL},
		{name: "from outside to inside", from: 2, to: inner[1], fromOverlay: syscall.EADDRNOTAVAIL},
		{name: "has left", from: 0, to: inner[1], left: true, fromOverlay: syscall.EADDRNOTAVAIL},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := memnet.New(memnet.Config{})
				var ends [3]*memnet.UDP
				for i := range ends {
					ends[i] = hub.UDP(plain[i])
				}
				ends[0].SetOverlay(inner[0].Addr())
				ends[1].SetOverlay(inner[1].Addr())
				if c.left {
					ends[0].SetOverlay(netip.Addr{})
				}
				if c.dead {
					hub.Cut([]net.Addr{memnet.UDPAddr(inner[0])}, []net.Addr{memnet.UDPAddr(inner[1])})
				}
				if c.unprivileged {
					ends[c.from].Unprivileged()
				}
				if c.mark {
					if err := ends[c.from].SetMark(0x20); errors.Is(err, os.ErrPermission) != c.unprivileged {
						t.Errorf("mark: %v", err)
					}
				}
				if err := ends[c.from].WriteTo([]byte("x"), c.to, netip.Addr{}); err != nil {
					t.Fatal(err)
				}
				var got seen
				var err error
				buf := make([]byte, 8)
				ends[c.at].SetReadDeadline(time.Now().Add(time.Second))
				_, got.from, got.local, got.link, err = ends[c.at].ReadFrom(buf)
				if (err != nil) != (c.want == seen{}) || got != c.want {
					t.Errorf("arrived %v, %v; want %v", got, err, c.want)
				}
				if err := ends[c.from].WriteFrom([]byte("x"), c.to, inner[0].Addr()); !errors.Is(err, c.fromOverlay) {
					t.Errorf("sent from the overlay's address: %v, want %v", err, c.fromOverlay)
				}
			})
		})
	}
}
