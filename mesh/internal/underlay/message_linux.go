package underlay

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/mesh/rawio"
)

// message is what recvmsg and sendmsg fill in and read, kept between calls so
// that a datagram allocates nothing. The descriptor never blocks, so the calls
// go past the scheduler: one that is told of a system call after a moment of
// idleness wakes the runtime's monitor thread, which cost more than the call.
type message struct {
	mu    sync.Mutex
	hdr   unix.Msghdr
	iov   unix.Iovec
	addr  unix.RawSockaddrInet6 // has room for an RawSockaddrInet4 too
	oob   [64]byte
	n     int
	errno syscall.Errno
}

// aim points the header at the buffers. The caller keeps b alive and unmoved,
// which it does by having it on the heap: message refers to it.
func (m *message) aim(b []byte, addr, oob int) {
	m.iov.Base = unsafe.SliceData(b)
	m.iov.SetLen(len(b))
	m.hdr = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&m.addr)), Namelen: uint32(addr), Iov: &m.iov}
	m.hdr.SetIovlen(1)
	if oob > 0 {
		m.hdr.Control = &m.oob[0]
		m.hdr.SetControllen(oob)
	}
}

// release forgets the caller's buffer.
func (m *message) release() { m.iov.Base = nil }

// call makes the system call; false means that it would block.
func (m *message) call(trap, fd uintptr) bool {
	for {
		n, _, errno := syscall.RawSyscall(trap, fd, uintptr(unsafe.Pointer(&m.hdr)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if errno == unix.EINTR {
			continue
		}
		m.n, m.errno = int(n), errno
		return errno != unix.EAGAIN
	}
}

// inbound receives, one at a time.
type inbound struct {
	message
	try func(fd uintptr) bool // made once
}

// receive waits for a datagram; its source is in m.addr.
func (m *inbound) receive(file *rawio.File, b []byte) (n, oobn int, err error) {
	m.aim(b, unix.SizeofSockaddrInet6, len(m.oob))
	err = file.Read(m.try)
	m.release()
	switch {
	case err != nil:
		return 0, 0, err
	case m.errno != 0:
		return 0, 0, m.errno
	}
	return m.n, int(m.hdr.Controllen), nil
}

// outbound sends, one at a time.
type outbound struct {
	message
	try func(fd uintptr) // made once
}

// send hands one datagram to the kernel or fails at once.
func (m *outbound) send(file *rawio.File, b []byte, addr, oob int) error {
	m.aim(b, addr, oob)
	err := file.Control(m.try)
	m.release()
	switch {
	case err != nil:
		return err
	case m.errno != 0:
		return m.errno
	}
	return nil
}

// from returns the source address of the datagram received last.
func (m *message) from(zones *zones) netip.AddrPort {
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&m.addr.Port))[:])
	if m.addr.Family == unix.AF_INET {
		a := (*unix.RawSockaddrInet4)(unsafe.Pointer(&m.addr))
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), port)
	}
	addr := netip.AddrFrom16(m.addr.Addr).Unmap()
	if m.addr.Scope_id != 0 {
		addr = addr.WithZone(zones.name(int(m.addr.Scope_id)))
	}
	return netip.AddrPortFrom(addr, port)
}

// errFamily is for an IPv6 address on a socket that has only IPv4.
var errFamily = errors.New("not an IPv4 address")

// to sets the destination and returns the length of the socket address.
func (m *message) to(to netip.AddrPort, v6 bool, zones *zones) (int, error) {
	if !v6 {
		if !to.Addr().Unmap().Is4() {
			return 0, errFamily
		}
		a := (*unix.RawSockaddrInet4)(unsafe.Pointer(&m.addr))
		*a = unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: to.Addr().Unmap().As4()}
		binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&a.Port))[:], to.Port())
		return unix.SizeofSockaddrInet4, nil
	}
	m.addr = unix.RawSockaddrInet6{Family: unix.AF_INET6, Addr: to.Addr().As16()}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&m.addr.Port))[:], to.Port())
	if zone := to.Addr().Zone(); zone != "" {
		m.addr.Scope_id = uint32(zones.index(zone))
	}
	return unix.SizeofSockaddrInet6, nil
}

// zones remembers the names of interfaces for a while, as package net does:
// asking the kernel takes longer than sending.
type zones struct {
	mu      sync.Mutex
	asked   time.Time // monotonic
	byIndex map[int]string
	byName  map[string]int
}

// zonesFor is how long a name is believed.
const zonesFor = time.Minute

func (z *zones) refresh() {
	if z.byName != nil && time.Since(z.asked) < zonesFor {
		return
	}
	z.asked, z.byIndex, z.byName = time.Now(), make(map[int]string), make(map[string]int)
	links, err := net.Interfaces()
	if err != nil {
		return // the indices do as well
	}
	for _, link := range links {
		z.byIndex[link.Index], z.byName[link.Name] = link.Name, link.Index
	}
}

func (z *zones) name(index int) string {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.refresh()
	if name, ok := z.byIndex[index]; ok {
		return name
	}
	return strconv.Itoa(index)
}

func (z *zones) index(name string) int {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.refresh()
	if index, ok := z.byName[name]; ok {
		return index
	}
	index, _ := strconv.Atoi(name)
	return index
}
