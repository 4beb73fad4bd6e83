// Package underlay is the one UDP socket through which everything leaves a
// node: WireGuard, the join handshake and the sealed probes (DESIGN section 6).
//
// The socket is a wildcard one and asks the kernel for IP_PKTINFO
// (IPV6_PKTINFO), so that a reply can be pinned to the address that was spoken
// to: a node with several addresses, or one behind a stateful firewall, would
// otherwise answer from an address that the other side never asked.
//
// The package starts no goroutines. It does not know what a datagram means.
package underlay

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/mesh/rawio"
)

// socketBuffer is what the socket asks for in each direction, in bytes: room
// for 100 ms of 10 MB/s. The kernel grants at most net.core.rmem_max.
const socketBuffer = 1 << 20

// Socket is an open UDP socket. It is safe for concurrent use; whoever opened
// it closes it.
type Socket struct {
	file  *rawio.File
	v6    bool // an AF_INET6 socket, which carries IPv4 in mapped form
	local netip.AddrPort
	in    inbound
	out   outbound
	zones zones
	mark  atomic.Uint32
}

// Listen opens the socket at address, "HOST:PORT" as net.ListenUDP takes it;
// an empty host means every address of both families, port 0 any free port.
func Listen(address string) (*Socket, error) {
	s, err := listen(address)
	if err != nil {
		return nil, fmt.Errorf("listen on UDP %q: %w", address, explain(err))
	}
	return s, nil
}

func listen(address string) (*Socket, error) {
	var control net.ListenConfig
	control.Control = func(_, _ string, raw syscall.RawConn) error {
		var err error
		if ctlErr := raw.Control(func(fd uintptr) { err = setOptions(int(fd)) }); ctlErr != nil {
			return ctlErr
		}
		return err
	}
	pc, err := control.ListenPacket(context.Background(), "udp", address)
	if err != nil {
		return nil, err
	}
	conn := pc.(*net.UDPConn)
	defer conn.Close() // it takes the socket out of the runtime's poller
	// The kernel's own limits stand where these are refused.
	_ = conn.SetReadBuffer(socketBuffer)
	_ = conn.SetWriteBuffer(socketBuffer)
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	if ctlErr := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); ctlErr != nil {
		return nil, ctlErr
	}
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	local := conn.LocalAddr().(*net.UDPAddr)
	s := &Socket{v6: local.IP.To4() == nil, local: local.AddrPort()}
	if s.file, err = rawio.NewFile(fd, "UDP socket"); err != nil {
		return nil, err
	}
	s.in.try = func(fd uintptr) bool { return s.in.call(unix.SYS_RECVMSG, fd) }
	s.out.try = func(fd uintptr) { s.out.call(unix.SYS_SENDMSG, fd) }
	return s, nil
}

// explain adds the next step to the errors that a person meets.
func explain(err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w: another program (or another agent) has the port; set mesh.listen to a free one", err)
	}
	return err
}

func setOptions(fd int) error {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return os.NewSyscallError("getsockopt SO_DOMAIN", err)
	}
	// PMTUDISC_WANT lets the kernel fragment where an uplink is narrower than
	// a relayed packet (reference: ip(7), ipv6(7)).
	if domain == unix.AF_INET6 {
		err = errors.Join(
			unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1),
			unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_WANT),
			unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_WANT))
	} else {
		err = errors.Join(
			unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1),
			unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_WANT))
	}
	return os.NewSyscallError("setsockopt", err)
}

// LocalAddr returns the address the socket is bound to; its IP is unspecified
// for a wildcard socket.
func (s *Socket) LocalAddr() netip.AddrPort {
	return netip.AddrPortFrom(s.local.Addr().Unmap(), s.local.Port())
}

// Close closes the socket; a blocked ReadFrom returns net.ErrClosed.
func (s *Socket) Close() error { return s.file.Close() }

// SetReadDeadline makes ReadFrom fail with os.ErrDeadlineExceeded from t on.
func (s *Socket) SetReadDeadline(t time.Time) error { return s.file.SetReadDeadline(t) }

// ReadFrom waits for one datagram and returns its length, its source, the
// local address it was sent to (invalid where the kernel did not say) and the
// index of the interface that it came in by (0 likewise). A longer datagram than
// b is cut. IPv4 addresses come unmapped. It fails only with net.ErrClosed,
// os.ErrDeadlineExceeded or an error of the socket itself.
func (s *Socket) ReadFrom(b []byte) (n int, from netip.AddrPort, local netip.Addr, link int, err error) {
	s.in.mu.Lock()
	defer s.in.mu.Unlock()
	n, oobn, err := s.in.receive(s.file, b)
	if err != nil {
		return 0, netip.AddrPort{}, netip.Addr{}, 0, err
	}
	local, link = arrival(s.in.oob[:oobn])
	return n, s.in.from(&s.zones), local, link, nil
}

// WriteTo sends one datagram. A valid local address is the source to send
// from; where it is not ours any more the datagram is sent from the address
// that the kernel prefers. It never waits: where the kernel has no room the
// datagram is lost and the error says so (syscall.EAGAIN).
func (s *Socket) WriteTo(b []byte, to netip.AddrPort, local netip.Addr) error {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	addr, err := s.out.to(to, s.v6, &s.zones)
	if err != nil {
		return fmt.Errorf("send to %v: %w", to, err)
	}
	if local.IsValid() {
		oob := s.pin(s.out.oob[:0], local)
		err = s.out.send(s.file, b, addr, len(oob))
		if !sourceGone(err) {
			return err
		}
	}
	return s.out.send(s.file, b, addr, 0)
}

// WriteFrom sends one datagram from a local address, or not at all.
func (s *Socket) WriteFrom(b []byte, to netip.AddrPort, local netip.Addr) error {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	addr, err := s.out.to(to, s.v6, &s.zones)
	if err != nil {
		return fmt.Errorf("send to %v: %w", to, err)
	}
	return s.out.send(s.file, b, addr, len(s.pin(s.out.oob[:0], local)))
}

// sourceGone tells that the kernel will not send from this address.
func sourceGone(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH)
}

// SetMark gives every datagram sent from now on a firewall mark, SO_MARK of
// socket(7); 0 takes it away. It needs CAP_NET_ADMIN, or CAP_NET_RAW from Linux
// 5.17 on; without, the error unwraps to os.ErrPermission.
func (s *Socket) SetMark(mark uint32) error {
	var err error
	if closed := s.file.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(mark)) }); closed != nil {
		return closed
	}
	if err == nil {
		s.mark.Store(mark)
	}
	return os.NewSyscallError("setsockopt SO_MARK", err)
}

// Layout of a control message: cmsg_len, cmsg_level, cmsg_type, data; see
// cmsg(3). in_pktinfo is ifindex, spec_dst, addr; in6_pktinfo is addr, ifindex.
var (
	pktinfo4Len = unix.CmsgLen(unix.SizeofInet4Pktinfo)
	pktinfo6Len = unix.CmsgLen(unix.SizeofInet6Pktinfo)
	cmsgHeader  = unix.CmsgLen(0)
)

// arrival reads where a datagram came in: our address, and the interface.
func arrival(oob []byte) (local netip.Addr, link int) {
	for len(oob) >= cmsgHeader {
		length := int(cmsgWord(oob))
		if length < cmsgHeader || length > len(oob) {
			break
		}
		level := int32(binary.NativeEndian.Uint32(oob[cmsgHeader-8:]))
		typ := int32(binary.NativeEndian.Uint32(oob[cmsgHeader-4:]))
		data := oob[cmsgHeader:length]
		switch {
		case level == unix.IPPROTO_IP && typ == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			return netip.AddrFrom4([4]byte(data[8:12])), int(binary.NativeEndian.Uint32(data))
		case level == unix.IPPROTO_IPV6 && typ == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			return netip.AddrFrom16([16]byte(data[:16])).Unmap(), int(binary.NativeEndian.Uint32(data[16:]))
		}
		step := unix.CmsgSpace(length - cmsgHeader)
		if step >= len(oob) {
			break
		}
		oob = oob[step:]
	}
	return netip.Addr{}, 0
}

func (s *Socket) pin(oob []byte, local netip.Addr) []byte {
	if s.v6 {
		oob = oob[:unix.CmsgSpace(unix.SizeofInet6Pktinfo)]
		putCmsg(oob, pktinfo6Len, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO)
		a := local.As16()
		copy(oob[cmsgHeader:], a[:])
		return oob
	}
	oob = oob[:unix.CmsgSpace(unix.SizeofInet4Pktinfo)]
	putCmsg(oob, pktinfo4Len, unix.IPPROTO_IP, unix.IP_PKTINFO)
	a := local.Unmap().As4()
	copy(oob[cmsgHeader+4:], a[:]) // ipi_spec_dst is the source to use, ip(7)
	return oob
}

func putCmsg(oob []byte, length int, level, typ int32) {
	clear(oob)
	if cmsgHeader == 16 {
		binary.NativeEndian.PutUint64(oob, uint64(length))
	} else {
		binary.NativeEndian.PutUint32(oob, uint32(length))
	}
	binary.NativeEndian.PutUint32(oob[cmsgHeader-8:], uint32(level))
	binary.NativeEndian.PutUint32(oob[cmsgHeader-4:], uint32(typ))
}

func cmsgWord(oob []byte) uint64 {
	if cmsgHeader == 16 {
		return binary.NativeEndian.Uint64(oob)
	}
	return uint64(binary.NativeEndian.Uint32(oob))
}
