package kubespan

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

var kernelHasWireGuard = flag.Bool("kernel", false, "run TestKernelWireGuard, which needs WireGuard in the kernel")

// addKubeSpan makes a kubespan device as Talos does, with one peer.
func (n *namespace) addKubeSpan(own keys, ula string, peer wgtypes.PeerConfig) {
	n.t.Helper()
	if err := n.try("link add kubespan type wireguard"); err != nil {
		n.t.Fatalf("make a kubespan device: %v", err)
	}
	port, mark := 51820, 0x20
	if err := n.do(func() error {
		c, err := wgctrl.New()
		if err != nil {
			return err
		}
		defer c.Close()
		return c.ConfigureDevice("kubespan", wgtypes.Config{PrivateKey: &own.private, ListenPort: &port, FirewallMark: &mark, Peers: []wgtypes.PeerConfig{peer}})
	}); err != nil {
		n.t.Fatal(err)
	}
	n.ip("link set kubespan mtu 1280 up")
	n.ip("-6 address add " + ula + "/64 dev kubespan")
}

func peerConfig(public, psk wgtypes.Key, endpoint string, allowed ...string) wgtypes.PeerConfig {
	every := time.Second
	c := wgtypes.PeerConfig{PublicKey: public, PresharedKey: &psk, PersistentKeepaliveInterval: &every,
		Endpoint: net.UDPAddrFromAddrPort(netip.MustParseAddrPort(endpoint))}
	for _, a := range allowed {
		_, network, err := net.ParseCIDR(a)
		if err != nil {
			panic(err)
		}
		c.AllowedIPs = append(c.AllowedIPs, *network)
	}
	return c
}

// TestKernelWireGuard reads what a Talos node has: a WireGuard device of the
// kernel, with a peer that lives and stops to.
func TestKernelWireGuard(t *testing.T) {
	if !*kernelHasWireGuard {
		return // tests/vm_kubespan_test.go runs it in a guest whose kernel has it
	}
	here, there := newNamespace(t), newNamespace(t)
	us, peer, psk := newKeys(t), newKeys(t), newKeys(t).private
	here.addKubeSpan(us, ourULA, peerConfig(peer.public, psk, "192.0.2.7:51820", "192.0.2.7/32", "2001:db8::7/128", "10.244.3.0/24", peerULA+"/128"))
	there.addKubeSpan(peer, peerULA, peerConfig(us.public, psk, "192.0.2.1:51820", "192.0.2.1/32", ourULA+"/128"))
	here.ip(fmt.Sprintf("link add lan type veth peer name lan netns /proc/%d/fd/%d", os.Getpid(), there.file.Fd()))
	here.ip("address add 192.0.2.1/24 dev lan")
	there.ip("address add 192.0.2.7/24 dev lan")
	here.ip("link set lan up")
	there.ip("link set lan up")

	nobody, r := New(Config{Interval: 50 * time.Millisecond}), New(Config{Interval: 50 * time.Millisecond})
	here.start(nobody)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- here.do(func() error { return r.Run(ctx) }) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()

	s := await(t, r, "a live peer", func(s State) bool { return len(s.Peers) == 1 && s.Peers[0].Alive == Alive })
	p := s.Peers[0]
	if !s.Present || !s.Privileged || s.Why != "" || s.MTU != 1280 || s.Address.String() != ourULA || wgtypes.Key(p.PublicKey) != peer.public ||
		p.Address.String() != peerULA || p.Endpoint.String() != "192.0.2.7:51820" || p.RxBytes == 0 || p.TxBytes == 0 {
		t.Errorf("%+v", s)
	}
	if got := fmt.Sprint(p.NodeAddresses); got != "[10.244.3.0/24 192.0.2.7/32 2001:db8::7/128]" {
		t.Errorf("node addresses %s", got)
	}
	wantNoKeysIn(t, s, us.private, psk)

	s = await(t, nobody, "without privileges", func(s State) bool { return s.Present })
	if s.Address.String() != ourULA || s.Privileged || s.Peers != nil || !strings.Contains(s.Why, "NET_ADMIN") {
		t.Errorf("without privileges: %+v", s)
	}
	// The peer is removed and the link taken away.
	there.ip("link del kubespan")
	here.ip("link set kubespan down")
	await(t, r, "down", func(s State) bool { return !s.Present && strings.Contains(s.Why, "not up") })
	here.ip("link del kubespan")
	await(t, r, "removed", func(s State) bool { return s.Link == 0 })
	if _, err := new(wireGuard).peers("kubespan-none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no device: %v", err)
	}
}
