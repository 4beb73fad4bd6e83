package lab

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Cut is a way in which the network between a host and all others breaks.
type Cut uint8

const (
	// Drop lets the router drop in silence what comes from the host and what is
	// for it, as when a link beyond the router fails.
	Drop Cut = iota
	// Unplug takes down the router's end of the host's cable: the host's
	// interface has no carrier.
	Unplug
)

// String returns what was done, in one word.
func (c Cut) String() string {
	if c == Unplug {
		return "unplugged"
	}
	return "dropped"
}

// CutOff breaks the network between the host and all others for the time given,
// mends it and returns when the mending began. It mends too if the test ends
// meanwhile. A cut is some milliseconds longer than asked for: ip or nft has to
// start for its end.
func (n *Network) CutOff(tb testing.TB, host *Host, way Cut, length time.Duration) (mending time.Time) {
	tb.Helper()
	mend := n.cut(tb, host, way)
	Pass(tb, length)
	mending = time.Now()
	mend()
	return mending
}

// Pass lets the time pass, or the test end. It is for times that are a test's
// subject; who waits for something to happen uses WaitFor.
func Pass(tb testing.TB, length time.Duration) {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-tb.Context().Done():
	}
}

func (n *Network) cut(tb testing.TB, host *Host, way Cut) (mend func()) {
	tb.Helper()
	if way == Unplug {
		cable := "to-" + host.Name
		ip(tb, "-n", n.router, "link", "set", cable, "down")
		return func() { ip(tb, "-n", n.router, "link", "set", cable, "up") }
	}
	_, mend = n.filter(tb, fmt.Sprintf("ip saddr %s drop", host.Addr), fmt.Sprintf("ip daddr %s drop", host.Addr))
	return mend
}

// BlackHole makes the router drop, without a word to anybody, the packets to a
// host that are longer than mtu bytes: a narrow link beyond a firewall that
// drops ICMP.
func (n *Network) BlackHole(tb testing.TB, host *Host, mtu int) {
	tb.Helper()
	n.filter(tb, fmt.Sprintf("oifname \"to-%s\" meta length > %d drop", host.Name, mtu))
}

// Lose makes the router lose one in so many of the packets that it forwards, at
// random. lost says how many it has lost until now.
func (n *Network) Lose(tb testing.TB, one int) (lost func() int) {
	tb.Helper()
	table, _ := n.filter(tb, fmt.Sprintf("numgen random mod %d 0 counter drop", one))
	return func() (packets int) {
		tb.Helper()
		out, err := exec.Command("ip", "netns", "exec", n.router, "nft", "list table "+table).Output()
		_, after, found := strings.Cut(string(out), "counter packets ")
		if _, scanErr := fmt.Sscan(after, &packets); err != nil || !found || scanErr != nil {
			tb.Fatalf("count the lost packets: %v, %v: %s", err, scanErr, out)
		}
		return packets
	}
}
