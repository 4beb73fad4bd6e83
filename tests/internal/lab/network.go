package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// namePrefix begins the names of all namespaces that tests make.
const namePrefix = "serialspan-test-"

var networks atomic.Uint32

// Network is a router with hosts around it.
type Network struct {
	prefix  string // of the names of its namespaces
	router  string
	hosts   map[string]*Host
	sites   int
	filters int
}

// Host is one network namespace.
type Host struct {
	// Name is the one that NewNetwork was given.
	Name string
	// Addr is the address of eth0.
	Addr netip.Addr
	// Outside is the address of the router that AddSite put before it.
	Outside netip.Addr

	tb        testing.TB
	namespace string
	site      string // the router's namespace, empty: none of its own

	// Set by AddKubeSpan, for agents.
	program      string // instead of bin/serialspan
	wireguard    string // the folder that is /run/wireguard
	unprivileged bool
}

// NewNetwork makes a router and a host for each name, all of which can reach
// each other through it. At most 250 hosts. It skips the test without root.
func NewNetwork(tb testing.TB, names ...string) *Network {
	tb.Helper()
	NeedRoot(tb)
	sweep(tb)
	prefix := fmt.Sprintf("%s%d-%d-", namePrefix, os.Getpid(), networks.Add(1))
	router := prefix + "router"
	n := &Network{prefix: prefix, router: router, hosts: map[string]*Host{}}
	addNamespace(tb, router)
	ip(tb, "netns", "exec", router, "sysctl", "-qw", "net.ipv4.ip_forward=1")
	for i, name := range names {
		h := &Host{
			Name:      name,
			Addr:      netip.AddrFrom4([4]byte{10, 91, byte(i + 1), 2}),
			tb:        tb,
			namespace: prefix + name,
		}
		gateway := netip.AddrFrom4([4]byte{10, 91, byte(i + 1), 1})
		port := "to-" + name
		addNamespace(tb, h.namespace)
		ip(tb, "-n", h.namespace, "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", router)
		ip(tb, "-n", router, "address", "add", gateway.String()+"/24", "dev", port)
		ip(tb, "-n", router, "link", "set", port, "up")
		ip(tb, "-n", h.namespace, "address", "add", h.Addr.String()+"/24", "dev", "eth0")
		ip(tb, "-n", h.namespace, "link", "set", "eth0", "up")
		ip(tb, "-n", h.namespace, "route", "add", "default", "via", gateway.String())
		n.hosts[name] = h
	}
	return n
}

// Host returns the host of that name, which has to exist.
func (n *Network) Host(name string) *Host {
	h := n.hosts[name]
	if h == nil {
		panic("lab: no host " + strconv.Quote(name))
	}
	return h
}

// Command returns a command that runs on the host. Its process is the program
// itself: killing it leaves nothing behind.
func (h *Host) Command(ctx context.Context, program string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", h.namespace, program}, args...)...)
}

// Do runs f on the host: sockets that f makes (net.Listen, net.Dial) are the
// host's and stay so after f has returned. f must not start goroutines that
// make sockets; a dialer that races IPv4 and IPv6 would.
func (h *Host) Do(f func() error) error {
	done := make(chan error)
	go func() {
		// Never unlocked: the runtime ends the thread with the goroutine, since
		// it must not be used for anything else any more.
		runtime.LockOSThread()
		done <- h.enterAnd(f)
	}()
	return <-done
}

func (h *Host) enterAnd(f func() error) error {
	file, err := os.Open("/run/netns/" + h.namespace)
	if err != nil {
		return fmt.Errorf("enter host %s: %w", h.Name, err)
	}
	defer file.Close()
	if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter host %s: %w", h.Name, err)
	}
	return f()
}

func addNamespace(tb testing.TB, name string) {
	tb.Helper()
	ip(tb, "netns", "add", name)
	tb.Cleanup(func() { removeNamespace(tb, name) })
	ip(tb, "-n", name, "link", "set", "lo", "up")
}

// removeNamespace kills what still runs in the namespace and removes it.
func removeNamespace(tb testing.TB, name string) {
	tb.Helper()
	for _, pid := range processesIn(tb, name) {
		tb.Logf("process %d was still running in %s", pid, name)
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	if err := tryIP("netns", "delete", name); err != nil {
		tb.Error(err)
	}
}

func processesIn(tb testing.TB, namespace string) []int {
	out, err := exec.Command("ip", "netns", "pids", namespace).Output()
	if err != nil {
		tb.Errorf("list processes of %s: %v", namespace, err)
	}
	var pids []int
	for line := range strings.FieldsSeq(string(out)) {
		// A thread that Host.Do moved here may not have ended yet; it is ours.
		if pid, err := strconv.Atoi(line); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// sweep removes namespaces of test processes that no longer live.
func sweep(tb testing.TB) {
	tb.Helper()
	entries, err := os.ReadDir("/run/netns")
	if err != nil {
		return // no namespace was ever made
	}
	for _, e := range entries {
		rest, ours := strings.CutPrefix(e.Name(), namePrefix)
		owner, _, _ := strings.Cut(rest, "-")
		pid, err := strconv.Atoi(owner)
		if ours && err == nil && unix.Kill(pid, 0) == unix.ESRCH {
			tb.Logf("remove %s of a test that was killed", e.Name())
			removeNamespace(tb, e.Name())
		}
	}
}

func ip(tb testing.TB, args ...string) {
	tb.Helper()
	if err := tryIP(args...); err != nil {
		tb.Fatal(err)
	}
}

func tryIP(args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}
