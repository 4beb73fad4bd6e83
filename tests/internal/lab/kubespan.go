package lab

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// KubeSpanMTU is the least that Talos lets one set.
const KubeSpanMTU = 1280

// KubeSpanDevice configures a host's device kubespan, its addresses, routes,
// rules and nftables as Talos does it with default settings. The values are from
// siderolabs/talos, pkg/machinery/constants and
// internal/app/machined/pkg/controllers/kubespan/manager.go.
type KubeSpanDevice struct {
	Address netip.Addr // ULA fdXX:XXXX:XXXX:XX02::/64
	Private wgtypes.Key
	Shared  wgtypes.Key // pre-shared key: the cluster's secret
	Peers   []KubeSpanPeer
}

// KubeSpanPeer is another node.
type KubeSpanPeer struct {
	Address netip.Addr // ULA
	Node    netip.Addr // IPv4, where its WireGuard listens too
	Public  wgtypes.Key
}

// UAPI is the device's configuration in wireguard-go's language.
func (d KubeSpanDevice) UAPI() string {
	var b strings.Builder
	fmt.Fprintf(&b, "private_key=%s\nlisten_port=51820\nfwmark=32\n", hex.EncodeToString(d.Private[:]))
	for _, p := range d.Peers {
		fmt.Fprintf(&b, "public_key=%s\npreshared_key=%s\nendpoint=%s:51820\npersistent_keepalive_interval=25\nallowed_ip=%s/128\nallowed_ip=%s/32\n",
			hex.EncodeToString(p.Public[:]), hex.EncodeToString(d.Shared[:]), p.Node, p.Address, p.Node)
	}
	return b.String()
}

// WG is the device's configuration for wg setconf.
func (d KubeSpanDevice) WG() string {
	var b strings.Builder
	fmt.Fprintf(&b, "[Interface]\nPrivateKey = %s\nListenPort = 51820\nFwMark = 0x20\n", d.Private)
	for _, p := range d.Peers {
		fmt.Fprintf(&b, "[Peer]\nPublicKey = %s\nPresharedKey = %s\nEndpoint = %s:51820\nPersistentKeepalive = 25\nAllowedIPs = %s/128, %s/32\n",
			p.Public, d.Shared, p.Node, p.Address, p.Node)
	}
	return b.String()
}

// Rules are the arguments of ip(8) that need no device.
func (d KubeSpanDevice) Rules() []string {
	return []string{
		"-4 rule add pref 32500 fwmark 0x40/0x60 lookup 180 protocol static",
		"-6 rule add pref 32500 fwmark 0x40/0x60 lookup 180 protocol static",
	}
}

// Link are the arguments of ip(8) that follow once the device is there.
func (d KubeSpanDevice) Link() []string {
	return []string{
		fmt.Sprintf("link set kubespan mtu %d up", KubeSpanMTU),
		fmt.Sprintf("-6 address add %s/64 dev kubespan nodad", d.Address),
		fmt.Sprintf("-4 route add default dev kubespan table 180 metric 1 mtu %d proto static", KubeSpanMTU),
		fmt.Sprintf("-6 route add default dev kubespan table 180 metric 1 mtu %d proto static", KubeSpanMTU),
	}
}

// NFT are Talos's chains: what goes to the node address of any peer, dead or
// alive, is forced into the device, except what carries mark 0x20.
func (d KubeSpanDevice) NFT() string {
	var nodes []string
	for _, p := range d.Peers {
		nodes = append(nodes, p.Node.String())
	}
	return fmt.Sprintf(`
table inet talos {
	set nodes4 {
		type ipv4_addr
		elements = { %s }
	}
	chain kubespan_prerouting {
		type filter hook prerouting priority filter; policy accept
		meta mark and 0x60 == 0x20 accept
		ip daddr @nodes4 meta mark set meta mark and 0xffffff9f xor 0x40
	}
	chain kubespan_outgoing {
		type route hook output priority filter; policy accept
		meta mark and 0x60 == 0x20 accept
		oifname "lo" accept
		ip daddr @nodes4 tcp flags syn tcp option maxseg size set %d
		ip daddr @nodes4 meta mark set meta mark and 0xffffff9f xor 0x40
	}
}
`, strings.Join(nodes, ", "), KubeSpanMTU-40)
}

// NewKubeSpan lays out a KubeSpan between nodes, given by their addresses, and
// returns the device of each.
func NewKubeSpan(tb testing.TB, nodes ...netip.Addr) []KubeSpanDevice {
	tb.Helper()
	shared, err := wgtypes.GenerateKey()
	if err != nil {
		tb.Fatal(err)
	}
	devices := make([]KubeSpanDevice, len(nodes))
	for i := range devices {
		private, err := wgtypes.GeneratePrivateKey()
		if err != nil {
			tb.Fatal(err)
		}
		ula := netip.MustParseAddr(fmt.Sprintf("fd7f:175a:b97c:5602:2c1a:b6ff:fe53:%x", 0x8101+i))
		devices[i] = KubeSpanDevice{Address: ula, Private: private, Shared: shared}
	}
	for i := range devices {
		for j, other := range devices {
			if i != j {
				devices[i].Peers = append(devices[i].Peers, KubeSpanPeer{other.Address, nodes[j], other.Private.PublicKey()})
			}
		}
	}
	return devices
}

// KubeSpan is a KubeSpan between hosts of a network, by WireGuard in user space:
// TUN devices named kubespan. Agents on those hosts are built to take a TUN for
// a WireGuard link.
type KubeSpan struct {
	Devices []KubeSpanDevice // in the order of the hosts

	tb    testing.TB
	hosts []*Host
	wg    []*device.Device
}

// AddKubeSpan makes a KubeSpan between hosts, and returns when they hear each
// other.
func (n *Network) AddKubeSpan(tb testing.TB, hosts ...*Host) *KubeSpan {
	tb.Helper()
	NeedTools(tb, "nft")
	var nodes []netip.Addr
	for _, h := range hosts {
		nodes = append(nodes, h.Addr)
	}
	k := &KubeSpan{Devices: NewKubeSpan(tb, nodes...), tb: tb, hosts: hosts, wg: make([]*device.Device, len(hosts))}
	program := tunProgram(tb)
	for i, h := range hosts {
		h.program, h.wireguard = program, shortDir(tb)
		k.ip(i, k.Devices[i].Rules())
		k.Start(i)
		nft(tb, h.namespace, k.Devices[i].NFT())
	}
	for i := range hosts {
		k.waitPeers(i)
	}
	return k
}

// waitPeers waits until a host has had a handshake with every peer. Where both
// sides begin one at once that takes WireGuard more than five seconds.
func (k *KubeSpan) waitPeers(i int) {
	k.tb.Helper()
	WaitFor(k.tb, "WireGuard's handshakes of "+k.hosts[i].Name, 30*time.Second, func() error {
		state, err := k.wg[i].IpcGet()
		if err == nil && strings.Contains(state, "last_handshake_time_sec=0\n") {
			err = errors.New("a peer has had none")
		}
		return err
	})
}

// Start makes the device of a host, given by its index.
func (k *KubeSpan) Start(i int) {
	k.tb.Helper()
	h := k.hosts[i]
	if err := h.Do(func() error {
		t, err := tun.CreateTUN("kubespan", KubeSpanMTU)
		if err != nil {
			return err
		}
		k.wg[i] = device.NewDevice(t, hostBind{conn.NewDefaultBind(), h}, device.NewLogger(device.LogLevelSilent, ""))
		if err := k.wg[i].IpcSet(k.Devices[i].UAPI()); err != nil {
			return err
		}
		return k.wg[i].Up()
	}); err != nil {
		Skip(k.tb, fmt.Sprintf("makes no TUN device here: %v", err))
	}
	wg := k.wg[i]
	k.tb.Cleanup(wg.Close)
	serveUAPI(k.tb, filepath.Join(h.wireguard, "kubespan.sock"), wg)
	k.ip(i, k.Devices[i].Link())
}

func (k *KubeSpan) ip(i int, all []string) {
	k.tb.Helper()
	for _, args := range all {
		k.hosts[i].IP(args)
	}
}

// hostBind opens the sockets of a device on a host, whichever goroutine asks:
// wireguard-go does it on one of its own when the link goes up.
type hostBind struct {
	conn.Bind
	host *Host
}

// Open implements conn.Bind.
func (b hostBind) Open(port uint16) (receive []conn.ReceiveFunc, actual uint16, err error) {
	failed := b.host.Do(func() error {
		receive, actual, err = b.Bind.Open(port)
		return nil
	})
	return receive, actual, errors.Join(failed, err)
}

// Remove takes the device of a host away.
func (k *KubeSpan) Remove(i int) { k.wg[i].Close() }

// SilenceKubeSpan loses every WireGuard datagram on the network: devices,
// addresses, routes and rules stay, and all peers are dead. The function returned
// ends it.
func (n *Network) SilenceKubeSpan(tb testing.TB) (end func()) {
	tb.Helper()
	_, end = n.filter(tb, "udp dport 51820 drop")
	return end
}

// serveUAPI lets wgctrl read the device, as wireguard-go's command does.
func serveUAPI(tb testing.TB, path string, wg *device.Device) {
	tb.Helper()
	_ = os.Remove(path)
	listener, err := net.Listen("unix", path)
	if err != nil {
		tb.Fatal(err)
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			wait.Go(func() { defer c.Close(); wg.IpcHandle(c) })
		}
	})
	tb.Cleanup(func() { listener.Close(); wait.Wait() })
}

// inKubeSpan returns the command that runs a program with the host's WireGuard
// sockets in place (ip netns exec has given it a mount namespace of its own),
// and with the rights that it is to have.
func (h *Host) inKubeSpan(program string, args []string) (string, []string) {
	if h.unprivileged {
		return "setpriv", append([]string{"--bounding-set", "-net_admin,-net_raw", program}, args...)
	}
	const mount = `mkdir -p /run/wireguard && mount --bind "$0" /run/wireguard && exec "$@"`
	return "sh", append([]string{"-c", mount, h.wireguard, program}, args...)
}

// WithoutNetAdmin lets the agents that are started on a host from now on have
// neither NET_ADMIN nor NET_RAW.
func (k *KubeSpan) WithoutNetAdmin(i int) {
	k.tb.Helper()
	NeedTools(k.tb, "setpriv")
	k.hosts[i].unprivileged = true
}

// SetMTU changes the MTU of a host's link to the router, on both ends.
func (n *Network) SetMTU(tb testing.TB, name string, mtu int) {
	tb.Helper()
	ip(tb, "-n", n.Host(name).namespace, "link", "set", "eth0", "mtu", fmt.Sprint(mtu))
	ip(tb, "-n", n.router, "link", "set", "to-"+name, "mtu", fmt.Sprint(mtu))
}

// IP runs ip(8) on the host.
func (h *Host) IP(args string) {
	h.tb.Helper()
	ip(h.tb, append([]string{"-n", h.namespace}, strings.Fields(args)...)...)
}

// Settings returns all that the host's kernel is told about its network, as
// text: links, addresses, routes, rules and nftables.
func (h *Host) Settings() string {
	h.tb.Helper()
	var all strings.Builder
	for _, args := range []string{"ip -d link", "ip address", "ip -4 route show table all", "ip -6 route show table all", "ip -4 rule", "ip -6 rule", "nft list ruleset"} {
		fields := strings.Fields(args)
		out, err := h.Command(context.Background(), fields[0], fields[1:]...).CombinedOutput()
		if err != nil {
			h.tb.Fatalf("%s on %s: %v: %s", args, h.Name, err, out)
		}
		fmt.Fprintf(&all, "# %s\n%s", args, out)
	}
	return all.String()
}
