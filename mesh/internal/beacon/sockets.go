package beacon

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// sockets is the kernel's medium: one socket for each IP family. close joins
// its readers.
type sockets struct {
	v4, v6  *net.UDPConn // nil: not open
	readers sync.WaitGroup
}

func (s *sockets) open(deliver func(received)) error {
	var err4, err6 error
	if s.v4 == nil {
		s.v4, err4 = listen(unix.AF_INET, listen4)
		if s.v4 != nil {
			s.read(s.v4, deliver)
		}
	}
	if s.v6 == nil {
		s.v6, err6 = listen(unix.AF_INET6, listen6)
		if s.v6 != nil {
			s.read(s.v6, deliver)
		}
	}
	// A host without IPv6 is no failure, and none without IPv4.
	if s.v4 == nil && s.v6 == nil {
		return errors.Join(err4, err6)
	}
	for _, err := range []error{err4, err6} {
		if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
			return err
		}
	}
	return nil
}

// listen makes a socket that setUp binds.
func listen(family int, setUp func(fd int) error) (*net.UDPConn, error) {
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_UDP)
	if err != nil {
		return nil, fmt.Errorf("open socket for beacons: %w", err)
	}
	if err := errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), setUp(fd)); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("listen for beacons on UDP port %d: %w", Port, err)
	}
	file := os.NewFile(uintptr(fd), "beacon")
	defer file.Close() // FilePacketConn has a copy
	conn, err := net.FilePacketConn(file)
	if err != nil {
		return nil, fmt.Errorf("listen for beacons: %w", err)
	}
	return conn.(*net.UDPConn), nil
}

// listen4 binds to the group: nothing sent to a host's own address comes in.
// IP_MULTICAST_ALL off: only by links where this socket joined, see ip(7).
func listen4(fd int) error {
	return errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 0),
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP, 1), // others may run on this host
		unix.Bind(fd, &unix.SockaddrInet4{Port: Port, Addr: group4.As4()}))
}

// listen6 binds to all addresses, since a group of link-local scope can be
// bound for one link only; what was sent to another address is not delivered.
func listen6(fd int) error {
	// Kernels before 4.20 do not know IPV6_MULTICAST_ALL.
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_ALL, 0)
	return errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_LOOP, 1),
		unix.Bind(fd, &unix.SockaddrInet6{Port: Port}))
}

// read delivers what comes until the socket is closed.
func (s *sockets) read(conn *net.UDPConn, deliver func(received)) {
	s.readers.Go(func() {
		data, oob := make([]byte, Len+1), make([]byte, 128)
		for {
			n, oobn, _, from, err := conn.ReadMsgUDPAddrPort(data, oob)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil || n != Len {
				continue
			}
			if index, to := arrival(oob[:oobn]); to == group4 || to == group6 {
				deliver(received{index: index, from: from.Addr().Unmap().WithZone(""), data: slices.Clone(data[:n])})
			}
		}
	})
}

// arrival reads by which link and to which address a datagram came. in_pktinfo
// is ifindex, spec_dst, addr; in6_pktinfo is addr, ifindex.
func arrival(oob []byte) (index int, to netip.Addr) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0, netip.Addr{}
	}
	for _, m := range messages {
		switch b := m.Data; {
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(b) >= unix.SizeofInet4Pktinfo:
			return int(binary.NativeEndian.Uint32(b)), netip.AddrFrom4([4]byte(b[8:12]))
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(b) >= unix.SizeofInet6Pktinfo:
			return int(binary.NativeEndian.Uint32(b[16:])), netip.AddrFrom16([16]byte(b[:16]))
		}
	}
	return 0, netip.Addr{}
}

func (s *sockets) join(l link) error {
	var err error
	if s.v4 != nil && len(l.prefixes) > 0 {
		err = member4(s.v4, unix.IP_ADD_MEMBERSHIP, l.index)
	}
	if s.v6 != nil && l.v6 {
		err = errors.Join(err, member6(s.v6, unix.IPV6_JOIN_GROUP, l.index))
	}
	if err != nil {
		return fmt.Errorf("join multicast group on %s: %w", l.name, err)
	}
	return nil
}

// leave does not fail: a link that has gone took its memberships along.
func (s *sockets) leave(l link) {
	if s.v4 != nil {
		_ = member4(s.v4, unix.IP_DROP_MEMBERSHIP, l.index)
	}
	if s.v6 != nil {
		_ = member6(s.v6, unix.IPV6_LEAVE_GROUP, l.index)
	}
}

func member4(conn *net.UDPConn, option, index int) error {
	return control(conn, func(fd int) error {
		return unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, option, &unix.IPMreqn{Multiaddr: group4.As4(), Ifindex: int32(index)})
	})
}

func member6(conn *net.UDPConn, option, index int) error {
	return control(conn, func(fd int) error {
		return unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, option, &unix.IPv6Mreq{Multiaddr: group6.As16(), Interface: uint32(index)})
	})
}

// control runs an option on a socket. EADDRINUSE says that it is a member
// already.
func control(conn *net.UDPConn, option func(fd int) error) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	if ctlErr := raw.Control(func(fd uintptr) { err = option(int(fd)) }); ctlErr != nil {
		return ctlErr
	}
	if errors.Is(err, unix.EADDRINUSE) {
		return nil
	}
	return err
}

// send sends by both families; one that goes out is enough.
func (s *sockets) send(l link, datagram []byte) error {
	var err4, err6 error
	sent := false
	if s.v4 != nil && len(l.prefixes) > 0 {
		_, _, err4 = s.v4.WriteMsgUDPAddrPort(datagram, unix.PktInfo4(&unix.Inet4Pktinfo{Ifindex: int32(l.index)}), netip.AddrPortFrom(group4, Port))
		sent = err4 == nil
	}
	if s.v6 != nil && l.v6 {
		_, _, err6 = s.v6.WriteMsgUDPAddrPort(datagram, unix.PktInfo6(&unix.Inet6Pktinfo{Ifindex: uint32(l.index)}), netip.AddrPortFrom(group6, Port))
		sent = sent || err6 == nil
	}
	if sent {
		return nil
	}
	return errors.Join(err4, err6)
}

func (s *sockets) close() {
	for _, conn := range []*net.UDPConn{s.v4, s.v6} {
		if conn != nil {
			_ = conn.Close()
		}
	}
	s.readers.Wait()
}

// links finds usable links. All addresses are asked for at once: a host of a
// Kubernetes cluster has hundreds of interfaces, and net.Interface.Addrs reads
// all of them for each.
func (s *sockets) links() ([]link, error) {
	table, err := syscall.NetlinkRIB(unix.RTM_GETADDR, unix.AF_UNSPEC)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", os.NewSyscallError("netlinkrib", err))
	}
	candidates, err := addressesOf(table)
	if err != nil {
		return nil, err
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	const need = net.FlagUp | net.FlagRunning | net.FlagMulticast
	for _, i := range interfaces {
		l, ok := candidates[i.Index]
		if !ok {
			continue
		}
		if i.Flags&need != need || i.Flags&(net.FlagLoopback|net.FlagPointToPoint) != 0 {
			delete(candidates, i.Index)
			continue
		}
		l.name = i.Name
		candidates[i.Index] = l
	}
	maps.DeleteFunc(candidates, func(_ int, l link) bool { return l.name == "" })
	return slices.SortedFunc(maps.Values(candidates), func(a, b link) int { return a.index - b.index }), nil
}

// addressesOf reads an answer to RTM_GETADDR: links that have any address but a
// link-local one, without their names. Each message holds struct ifaddrmsg,
// which is family (1), prefix length (1), flags (1), scope (1), index (4), and
// attributes; see rtnetlink(7).
func addressesOf(table []byte) (map[int]link, error) {
	messages, err := syscall.ParseNetlinkMessage(table)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	all := make(map[int]link)
	routed := make(map[int]bool)
	for _, m := range messages {
		if m.Header.Type != unix.RTM_NEWADDR || len(m.Data) < unix.SizeofIfAddrmsg {
			continue
		}
		index := int(binary.NativeEndian.Uint32(m.Data[4:]))
		l := all[index]
		l.index = index
		addr := addressIn(m.Data[unix.SizeofIfAddrmsg:])
		switch bits := int(m.Data[1]); {
		case addr.Is4() && bits <= 32:
			l.prefixes = append(l.prefixes, netip.PrefixFrom(addr, bits))
			routed[index] = true
		case addr.Is6() && addr.IsLinkLocalUnicast():
			l.v6 = true
		case addr.Is6():
			routed[index] = true
		}
		all[index] = l
	}
	maps.DeleteFunc(all, func(index int, _ link) bool { return !routed[index] })
	return all, nil
}

// addressIn finds IFA_ADDRESS among attributes: length (2), type (2), value,
// padded to 4. syscall.ParseNetlinkRouteAttr panics on malformed ones.
func addressIn(b []byte) netip.Addr {
	for len(b) >= unix.SizeofRtAttr {
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.SizeofRtAttr || length > len(b) {
			break
		}
		if binary.NativeEndian.Uint16(b[2:]) == unix.IFA_ADDRESS {
			addr, _ := netip.AddrFromSlice(b[unix.SizeofRtAttr:length])
			return addr
		}
		b = b[min((length+3)&^3, len(b)):]
	}
	return netip.Addr{}
}
