package beacon

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// namespace is a network namespace of its own, which ends with the test.
type namespace struct {
	t    *testing.T
	file *os.File
}

func newNamespace(t *testing.T) *namespace {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for a network namespace")
	}
	n := &namespace{t: t}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			n.file, err = os.Open("/proc/thread-self/ns/net")
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Skipf("needs network namespaces: %v", err)
	}
	t.Cleanup(func() { n.file.Close() })
	return n
}

// do runs f in the namespace and returns when it has.
func (n *namespace) do(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// ip runs ip(8) in the namespace.
func (n *namespace) ip(args string) {
	n.t.Helper()
	if err := n.do(func() error {
		out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("ip %s: %v: %s", args, err, out)
		}
		return nil
	}); err != nil {
		n.t.Fatal(err)
	}
}

// cable joins two namespaces by a veth, without addresses.
func cable(t *testing.T, a, b *namespace) {
	t.Helper()
	a.ip(fmt.Sprintf("link add lan type veth peer name lan netns /proc/%d/fd/%d", os.Getpid(), b.file.Fd()))
	a.ip("link set lan up")
	b.ip("link set lan up")
}

// found runs a Beacon in the namespace until the test ends; the channel gets
// everybody that it is told of.
func (n *namespace) found(cfg Config) (*Beacon, <-chan netip.AddrPort) {
	n.t.Helper()
	told := make(chan netip.AddrPort, 100)
	cfg.OnPeer = func(p netip.AddrPort) { told <- p }
	cfg.Keys = func() [][32]byte { return [][32]byte{{1}} }
	b, err := New(cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.do(func() error { return b.Run(ctx) }) }()
	n.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			n.t.Errorf("Run: %v", err)
		}
	})
	return b, told
}

func await(t *testing.T, b *Beacon, told <-chan netip.AddrPort, want string) {
	t.Helper()
	timeout := time.After(15 * time.Second)
	var other []string
	for {
		select {
		case p := <-told:
			if p.String() == want {
				return
			}
			other = append(other, p.String())
		case <-timeout:
			t.Fatalf("not told of %s but of %v; %+v", want, other, b.Stats())
		}
	}
}

// TestTwoHosts: over a real link, each family alone and both.
func TestTwoHosts(t *testing.T) {
	for name, row := range map[string]struct{ a, b []string }{
		"IPv4": {[]string{"192.0.2.1/24"}, []string{"192.0.2.2/24"}},
		"IPv6": {[]string{"2001:db8::1/64"}, []string{"2001:db8::2/64"}},
		"both": {[]string{"192.0.2.1/24", "2001:db8::1/64"}, []string{"192.0.2.2/24", "2001:db8::2/64"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := newNamespace(t), newNamespace(t)
			cable(t, a, b)
			for _, addr := range row.a {
				a.ip("address add " + addr + " dev lan")
			}
			for _, addr := range row.b {
				b.ip("address add " + addr + " dev lan")
			}
			beaconA, toldA := a.found(Config{Port: 51821})
			beaconB, toldB := b.found(Config{Port: 7000})
			if strings.Contains(row.a[0], ".") {
				await(t, beaconA, toldA, "192.0.2.2:7000")
				await(t, beaconB, toldB, "192.0.2.1:51821")
			}
			if strings.Contains(row.a[len(row.a)-1], ":") {
				await(t, beaconA, toldA, "["+b.linkLocal()+"%lan]:7000")
				await(t, beaconB, toldB, "["+a.linkLocal()+"%lan]:51821")
			}
			for _, b := range []*Beacon{beaconA, beaconB} {
				if s := b.Stats(); s.Err != nil || !slices.Equal(s.Links, []string{"lan"}) || s.Foreign != 0 {
					t.Errorf("%+v", s)
				}
			}
		})
	}
}

// linkLocal returns the fe80 address of lan.
func (n *namespace) linkLocal() (found string) {
	n.t.Helper()
	if err := n.do(func() error {
		i, err := net.InterfaceByName("lan")
		if err != nil {
			return err
		}
		addrs, err := i.Addrs()
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() {
				found = p.Addr().String()
			}
		}
		return err
	}); err != nil {
		n.t.Fatal(err)
	}
	return found
}

// TestTwoAgentsOfOneHost: they share the port and hear each other, and
// themselves not.
func TestTwoAgentsOfOneHost(t *testing.T) {
	a, b := newNamespace(t), newNamespace(t)
	cable(t, a, b)
	a.ip("address add 192.0.2.1/24 dev lan")
	first, toldFirst := a.found(Config{Port: 51821})
	second, toldSecond := a.found(Config{Port: 7000})
	await(t, first, toldFirst, "192.0.2.1:7000")
	await(t, second, toldSecond, "192.0.2.1:51821")
}

// TestPortIsTaken: the socket does not hurt another program's, and says what is
// wrong.
func TestPortIsTaken(t *testing.T) {
	a, b := newNamespace(t), newNamespace(t)
	cable(t, a, b)
	a.ip("address add 192.0.2.1/24 dev lan")
	var other net.PacketConn
	if err := a.do(func() (err error) {
		other, err = net.ListenPacket("udp", fmt.Sprintf(":%d", Port))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	s := &sockets{}
	if err := a.do(func() error { return s.open(func(received) {}) }); err == nil || !strings.Contains(err.Error(), "51822") {
		t.Errorf("open beside another program: %v", err)
	}
	s.close()
}

// TestOnlyGroupsAreHeard: what is sent to the host's own address is not
// delivered, and gets no answer.
func TestOnlyGroupsAreHeard(t *testing.T) {
	a, b := newNamespace(t), newNamespace(t)
	cable(t, a, b)
	a.ip("address add 192.0.2.1/24 dev lan")
	a.ip("address add 2001:db8::1/64 dev lan nodad")
	b.ip("address add 192.0.2.2/24 dev lan")
	b.ip("address add 2001:db8::2/64 dev lan nodad")
	beacon, told := a.found(Config{Port: 51821})
	datagram := func(start byte) []byte {
		d, err := Seal([32]byte{1}, Hello{Port: 9, Start: Start{start}})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	s := &sockets{}
	if err := b.do(func() error {
		if err := s.open(func(received) {}); err != nil {
			return err
		}
		for _, to := range []string{"192.0.2.1", "2001:db8::1"} {
			addr := netip.AddrPortFrom(netip.MustParseAddr(to), Port)
			conn := s.v4
			if addr.Addr().Is6() {
				conn = s.v6
			}
			if _, err := conn.WriteToUDPAddrPort(datagram(1), addr); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	defer s.close()
	// Through the group it is heard, once the other side has joined it.
	l := link{index: b.index("lan"), name: "lan", prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.2/24")}}
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	timeout := time.After(10 * time.Second)
	for {
		if err := s.send(l, datagram(2)); err != nil {
			t.Fatal(err)
		}
		select {
		case p := <-told:
			if p.String() != "192.0.2.2:9" {
				t.Errorf("told of %v", p)
			}
			if h := beacon.Stats(); h.Heard == 0 || h.Told != 1 {
				t.Errorf("%+v: something sent to a host's own address was heard", h)
			}
			return
		case <-ticker.C:
		case <-timeout:
			t.Fatalf("not heard: %+v", beacon.Stats())
		}
	}
}

func (n *namespace) index(name string) (index int) {
	n.t.Helper()
	if err := n.do(func() error {
		i, err := net.InterfaceByName(name)
		if err == nil {
			index = i.Index
		}
		return err
	}); err != nil {
		n.t.Fatal(err)
	}
	return index
}

// TestLinksLeftOut: of a host with all kinds of links only one is of use.
func TestLinksLeftOut(t *testing.T) {
	a, b := newNamespace(t), newNamespace(t)
	cable(t, a, b)
	a.ip("link set lo up")
	a.ip("address add 192.0.2.1/24 dev lan")
	a.ip("link add pod type veth peer name inside") // with a link-local address only
	a.ip("link set pod up")
	a.ip("link set inside up")
	a.ip("link add idle type veth peer name nobody")
	a.ip("address add 198.51.100.1/24 dev idle")
	a.ip("tuntap add dev tunnel mode tun")
	a.ip("address add 203.0.113.1/24 dev tunnel")
	a.ip("link set tunnel up")
	var links []link
	ticker := time.NewTicker(10 * time.Millisecond) // the carrier comes a moment after the link is up
	defer ticker.Stop()
	for timeout := time.After(10 * time.Second); ; {
		if err := a.do(func() (err error) { links, err = new(sockets).links(); return err }); err != nil {
			t.Fatal(err)
		}
		if len(links) > 0 && links[0].v6 {
			break
		}
		select {
		case <-ticker.C:
		case <-timeout:
			t.Fatalf("links %+v", links)
		}
	}
	if l := links[0]; len(links) != 1 || l.name != "lan" || len(l.prefixes) != 1 || l.prefixes[0].String() != "192.0.2.1/24" || l.index != a.index("lan") {
		t.Errorf("links %+v, want only lan", links)
	}
}

// FuzzAddressesOf: no panic; no link without an address.
func FuzzAddressesOf(f *testing.F) {
	if table, err := syscall.NetlinkRIB(unix.RTM_GETADDR, unix.AF_UNSPEC); err == nil {
		f.Add(table)
	}
	f.Fuzz(func(t *testing.T, table []byte) {
		links, err := addressesOf(table)
		if err != nil && links != nil {
			t.Fatal("links beside an error")
		}
		for index, l := range links {
			if l.index != index {
				t.Fatalf("link %+v at %d", l, index)
			}
			for _, p := range l.prefixes {
				if !p.IsValid() || !p.Addr().Is4() {
					t.Fatalf("prefix %v", p)
				}
			}
		}
	})
}

// FuzzArrival: no panic, and an address only where there is one.
func FuzzArrival(f *testing.F) {
	f.Add(unix.PktInfo4(&unix.Inet4Pktinfo{Ifindex: 2, Addr: group4.As4()}))
	f.Add(unix.PktInfo6(&unix.Inet6Pktinfo{Ifindex: 2, Addr: group6.As16()}))
	f.Fuzz(func(t *testing.T, oob []byte) {
		if index, to := arrival(oob); to.IsValid() != (len(oob) >= unix.CmsgLen(12) && to.IsValid()) || index != 0 && !to.IsValid() {
			t.Fatalf("%x: %d, %v", oob, index, to)
		}
	})
}
