package kubespan

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
	"golang.zx2c4.com/wireguard/tun/tuntest"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

const (
	ourULA   = "fd7f:175a:b97c:5602:2c1a:b6ff:fe53:8169"
	peerULA  = "fd7f:175a:b97c:5602::7"
	deadline = 10 * time.Second
)

// start runs a Reader without privileges in the namespace until the test ends.
func (n *namespace) start(r *Reader) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- n.do(func() error {
			if err := dropPrivileges(); err != nil {
				return err
			}
			return r.Run(ctx)
		})
	}()
	n.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			n.t.Errorf("Run: %v", err)
		}
	})
}

// dropPrivileges makes the calling thread nobody's.
func dropPrivileges() error {
	const nobody = 65534
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
		return errno
	}
	return nil
}

// await waits until the state is as wanted.
func await(t *testing.T, r *Reader, what string, want func(State) bool) State {
	t.Helper()
	timeout := time.After(deadline)
	for {
		if s := r.State(); want(s) {
			return s
		}
		select {
		case <-r.Changes():
		case <-timeout:
			t.Fatalf("%s: not within %v: %+v", what, deadline, r.State())
		}
	}
}

// TestKernelLinks follows a link of this kernel as it appears, changes and
// vanishes, without privileges. It is no WireGuard one, which a reader says; a second reader is
// told to take its kind for KubeSpan's. Interval is an hour: all that they see
// they are told by notifications.
func TestKernelLinks(t *testing.T) {
	n := newNamespace(t)
	strict, r := New(Config{Interval: time.Hour}), New(Config{Interval: time.Hour})
	r.kind = "veth"
	n.start(strict)
	n.start(r)
	why := func(text string) func(State) bool {
		return func(s State) bool { return !s.Present && strings.Contains(s.Why, text) }
	}
	await(t, r, "before", why("no link named kubespan"))
	n.ip("link add kubespan type veth peer name other")
	n.ip("link set other up")
	await(t, r, "added", why("not up"))
	await(t, strict, "added", why("of kind veth, not wireguard"))
	n.ip("link set kubespan mtu 1420 up")
	await(t, r, "up", why("no address"))
	n.ip("-6 rule add pref 32500 fwmark 0x40/0x60 lookup 180 protocol static")
	n.ip("-6 addr add " + ourULA + "/64 dev kubespan nodad")
	s := await(t, r, "address", func(s State) bool { return s.Present })
	if s.Address.String() != ourULA || s.Prefix.String() != "fd7f:175a:b97c:5602::/64" || s.MTU != 1420 || s.Link == 0 || !s.Rule || s.Forced {
		t.Errorf("%+v", s)
	}
	// Forced is looked at along with the rest.
	n.ip("-4 rule add pref 32500 fwmark 0x40/0x60 lookup 180 protocol static")
	n.ip("-4 route add default dev kubespan table 180 metric 1")
	n.ip("link set kubespan mtu 1400")
	await(t, r, "forced", func(s State) bool { return s.Forced })
	if s.Privileged || len(s.Peers) != 0 || s.Why == "" {
		t.Errorf("peers of a veth: %+v", s)
	}
	await(t, strict, "address", why("of kind veth, not wireguard"))
	n.ip("link set kubespan mtu 1280")
	await(t, r, "another MTU", func(s State) bool { return s.Present && s.MTU == 1280 })
	n.ip("-6 addr del " + ourULA + "/64 dev kubespan")
	await(t, r, "address removed", why("no address"))
	n.ip("-6 addr add fd7f:175a:b97c:5602::2/64 dev kubespan nodad")
	await(t, r, "another address", func(s State) bool { return s.Address.String() == "fd7f:175a:b97c:5602::2" })
	n.ip("link set other down") // no carrier
	await(t, r, "no carrier", why("not up"))
	n.ip("link set other up")
	await(t, r, "carrier", func(s State) bool { return s.Present })
	n.ip("link set kubespan down")
	n.ip("link set kubespan name former")
	await(t, r, "renamed", why("no link named kubespan"))
	n.ip("link set former name kubespan up")
	n.ip("-6 addr replace " + ourULA + "/64 dev kubespan nodad")
	await(t, r, "named back", func(s State) bool { return s.Present })
	n.ip("link del kubespan")
	await(t, r, "removed", why("no link named kubespan"))
	n.ip("link add real type veth peer name other")
	n.ip("link property add dev real altname kubespan")
	n.ip("link set real up")
	await(t, r, "an alternative name only", why("no link named kubespan"))
}

// keys are made for one test.
type keys struct{ private, public wgtypes.Key }

func newKeys(t *testing.T) keys {
	t.Helper()
	private, err := wgtypes.GeneratePrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	return keys{private, private.PublicKey()}
}

// serve answers wgctrl for a userspace device as wireguard-go's command does.
func serve(t *testing.T, name string, handle func(net.Conn)) {
	t.Helper()
	const dir = "/var/run/wireguard" // wgctrl looks nowhere else
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Skipf("needs %s: %v", dir, err)
	}
	path := filepath.Join(dir, name+".sock")
	_ = os.Remove(path) // of a run that was killed
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wait.Go(func() { defer c.Close(); handle(c) })
		}
	})
	t.Cleanup(func() { l.Close(); wait.Wait() })
}

// newDevice makes a WireGuard device and returns its UDP port.
func newDevice(t *testing.T, tunnel tun.Device, own keys, config string) (*device.Device, string) {
	t.Helper()
	d := device.NewDevice(tunnel, conn.NewDefaultBind(), device.NewLogger(device.LogLevelSilent, ""))
	t.Cleanup(d.Close)
	if err := d.IpcSet("private_key=" + hex.EncodeToString(own.private[:]) + "\n" + config); err != nil {
		t.Fatal(err)
	}
	if err := d.Up(); err != nil {
		t.Fatal(err)
	}
	state, err := d.IpcGet()
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(state, "listen_port=")
	port, _, _ := strings.Cut(rest, "\n")
	return d, port
}

// TestUserspaceDevice reads the peers of a real WireGuard device whose link is
// a TUN: detection says no to that, and a reader that takes a TUN for KubeSpan
// reads them. What it shows holds no key but public ones.
func TestUserspaceDevice(t *testing.T) {
	n := newNamespace(t)
	name := fmt.Sprintf("ksp%d", os.Getpid()%1000000) // its socket's name is the machine's
	us, peer, psk := newKeys(t), newKeys(t), newKeys(t).private
	var tunnel tun.Device
	if err := n.do(func() (err error) { tunnel, err = tun.CreateTUN(name, 1420); return err }); err != nil {
		t.Skipf("needs TUN: %v", err)
	}
	_, port := newDevice(t, tuntest.NewChannelTUN().TUN(), peer, fmt.Sprintf(
		"public_key=%x\npreshared_key=%x\npersistent_keepalive_interval=1\nallowed_ip=%s/128\n", us.public[:], psk[:], ourULA))
	d, _ := newDevice(t, tunnel, us, fmt.Sprintf(
		"public_key=%x\npreshared_key=%x\nendpoint=127.0.0.1:%s\npersistent_keepalive_interval=1\nallowed_ip=192.0.2.7/32\nallowed_ip=%s/128\n",
		peer.public[:], psk[:], port, peerULA))
	serve(t, name, func(c net.Conn) { d.IpcHandle(c) })
	n.ip("link set " + name + " up")
	n.ip("-6 addr add " + ourULA + "/64 dev " + name)

	var log bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	strict := New(Config{LinkName: name, Interval: time.Hour})
	r := New(Config{LinkName: name, Interval: 20 * time.Millisecond, Logger: logger})
	r.kind = "tun"
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.do(func() error { return r.Run(ctx) }) }()
	n.start(strict)
	await(t, strict, "a TUN", func(s State) bool {
		return s.Link != 0 && !s.Present && strings.Contains(s.Why, "of kind tun, not wireguard")
	})

	s := await(t, r, "a live peer", func(s State) bool { return len(s.Peers) == 1 && s.Peers[0].Alive == Alive })
	p := s.Peers[0]
	if !s.Present || !s.Privileged || s.Why != "" || wgtypes.Key(p.PublicKey) != peer.public || p.Address.String() != peerULA ||
		p.Endpoint.String() != "127.0.0.1:"+port || len(p.NodeAddresses) != 1 || p.RxBytes == 0 || p.TxBytes == 0 || !s.InForcedSet(netip.MustParseAddr("192.0.2.7")) {
		t.Errorf("%+v", s)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	wantNoKeysIn(t, log.String(), us.private, psk)
	wantNoKeysIn(t, s, us.private, psk)
}

// TestAnswersThatMakeNoSense: the library quotes what it does not understand,
// which may be a key.
func TestAnswersThatMakeNoSense(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for /var/run/wireguard")
	}
	us := newKeys(t)
	text := hex.EncodeToString(us.private[:])
	for i, answer := range []string{
		"private_key=" + text + "=\n\n", "private_key " + text + "\n\n", "private_key=zz" + text + "\n\n",
		"private_key=" + text + "00\n\n", "public_key=" + text + "\nendpoint=" + text + "\n\n",
		"public_key=" + text + "\nrx_bytes=" + text + "\n\n", "errno=" + text + "\n\n", "errno=1\n\n",
	} {
		name := fmt.Sprintf("ksn%d-%d", os.Getpid()%1000000, i)
		serve(t, name, func(c net.Conn) {
			_, _ = io.ReadFull(c, make([]byte, len("get=1\n\n")))
			_, _ = io.WriteString(c, answer)
		})
		var w wireGuard
		samples, err := w.peers(name)
		w.close()
		if !errors.Is(err, errAnswer) || samples != nil {
			t.Errorf("%q: %v, %v; want errAnswer", answer, samples, err)
		}
		wantNoKeysIn(t, fmt.Sprint(err, whyNoPeers(name, err)), us.private)
	}
	var w wireGuard
	defer w.close()
	if _, err := w.peers("none-such"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no device: %v, want ErrNotExist", err)
	}
}

// TestKeysAreZeroed: what the library read is wiped where it lies.
func TestKeysAreZeroed(t *testing.T) {
	us, psk := newKeys(t), newKeys(t).private
	d := &wgtypes.Device{PrivateKey: us.private, PublicKey: us.public, Peers: []wgtypes.Peer{{PresharedKey: psk}, {PresharedKey: psk}}}
	samples := samplesOf(d)
	if d.PrivateKey != (wgtypes.Key{}) || d.Peers[0].PresharedKey != (wgtypes.Key{}) || d.Peers[1].PresharedKey != (wgtypes.Key{}) {
		t.Error("a key is still there")
	}
	wantNoKeysIn(t, samples, us.private, psk)
	wantNoKeysIn(t, d, us.private, psk)
}

// wantNoKeysIn prints v in every way it may end up in a log or a dump.
func wantNoKeysIn(t *testing.T, v any, secrets ...wgtypes.Key) {
	t.Helper()
	for how, text := range printed(t, v) {
		if leaks(text, secrets...) {
			t.Errorf("%s shows a key: %s", how, text)
		}
	}
}

func printed(t *testing.T, v any) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "% x", "%d"} {
		all[verb] = fmt.Sprintf(verb, v)
	}
	data, err := json.Marshal(v)
	if err != nil {
		t.Error(err)
	}
	all["JSON"] = string(data)
	return all
}

// leaks reports whether part of a key is in a text in any form.
func leaks(text string, secrets ...wgtypes.Key) bool {
	for _, k := range secrets {
		part := k[3:9] // whole groups of base64
		decimal := strings.Trim(fmt.Sprint(part), "[]")
		text64 := base64.StdEncoding.EncodeToString(part)
		for _, form := range []string{
			text64, fmt.Sprintf("%x", text64), fmt.Sprintf("%X", text64), fmt.Sprintf("% x", text64), // of a type with String
			string(part), fmt.Sprintf("%x", part), fmt.Sprintf("%X", part), fmt.Sprintf("% x", part),
			decimal, strings.ReplaceAll(decimal, " ", ","), strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", part), "[]byte{"), "}"),
		} {
			if strings.Contains(text, form) {
				return true
			}
		}
	}
	return false
}

// TestLeaksAreSeen: the check finds a key in each of the ways that it looks at.
func TestLeaksAreSeen(t *testing.T) {
	k := newKeys(t)
	for how, text := range printed(t, wgtypes.Device{PrivateKey: k.private}) {
		if !leaks(text, k.private) {
			t.Errorf("%s: the key was not found in %s", how, text)
		}
		if leaks(text, newKeys(t).private) {
			t.Errorf("%s: a key found that is not there", how)
		}
	}
}

// TestTunnel: packets that bypass the KubeSpan may run into another tunnel.
func TestTunnel(t *testing.T) {
	n := newNamespace(t)
	n.ip("tuntap add dev vpn mode tun")
	n.ip("link add lan type veth peer name far")
	for _, args := range []string{"link set far up", "link set lan up", "address add 192.0.2.1/24 dev lan", "link set vpn up", "route add 198.51.100.0/24 dev vpn",
		"rule add pref 100 fwmark 0x20 to 203.0.113.0/24 lookup 7", "route add default dev vpn table 7"} {
		n.ip(args)
	}
	for to, want := range map[string]string{"192.0.2.7": "", "198.51.100.7": "vpn", "203.0.113.7": "vpn", "10.0.0.1": "", "2001:db8::1": ""} {
		var name string
		err := n.do(func() (err error) {
			var r rtnetlink
			defer r.close()
			name, err = r.tunnel(netip.MustParseAddr(to))
			return err
		})
		if name != want || err != nil {
			t.Errorf("%s by %q, %v; want %q", to, name, err, want)
		}
	}
}
