package underlay

import (
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// PathMTU returns the largest IP packet that the kernel sends in one piece to an
// address: the MTU of the interface or route that leads there, or what a router
// on the way has said since (ip(7), IP_MTU). Nothing is sent.
func (s *Socket) PathMTU(to netip.AddrPort) (int, error) {
	mtu, err := s.pathMTU(netip.AddrPortFrom(to.Addr().Unmap(), to.Port()))
	if err != nil {
		return 0, fmt.Errorf("look up path MTU to %v: %w", to, err)
	}
	return mtu, nil
}

func (s *Socket) pathMTU(to netip.AddrPort) (int, error) {
	family, level, option := unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_MTU
	var address unix.Sockaddr
	if to.Addr().Is4() {
		family, level, option = unix.AF_INET, unix.IPPROTO_IP, unix.IP_MTU
		address = &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	} else {
		six := &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
		if zone := to.Addr().Zone(); zone != "" {
			six.ZoneId = uint32(s.zones.index(zone))
		}
		address = six
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if mark := s.mark.Load(); mark != 0 { // the route may depend on it
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(mark)); err != nil {
			return 0, os.NewSyscallError("setsockopt SO_MARK", err)
		}
	}
	// The option is known of a connected socket only.
	if err := unix.Connect(fd, address); err != nil {
		return 0, os.NewSyscallError("connect", err)
	}
	mtu, err := unix.GetsockoptInt(fd, level, option)
	return mtu, os.NewSyscallError("getsockopt", err)
}
