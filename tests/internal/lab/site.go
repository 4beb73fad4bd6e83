package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// NAT is how a site's router translates addresses.
type NAT string

const (
	// Cone keeps the port of a socket whoever it speaks to: two hosts behind
	// such routers can reach each other when both send at the same time.
	Cone NAT = "masquerade"
	// Symmetric takes another port for each destination: they cannot.
	Symmetric NAT = "masquerade fully-random"
)

// AddSite adds a host behind a router of its own that translates addresses and
// drops what nobody asked for. It drops in silence: an ICMP answer would confirm
// the connection tracking entry and so spoil the next try from inside.
func (n *Network) AddSite(tb testing.TB, name string, nat NAT) *Host {
	tb.Helper()
	NeedTools(tb, "nft")
	n.sites++
	number := byte(100 + n.sites)
	prefix := fmt.Sprintf("%s%s-", n.prefix, name)
	site := prefix + "site"
	h := &Host{Name: name, Addr: netip.AddrFrom4([4]byte{192, 168, number, 2}), tb: tb, namespace: prefix + "host", site: site}
	addNamespace(tb, site)
	addNamespace(tb, h.namespace)
	ip(tb, "netns", "exec", site, "sysctl", "-qw", "net.ipv4.ip_forward=1")

	outside := fmt.Sprintf("10.92.%d", number)
	h.Outside = netip.MustParseAddr(outside + ".2")
	ip(tb, "-n", site, "link", "add", "wan", "type", "veth", "peer", "name", "to-"+name, "netns", n.router)
	ip(tb, "-n", n.router, "address", "add", outside+".1/24", "dev", "to-"+name)
	ip(tb, "-n", n.router, "link", "set", "to-"+name, "up")
	ip(tb, "-n", site, "address", "add", outside+".2/24", "dev", "wan")
	ip(tb, "-n", site, "link", "set", "wan", "up")
	ip(tb, "-n", site, "route", "add", "default", "via", outside+".1")

	inside := fmt.Sprintf("192.168.%d", number)
	ip(tb, "-n", h.namespace, "link", "add", "eth0", "type", "veth", "peer", "name", "lan", "netns", site)
	ip(tb, "-n", site, "address", "add", inside+".1/24", "dev", "lan")
	ip(tb, "-n", site, "link", "set", "lan", "up")
	ip(tb, "-n", h.namespace, "address", "add", h.Addr.String()+"/24", "dev", "eth0")
	ip(tb, "-n", h.namespace, "link", "set", "eth0", "up")
	ip(tb, "-n", h.namespace, "route", "add", "default", "via", inside+".1")

	nft(tb, site, `
table ip site {
	chain out {
		type nat hook postrouting priority srcnat
		oifname "wan" `+string(nat)+`
	}
	chain through {
		type filter hook forward priority filter
		iifname "wan" ct state new drop
	}
	chain in {
		type filter hook input priority filter
		iifname "wan" drop
	}
}
`)
	n.hosts[name] = h
	return h
}

// ForgetUDP makes the router of a host that AddSite made forget a UDP flow after
// so long without a packet, in whole seconds; Linux's own times are 30 s, and 120 s
// for a flow that both sides have used.
func (h *Host) ForgetUDP(tb testing.TB, after time.Duration) {
	tb.Helper()
	for _, key := range []string{"nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"} {
		ip(tb, "netns", "exec", h.site, "sysctl", "-qw", fmt.Sprintf("net.netfilter.%s=%d", key, int(after.Seconds())))
	}
}

// Remembers reports whether the router of a host that AddSite made knows a UDP
// flow between the host and the address.
func (h *Host) Remembers(tb testing.TB, to netip.Addr) bool {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	flows, err := exec.CommandContext(ctx, "ip", "netns", "exec", h.site, "cat", "/proc/net/nf_conntrack").Output()
	if err != nil {
		tb.Fatalf("read flows of the router of %s: %v", h.Name, err)
	}
	for line := range strings.Lines(string(flows)) {
		if strings.Contains(line, " udp ") && strings.Contains(line, "="+to.String()+" ") {
			return true
		}
	}
	return false
}

// Narrow sets the MTU of the host's link and, for a host that AddSite made, of
// its router's uplink, both ends, in bytes. 0 leaves one as it is.
func (n *Network) Narrow(tb testing.TB, name string, link, uplink int) {
	tb.Helper()
	h := n.Host(name)
	if link > 0 {
		ip(tb, "-n", h.namespace, "link", "set", "eth0", "mtu", fmt.Sprint(link))
		if h.site != "" {
			ip(tb, "-n", h.site, "link", "set", "lan", "mtu", fmt.Sprint(link))
		}
	}
	if uplink > 0 {
		ip(tb, "-n", h.site, "link", "set", "wan", "mtu", fmt.Sprint(uplink))
		ip(tb, "-n", n.router, "link", "set", "to-"+name, "mtu", fmt.Sprint(uplink))
	}
}

// Block makes the router drop every packet between two hosts' addresses as it
// sees them, or lets them pass again.
func (n *Network) Block(tb testing.TB, a, b netip.Addr) (unblock func()) {
	tb.Helper()
	_, unblock = n.filter(tb, fmt.Sprintf("ip saddr %s ip daddr %s drop", a, b), fmt.Sprintf("ip saddr %s ip daddr %s drop", b, a))
	return unblock
}

// filter has the router apply rules to what it forwards, in a table of their own,
// until end.
func (n *Network) filter(tb testing.TB, rules ...string) (table string, end func()) {
	tb.Helper()
	NeedTools(tb, "nft")
	n.filters++
	table = fmt.Sprintf("inet filter%d", n.filters)
	nft(tb, n.router, fmt.Sprintf(`
table %s {
	chain through {
		type filter hook forward priority filter
		%s
	}
}
`, table, strings.Join(rules, "\n\t\t")))
	return table, func() { nft(tb, n.router, "delete table "+table+"\n") }
}

func nft(tb testing.TB, namespace, rules string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ip", "netns", "exec", namespace, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	cmd.Env = os.Environ()
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("nft in %s: %v: %s", namespace, err, out)
	}
}
