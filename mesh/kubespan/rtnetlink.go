package kubespan

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// receiveLen holds any datagram of the kernel: dumps use 32 KiB at most
	// (NLMSG_GOODSIZE, max_recvmsg_len in net/netlink/af_netlink.c).
	receiveLen = 64 << 10
	// skipStatsFlag is RTEXT_FILTER_SKIP_STATS of linux/rtnetlink.h.
	skipStatsFlag = 1 << 3
	// dumpTries bounds how often a dump is asked for again because the table
	// changed meanwhile.
	dumpTries = 4
)

// answerTimeout is for a kernel that does not answer; it does so before the
// request's send returns.
var answerTimeout = unix.Timeval{Sec: 2}

// rtnetlink asks the kernel about links, addresses and rules. Not safe for
// concurrent use; it opens its socket at the first use.
type rtnetlink struct {
	fd     int // 0: closed
	seq    uint32
	buffer []byte
}

func (n *rtnetlink) open() error {
	if n.fd != 0 {
		return nil
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &answerTimeout); err != nil {
		_ = unix.Close(fd)
		return os.NewSyscallError("setsockopt", err)
	}
	// Kernels before 4.20 know no strict checks and dump more than was asked
	// for; what does not concern us is skipped either way.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
	n.fd = fd
	if n.buffer == nil {
		n.buffer = make([]byte, receiveLen)
	}
	return nil
}

func (n *rtnetlink) close() {
	if n.fd != 0 {
		_ = unix.Close(n.fd)
		n.fd = 0
	}
}

// link returns the link of this name; ok is false if there is none.
func (n *rtnetlink) link(name string) (l link, ok bool, err error) {
	header := make([]byte, unix.SizeofIfInfomsg)
	var skipStats [4]byte
	binary.NativeEndian.PutUint32(skipStats[:], skipStatsFlag)
	err = n.ask(unix.RTM_GETLINK, 0, func(m message) {
		if m.kind == unix.RTM_NEWLINK && m.link.name == name { // the kernel finds alternative names, too
			l, ok = m.link, true
		}
	}, header, attribute(unix.IFLA_IFNAME, append([]byte(name), 0)), attribute(unix.IFLA_EXT_MASK, skipStats[:]))
	if errors.Is(err, unix.ENODEV) {
		return link{}, false, nil
	}
	return l, ok, err
}

// addresses returns the IPv6 addresses of a link.
func (n *rtnetlink) addresses(index int) ([]netip.Prefix, error) {
	header := make([]byte, unix.SizeofIfAddrmsg)
	header[0] = unix.AF_INET6
	binary.NativeEndian.PutUint32(header[4:], uint32(index))
	var all []netip.Prefix
	err := n.dump(unix.RTM_GETADDR, func() { all = nil }, func(m message) {
		if m.kind == unix.RTM_NEWADDR && m.index == index && m.addr.IsValid() {
			all = append(all, m.addr)
		}
	}, header)
	return all, err
}

// rule reports whether Talos's routing rule for IPv4 or IPv6 exists.
func (n *rtnetlink) rule() (bool, error) {
	found := false
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		header := make([]byte, fibRuleHeaderLen)
		header[0] = family
		err := n.dump(unix.RTM_GETRULE, func() {}, func(m message) { found = found || m.talos }, header)
		if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EOPNOTSUPP) {
			return found, err
		}
	}
	return found, nil
}

// route returns the index of the link that packets with this mark leave by for
// an address; 0 if they leave nowhere.
func (n *rtnetlink) route(to netip.Addr, mark uint32) (index int, err error) {
	header := make([]byte, unix.SizeofRtMsg)
	header[0], header[1] = unix.AF_INET, byte(to.BitLen())
	if to.Is6() {
		header[0] = unix.AF_INET6
	}
	var text [4]byte
	binary.NativeEndian.PutUint32(text[:], mark)
	err = n.ask(unix.RTM_GETROUTE, 0, func(m message) {
		if m.kind == unix.RTM_NEWROUTE {
			index = m.index
		}
	}, header, attribute(unix.RTA_DST, to.AsSlice()), attribute(unix.RTA_MARK, text[:]))
	var refused syscall.Errno
	if errors.As(err, &refused) {
		return 0, nil // ENETUNREACH and its like
	}
	return index, err
}

// tunnelKinds are the kinds of link that carry packets inside others.
var tunnelKinds = map[string]bool{
	"wireguard": true, "tun": true, "ipip": true, "sit": true, "gre": true, "ip6gre": true, "ip6tnl": true, "vti": true, "vti6": true, "xfrm": true,
}

// tunnel returns the name of the tunnel that packets which bypass the KubeSpan
// leave by for an address; empty: they leave by none.
func (n *rtnetlink) tunnel(to netip.Addr) (string, error) {
	index, err := n.route(to, bypassMark)
	if err != nil || index == 0 {
		return "", err
	}
	header := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(header[4:], uint32(index))
	var l link
	err = n.ask(unix.RTM_GETLINK, 0, func(m message) {
		if m.kind == unix.RTM_NEWLINK {
			l = m.link
		}
	}, header)
	if err != nil || !tunnelKinds[l.kind] {
		return "", err
	}
	return l.name, nil
}

// errTorn: the table changed during the dump.
var errTorn = errors.New("table changes too fast")

func (n *rtnetlink) dump(kind uint16, reset func(), visit func(message), header []byte) error {
	for range dumpTries {
		reset()
		torn := false
		err := n.ask(kind, unix.NLM_F_DUMP, func(m message) {
			torn = torn || m.torn
			visit(m)
		}, header)
		if err != nil || !torn {
			return err
		}
	}
	return errTorn
}

// ask sends a request and visits the messages of the answer: all of a dump, one
// otherwise. After an error the socket is closed: what is left in it belongs to
// no request.
func (n *rtnetlink) ask(kind, flags uint16, visit func(message), header []byte, attributes ...[]byte) error {
	if err := n.open(); err != nil {
		return err
	}
	n.seq++
	done, err := false, unix.Sendto(n.fd, request(kind, flags, n.seq, header, attributes...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	for err == nil && !done {
		done, err = n.receive(flags&unix.NLM_F_DUMP != 0, visit)
	}
	var refused refusal
	switch {
	case errors.As(err, &refused):
		return syscall.Errno(refused)
	case err != nil:
		n.close()
		return fmt.Errorf("ask rtnetlink: %w", err)
	}
	return nil
}

// refusal is the kernel's answer to a request, as opposed to an error of the
// socket.
type refusal syscall.Errno

func (r refusal) Error() string { return syscall.Errno(r).Error() }

func (n *rtnetlink) receive(dump bool, visit func(message)) (done bool, err error) {
	size, from, err := unix.Recvfrom(n.fd, n.buffer, unix.MSG_TRUNC)
	if errors.Is(err, unix.EINTR) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if size > len(n.buffer) {
		return false, unix.EMSGSIZE
	}
	if !fromKernel(from) {
		return false, nil
	}
	all, err := parse(n.buffer[:size])
	if err != nil {
		return false, err
	}
	for _, m := range all {
		if m.seq != n.seq {
			continue
		}
		switch {
		case m.kind == unix.NLMSG_ERROR || m.kind == unix.NLMSG_DONE:
			if m.status != 0 {
				return true, refusal(m.status)
			}
			visit(m) // the end of a dump may say that it is torn
			return true, nil
		default:
			visit(m)
			done = done || !dump
		}
	}
	return done, nil
}

func fromKernel(from unix.Sockaddr) bool {
	a, ok := from.(*unix.SockaddrNetlink)
	return ok && a.Pid == 0
}

// notifications is a socket on which the kernel tells of changes.
type notifications struct {
	file  *os.File
	raw   syscall.RawConn
	name  string       // of the link that concerns us
	index atomic.Int64 // of the same; 0: not there
}

func newNotifications(name string) (*notifications, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	groups := uint32(unix.RTMGRP_LINK | unix.RTMGRP_IPV6_IFADDR)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	n := &notifications{file: os.NewFile(uintptr(fd), "rtnetlink"), name: name}
	if n.raw, err = n.file.SyscallConn(); err != nil {
		_ = n.file.Close()
		return nil, err
	}
	return n, nil
}

// next waits for a datagram and reports whether anything in it concerns us. It
// fails for good, with os.ErrClosed after close.
func (n *notifications) next(buffer []byte) (bool, error) {
	var size int
	var from unix.Sockaddr
	var err error
	if rawErr := n.raw.Read(func(fd uintptr) bool {
		size, from, err = unix.Recvfrom(int(fd), buffer, unix.MSG_TRUNC)
		return !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR)
	}); rawErr != nil {
		return false, rawErr
	}
	switch {
	case errors.Is(err, unix.ENOBUFS): // the queue ran over: anything may have changed
		return true, nil
	case err != nil:
		return false, os.NewSyscallError("recvfrom", err)
	case !fromKernel(from):
		return false, nil
	case size > len(buffer):
		return true, nil
	}
	all, err := parse(buffer[:size])
	if err != nil {
		return true, nil // not understood: look for ourselves
	}
	index := int(n.index.Load())
	for _, m := range all {
		if m.link.name == n.name || index != 0 && (m.link.index == index || m.index == index) {
			return true, nil
		}
	}
	return false, nil
}

func (n *notifications) close() { _ = n.file.Close() }
