package mesh

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/serialspan/serialspan/mesh/identity"
)

// seedTargets resolves the seeds again, side by side, and returns the addresses
// of those whose member is not there. A name that does not resolve now keeps
// its last addresses.
func (m *Mesh) seedTargets(ctx context.Context) []netip.AddrPort {
	var alive map[identity.NodeID]bool
	m.do(func() { alive = maps.Clone(m.alive) })
	var resolving sync.WaitGroup
	m.joining.mu.Lock()
	seeds := slices.Clone(m.joining.seeds)
	m.joining.mu.Unlock()
	for i, s := range seeds {
		if m.now() < s.notBefore || alive[s.Node] {
			seeds[i].addrs = nil
			continue
		}
		resolving.Go(func() {
			addrs, err := m.resolve(ctx, s.Address)
			m.joining.mu.Lock()
			defer m.joining.mu.Unlock()
			now := &m.joining.seeds[i]
			if err == nil {
				now.addrs = addrs
			} else if fmt.Sprint(now.Err) != fmt.Sprint(err) {
				now.Err, now.said = err, false
			}
			seeds[i].addrs = now.addrs
		})
	}
	resolving.Wait()
	var targets []netip.AddrPort
	for _, s := range seeds {
		targets = append(targets, s.addrs...)
	}
	return targets
}

// resolve turns "HOST[:PORT]" into addresses.
func (m *Mesh) resolve(ctx context.Context, address string) ([]netip.AddrPort, error) {
	host, port, err := SplitAddress(address)
	if err != nil {
		return nil, err
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(ip.Unmap(), port)}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	ips, err := m.cfg.Resolve(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("resolve join address %q: %w", address, err)
	}
	var all []netip.AddrPort
	for _, ip := range ips {
		all = append(all, netip.AddrPortFrom(ip.Unmap(), port))
	}
	return all, nil
}

// SplitAddress splits a join address "HOST[:PORT]"; the port defaults to
// DefaultPort. HOST may be a name, an IPv4 or an IPv6 address, in brackets or,
// without a port, bare.
func SplitAddress(address string) (host string, port uint16, err error) {
	if ip, err := netip.ParseAddr(strings.Trim(address, "[]")); err == nil {
		return ip.String(), DefaultPort, nil
	}
	if !strings.Contains(address, ":") {
		if address == "" {
			return "", 0, errors.New("join address is empty; want HOST[:PORT]")
		}
		return address, DefaultPort, nil
	}
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("join address %q: want HOST[:PORT]", address)
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 || host == "" {
		return "", 0, fmt.Errorf("join address %q: want HOST[:PORT] with a port from 1 to 65535", address)
	}
	return host, uint16(n), nil
}
