package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/tests/internal/vm/wire"
)

// setUpNetwork sets lo and the interfaces up and gives them what they shall
// have, by rtnetlink(7).
func setUpNetwork(interfaces []wire.Interface) error {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	if err := setLinkUp(lo.Index); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	for _, want := range interfaces {
		if err := setUpInterface(want); err != nil {
			return fmt.Errorf("set up interface %s: %w", want.MAC, err)
		}
	}
	return nil
}

func setUpInterface(want wire.Interface) error {
	var index int
	err := waitFor("the interface", func() error {
		all, err := net.Interfaces()
		for _, i := range all {
			if i.HardwareAddr.String() == want.MAC {
				index = i.Index
				return nil
			}
		}
		return errors.Join(err, errors.New("no interface has this address"))
	})
	if err != nil {
		return err
	}
	if name := fmt.Sprintf("/proc/sys/net/ipv6/conf/%d", index); want.Address.IsValid() {
		_ = os.WriteFile(name+"/accept_ra", []byte("0"), 0)
	}
	if err := setLinkUp(index); err != nil {
		return err
	}
	if !want.Address.IsValid() {
		return nil
	}
	if err := addAddress(index, want.Address); err != nil || !want.Gateway.IsValid() {
		return err
	}
	return addDefaultRoute(want.Gateway)
}

func setLinkUp(index int) error {
	b := []byte{unix.AF_UNSPEC, 0, 0, 0} // struct ifinfomsg: family, type
	b = binary.NativeEndian.AppendUint32(b, uint32(index))
	b = binary.NativeEndian.AppendUint32(b, unix.IFF_UP) // flags
	b = binary.NativeEndian.AppendUint32(b, unix.IFF_UP) // change
	return netlink(unix.RTM_NEWLINK, 0, b)
}

func addAddress(index int, address netip.Prefix) error {
	b := []byte{family(address.Addr()), byte(address.Bits()), 0, unix.RT_SCOPE_UNIVERSE} // struct ifaddrmsg
	b = binary.NativeEndian.AppendUint32(b, uint32(index))
	b = appendAttribute(b, unix.IFA_LOCAL, address.Addr().AsSlice())
	b = appendAttribute(b, unix.IFA_ADDRESS, address.Addr().AsSlice())
	return netlink(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, b)
}

func addDefaultRoute(gateway netip.Addr) error {
	// struct rtmsg: family, lengths, tos, table, protocol, scope, type, flags
	b := []byte{family(gateway), 0, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST, 0, 0, 0, 0}
	return netlink(unix.RTM_NEWROUTE, unix.NLM_F_CREATE, appendAttribute(b, unix.RTA_GATEWAY, gateway.AsSlice()))
}

func family(address netip.Addr) byte {
	if address.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// appendAttribute appends a struct rtattr; lengths here are multiples of 4.
func appendAttribute(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(4+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	return append(b, value...)
}

// netlink sends one request and returns the kernel's error.
func netlink(kind, flags uint16, body []byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	message := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	message = binary.NativeEndian.AppendUint16(message, kind)
	message = binary.NativeEndian.AppendUint16(message, flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	message = append(message, make([]byte, 8)...) // sequence and port: any
	if err := unix.Sendto(fd, append(message, body...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return err
	}
	if n < unix.SizeofNlMsghdr+4 {
		return errors.New("netlink: short answer")
	}
	if code := int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:])); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}
