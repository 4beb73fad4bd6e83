package lab_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/serialspan/serialspan/tests/internal/lab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTTY(t *testing.T) {
	device := lab.NewTTY(t)
	app := lab.OpenTTY(t, device.Path)
	lab.Exchange(t, app, device, 64<<10)
}

func TestNetwork(t *testing.T) {
	var left []string
	t.Run("reach", func(t *testing.T) {
		n := lab.NewNetwork(t, "a", "b", "c")
		a, b := listen(t, n.Host("a")), listen(t, n.Host("b"))
		to := netip.AddrPortFrom(n.Host("b").Addr, b.LocalAddr().(*net.UDPAddr).AddrPort().Port())
		if _, err := a.WriteToUDPAddrPort([]byte("hello"), to); err != nil {
			t.Fatal(err)
		}
		_ = b.SetReadDeadline(time.Now().Add(5 * time.Second))
		buffer := make([]byte, 16)
		size, from, err := b.ReadFromUDPAddrPort(buffer)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(buffer[:size]); got != "hello" || from.Addr().Unmap() != n.Host("a").Addr {
			t.Errorf("b got %q from %v, want hello from %v", got, from, n.Host("a").Addr)
		}
		out, err := n.Host("c").Command(t.Context(), "ip", "-o", "address").Output()
		if err != nil || !strings.Contains(string(out), n.Host("c").Addr.String()) {
			t.Errorf("addresses of c: %q, %v", out, err)
		}
		left = namespaces(t)
		if len(left) == 0 {
			t.Error("no namespace in /run/netns")
		}
	})
	for _, was := range left {
		for _, is := range namespaces(t) {
			if was == is {
				t.Errorf("namespace %s is still there", is)
			}
		}
	}
}

func listen(t *testing.T, h *lab.Host) *net.UDPConn {
	t.Helper()
	var conn *net.UDPConn
	err := h.Do(func() (err error) {
		conn, err = net.ListenUDP("udp", nil)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// namespaces returns those that this process has made.
func namespaces(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/run/netns")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), fmt.Sprintf("serialspan-test-%d-", os.Getpid())) {
			names = append(names, e.Name())
		}
	}
	return names
}
