package kubespan

import (
	"cmp"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/serialspan/serialspan/mesh/identity"
)

// errAnswer stands for whatever the library could not make sense of. Its own
// text is not kept: it may quote the answer, which holds keys.
var errAnswer = errors.New("the answer makes no sense")

// sample is one peer as WireGuard tells it, without the pre-shared key.
type sample struct {
	key       identity.WireGuardKey
	endpoint  netip.AddrPort
	allowed   []netip.Prefix
	handshake int64 // wall clock, ns; 0: never
	rx, tx    uint64
}

// wireGuard reads peers. It opens its socket at the first use.
type wireGuard struct {
	client *wgctrl.Client
}

// peers reads the peers of a device. The error is a syscall.Errno, os.ErrNotExist
// or errAnswer.
func (w *wireGuard) peers(name string) ([]sample, error) {
	if w.client == nil {
		client, err := wgctrl.New()
		if err != nil {
			return nil, sealed(err)
		}
		w.client = client
	}
	device, err := w.client.Device(name)
	if err != nil {
		w.close()
		return nil, sealed(err)
	}
	return samplesOf(device), nil
}

func (w *wireGuard) close() {
	if w.client != nil {
		_ = w.client.Close() // a netlink socket that is only read from
		w.client = nil
	}
}

// sealed keeps of an error what can hold no part of an answer.
func sealed(err error) error {
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
		return errno
	case errors.Is(err, os.ErrNotExist):
		return os.ErrNotExist
	}
	return errAnswer
}

// samplesOf takes from a device what we may know, and zeroes the keys in it.
// The library's receive buffers are garbage by now and out of our reach.
func samplesOf(device *wgtypes.Device) []sample {
	clear(device.PrivateKey[:])
	samples := make([]sample, len(device.Peers))
	for i := range device.Peers {
		p := &device.Peers[i] // no copy: it holds the pre-shared key
		clear(p.PresharedKey[:])
		s := &samples[i]
		s.key = identity.WireGuardKey(p.PublicKey)
		s.rx, s.tx = uint64(p.ReceiveBytes), uint64(p.TransmitBytes)
		s.handshake = stamp(p.LastHandshakeTime)
		if p.Endpoint != nil {
			e := p.Endpoint.AddrPort()
			s.endpoint = netip.AddrPortFrom(e.Addr().Unmap(), e.Port())
		}
		for _, n := range p.AllowedIPs {
			if prefix, ok := prefixOf(n); ok {
				s.allowed = append(s.allowed, prefix)
			}
		}
	}
	return samples
}

// stamp makes a handshake's time comparable. No age is ever computed from it.
func stamp(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func prefixOf(n net.IPNet) (netip.Prefix, bool) {
	addr, ok := netip.AddrFromSlice(n.IP)
	ones, bits := n.Mask.Size()
	if !ok || bits != addr.BitLen() {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(addr, ones).Masked(), true
}

// peerOf turns a sample into a Peer; ours is the KubeSpan's prefix.
func peerOf(s sample, alive Liveness, ours netip.Prefix) Peer {
	p := Peer{PublicKey: s.key, Endpoint: s.endpoint, Alive: alive, RxBytes: s.rx, TxBytes: s.tx}
	for _, a := range s.allowed {
		switch {
		case !a.IsSingleIP() || !IsULA(a.Addr()):
			p.NodeAddresses = append(p.NodeAddresses, a)
		case !p.Address.IsValid() && ours.Contains(a.Addr()):
			p.Address = a.Addr()
		}
	}
	slices.SortFunc(p.NodeAddresses, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	return p
}
