package kubespan_test

import (
	"net/netip"
	"testing"

	"go.uber.org/goleak"

	"github.com/serialspan/serialspan/mesh/kubespan"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestInForcedSet(t *testing.T) {
	s := kubespan.State{Present: true, Privileged: true, Peers: []kubespan.Peer{
		{NodeAddresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.7/32"), netip.MustParsePrefix("2001:db8::7/128")}},
		{Alive: kubespan.Silent, NodeAddresses: []netip.Prefix{netip.MustParsePrefix("10.244.3.0/24")}},
	}}
	for addr, want := range map[string]bool{
		"192.0.2.7": true, "::ffff:192.0.2.7": true, "192.0.2.8": false,
		"2001:db8::7": true, "2001:db8::8": false, "2001:db8::7%eth0": true,
		"10.244.3.250": true, "10.244.4.1": false,
		"fd7f:175a:b97c:5602:2c1a:b6ff:fe53:8169": false,
	} {
		if got := s.InForcedSet(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s forced: %v, want %v", addr, got, want)
		}
	}
	if s.InForcedSet(netip.Addr{}) || (kubespan.State{}).InForcedSet(netip.MustParseAddr("192.0.2.7")) {
		t.Error("an invalid address, or one without peers, is forced")
	}
}

func TestNewStartsNothing(t *testing.T) {
	r := kubespan.New(kubespan.Config{})
	if s := r.State(); s.Present || s.Privileged || s.Why == "" {
		t.Errorf("before Run: %+v", s)
	}
	select {
	case <-r.Changes():
		t.Error("a change before Run")
	default:
	}
}
