package bench

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/serialspan/serialspan/tests/internal/lab"
)

// serialPort is ser2net's TCP port, WireGuard's UDP port.
const (
	serialPort    = "3001"
	wireguardPort = 51820
)

func openInstalled(tb testing.TB, _ string) (*chain, string) {
	n := hosts(tb)
	return ser2net(tb, n, n.Host("edge").Addr, true), ""
}

func openPlain(tb testing.TB, _ string) (*chain, string) {
	n := hosts(tb)
	return ser2net(tb, n, n.Host("edge").Addr, false), ""
}

func openWireGuard(tb testing.TB, _ string) (*chain, string) {
	n := hosts(tb)
	edge, consumer := netip.MustParsePrefix("10.94.0.1/24"), netip.MustParsePrefix("10.94.0.2/24")
	tunnel := wireguard(tb, "wg0", [2]*lab.Host{n.Host("edge"), n.Host("consumer")}, [2]netip.Prefix{edge, consumer})
	c := ser2net(tb, n, edge.Addr(), false)
	between := c.pids()
	c.pids = func() []int { return slices.Concat(tunnel, between) }
	return c, ""
}

// ser2net serves a device on the edge at the address, and socat makes a PTY of
// it on the consumer. asInstalled: without an option of ours, so ser2net holds
// bytes back in case more come (chardelay).
func ser2net(tb testing.TB, n *lab.Network, edge netip.Addr, asInstalled bool) *chain {
	tb.Helper()
	lab.NeedTools(tb, "ser2net", "socat")
	d, dir := newDevice(tb), tb.TempDir()
	options := "  options:\n    chardelay: false\n"
	if asInstalled {
		options = ""
	}
	config := fmt.Sprintf("connection: &stick\n  accepter: tcp(nodelay),%s,%s\n  connector: serialdev,%s,115200n81,local\n  enable: on\n%s",
		edge, serialPort, d.Path, options)
	file, link := filepath.Join(dir, "ser2net.yaml"), filepath.Join(dir, "tty")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		tb.Fatal(err)
	}
	server := lab.Run(tb, n.Host("edge"), "ser2net", "-n", "-c", file)
	// Not asked first whether it listens: it would take the question for a user.
	address := net.JoinHostPort(edge.String(), serialPort)
	socat := lab.Run(tb, n.Host("consumer"), "socat", "PTY,link="+link+",rawer", "TCP:"+address+",nodelay,retry=100,interval=0.05")
	lab.WaitFor(tb, "socat", 10*time.Second, func() error {
		_, err := os.Stat(link)
		return err
	})
	app := lab.OpenTTY(tb, link)
	answers(tb, app)
	return &chain{device: d, app: app, pids: func() []int { return []int{server.PID, socat.PID} }}
}

// wireguardGo is wireguard-go's own program, of the module's version that
// SerialSpan is built with.
var wireguardGo = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("build wireguard-go: %w", err)
	}
	root := filepath.Dir(strings.TrimSpace(string(out)))
	program := filepath.Join(root, "bin", "wireguard-go")
	build := exec.Command("go", "build", "-o", program, "golang.zx2c4.com/wireguard")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build wireguard-go: %w: %s", err, out)
	}
	return program, nil
})

// wireguard makes a tunnel of two wireguard-go processes: a TUN device of that
// name on each host, with the address. It returns the processes.
func wireguard(tb testing.TB, device string, hosts [2]*lab.Host, inside [2]netip.Prefix) []int {
	tb.Helper()
	program, err := wireguardGo()
	if err != nil {
		tb.Fatal(err)
	}
	var keys [2]*ecdh.PrivateKey
	var pids []int
	for i := range keys {
		if keys[i], err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
			tb.Fatal(err)
		}
		// Its control socket has a fixed path: `ip netns exec` gives the process
		// mounts of its own, and so it can have a /run of its own too.
		pids = append(pids, lab.Run(tb, hosts[i], "sh", "-c",
			`mount -t tmpfs none /run && mkdir -p /run/wireguard && WG_PROCESS_FOREGROUND=1 exec "$0" -f "$1"`, program, device).PID)
	}
	for i, host := range hosts {
		peer := 1 - i
		wants := fmt.Sprintf("set=1\nprivate_key=%s\nlisten_port=%d\npublic_key=%s\nendpoint=%s\nallowed_ip=%s\n\n",
			hex.EncodeToString(keys[i].Bytes()), wireguardPort, hex.EncodeToString(keys[peer].PublicKey().Bytes()),
			netip.AddrPortFrom(hosts[peer].Addr, wireguardPort), netip.PrefixFrom(inside[peer].Addr(), inside[peer].Addr().BitLen()))
		socket := fmt.Sprintf("/proc/%d/root/run/wireguard/%s.sock", pids[i], device)
		lab.WaitFor(tb, "wireguard-go", 10*time.Second, func() error { return configure(socket, wants) })
		for _, args := range [][]string{
			{"address", "add", inside[i].String(), "dev", device},
			{"link", "set", device, "up"},
		} {
			if out, err := host.Command(tb.Context(), "ip", args...).CombinedOutput(); err != nil {
				tb.Fatalf("ip %s on %s: %v: %s", strings.Join(args, " "), host.Name, err, out)
			}
		}
	}
	return pids
}

// configure speaks WireGuard's cross-platform interface
// (wireguard.com/xplatform).
func configure(socket, wants string) error {
	conn, err := net.DialTimeout("unix", socket, time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(conn, wants); err != nil {
		return err
	}
	answer := make([]byte, 256)
	n, err := conn.Read(answer)
	if err == nil && strings.TrimSpace(string(answer[:n])) != "errno=0" {
		err = errors.New("wireguard-go refused: " + string(answer[:n]))
	}
	return err
}
