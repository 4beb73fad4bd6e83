package bench

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/serialspan/serialspan/tests/internal/lab"
)

// chain is a way from an application's tty to a device.
type chain struct {
	kind   *chainKind
	name   string // of the samples: the kind's, and @REVISION in comparisons
	app    *os.File
	device *device
	pids   func() []int // of all processes in between
}

// chainKind is a kind of chain: its name, what it is for people, and how it is
// made. open returns an empty reason, or why the chain is not to be had.
type chainKind struct {
	name, title string
	ours        bool // it runs program, in the revision to be measured
	// link is the kind of link that program is built to take for WireGuard's if
	// it is named kubespan; "": only the kernel's own.
	link string
	// part is the part of the throughput loads that it gets, as a divisor; 0:
	// all of them.
	part int
	open func(tb testing.TB, program string) (c *chain, reason string)
}

// Names of the chains, for flags and the file.
const (
	chainPTY       = "pty"
	chainInstalled = "installed"
	chainPlain     = "plain"
	chainWireGuard = "wireguard"
	chainTunnel    = "tunnel"
	chainRelay     = "relay"
	chainKubeSpan  = "kubespan"
	chainTrusted   = "trusted"
)

// chainKinds are all chains. The order is that of the tables.
var chainKinds = []chainKind{
	{name: chainPTY, title: "the PTY alone", open: openPTY},
	{name: chainInstalled, title: "ser2net as installed + socat, plain TCP", open: openInstalled},
	{name: chainPlain, title: "ser2net (chardelay off) + socat, plain TCP", open: openPlain},
	{name: chainWireGuard, title: "the same through wireguard-go (TUN)", open: openWireGuard},
	{name: chainTunnel, title: "serialspan, own tunnel", ours: true, open: openTunnel},
	{name: chainRelay, title: "serialspan, relayed by a third", ours: true, part: 8, open: openRelay},
	{name: chainKubeSpan, title: "serialspan on a KubeSpan of wireguard-go", ours: true, link: "tun", open: openKubeSpan},
	{name: chainTrusted, title: "serialspan on a trusted link, no tunnel", ours: true, link: "veth", open: openTrusted},
}

// chooseChains returns the chains of a comma-separated list; "" are all.
func chooseChains(list string) ([]chainKind, error) {
	if list == "" {
		return chainKinds, nil
	}
	wanted := strings.Split(list, ",")
	var chosen []chainKind
	for _, kind := range chainKinds {
		if i := slices.Index(wanted, kind.name); i >= 0 {
			chosen, wanted = append(chosen, kind), slices.Delete(wanted, i, i+1)
		}
	}
	if len(wanted) > 0 {
		var names []string
		for _, kind := range chainKinds {
			names = append(names, kind.name)
		}
		return nil, fmt.Errorf("choose chains: there is no %q; there are %s", wanted[0], strings.Join(names, ","))
	}
	return chosen, nil
}

func openPTY(tb testing.TB, _ string) (*chain, string) {
	d := newDevice(tb)
	return &chain{device: d, app: lab.OpenTTY(tb, d.Path), pids: func() []int { return nil }}, ""
}

// hosts makes two hosts that reach each other through a router.
func hosts(tb testing.TB, more ...string) *lab.Network {
	return lab.NewNetwork(tb, append([]string{"edge", "consumer"}, more...)...)
}

func TestChooseChains(t *testing.T) {
	for list, want := range map[string]string{
		"":           "pty installed plain wireguard tunnel relay kubespan trusted",
		"tunnel,pty": "pty tunnel",
		"no":         "error",
		"pty,pty":    "error",
	} {
		got := "error"
		if kinds, err := chooseChains(list); err == nil {
			var names []string
			for _, kind := range kinds {
				names = append(names, kind.name)
			}
			got = strings.Join(names, " ")
		}
		if got != want {
			t.Errorf("%q chooses %s, want %s", list, got, want)
		}
	}
}
