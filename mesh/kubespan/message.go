package kubespan

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// errMessage says that a datagram is not made as rtnetlink(7) says.
var errMessage = errors.New("malformed rtnetlink message")

// message is one rtnetlink message as far as it concerns us; kind says which of
// the fields below it holds.
type message struct {
	kind uint16 // RTM_NEWLINK, RTM_DELLINK, RTM_NEWADDR, RTM_DELADDR, RTM_NEWRULE, RTM_NEWROUTE, NLMSG_DONE, NLMSG_ERROR
	seq  uint32

	link   link          // RTM_*LINK
	index  int           // RTM_*ADDR, RTM_NEWROUTE: the link
	addr   netip.Prefix  // RTM_*ADDR: our address, with its prefix length
	talos  bool          // RTM_NEWRULE: it is KubeSpan's
	status syscall.Errno // NLMSG_ERROR, NLMSG_DONE; 0: none
	torn   bool          // the table changed during the dump: ask again
}

// attribute types of linux/if_link.h, linux/if_addr.h, linux/fib_rules.h that
// golang.org/x/sys/unix has no names for, or has them elsewhere.
const (
	attrTypeMask = 0x3fff // without NLA_F_NESTED and NLA_F_NET_BYTEORDER

	fibRuleHeaderLen = 12
	fraFwmark        = 10
	fraTable         = 15
	fraFwmask        = 16
)

// parse reads a datagram of rtnetlink messages, skipping kinds that do not
// concern us. Layouts: netlink(7), rtnetlink(7); native byte order throughout.
func parse(b []byte) ([]message, error) {
	var all []message
	for len(b) > 0 {
		if len(b) < unix.SizeofNlMsghdr {
			return nil, errMessage
		}
		length := int(binary.NativeEndian.Uint32(b))
		if length < unix.SizeofNlMsghdr || length > len(b) {
			return nil, errMessage
		}
		m := message{
			kind: binary.NativeEndian.Uint16(b[4:]),
			torn: binary.NativeEndian.Uint16(b[6:])&unix.NLM_F_DUMP_INTR != 0,
			seq:  binary.NativeEndian.Uint32(b[8:]),
		}
		known, err := m.parseBody(b[unix.SizeofNlMsghdr:length])
		if err != nil {
			return nil, err
		}
		if known {
			all = append(all, m)
		}
		b = b[min(align(length), len(b)):]
	}
	return all, nil
}

// align rounds up to the 4 bytes of messages and attributes.
func align(n int) int { return (n + 3) &^ 3 }

func (m *message) parseBody(b []byte) (known bool, err error) {
	switch m.kind {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		return true, m.parseLink(b)
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		return true, m.parseAddr(b)
	case unix.RTM_NEWRULE:
		return true, m.parseRule(b)
	case unix.RTM_NEWROUTE:
		return true, m.parseRoute(b)
	case unix.NLMSG_ERROR:
		if len(b) < 4 {
			return false, errMessage
		}
		m.status = errnoOf(b)
		return true, nil
	case unix.NLMSG_DONE:
		if len(b) >= 4 {
			m.status = errnoOf(b)
		}
		return true, nil
	}
	return false, nil
}

// errnoOf reads a status: 0 or a negative error number.
func errnoOf(b []byte) syscall.Errno {
	if n := int64(int32(binary.NativeEndian.Uint32(b))); n < 0 {
		return syscall.Errno(-n)
	}
	return 0
}

// parseLink reads struct ifinfomsg: family (1), pad (1), type (2), index (4),
// flags (4), change (4).
func (m *message) parseLink(b []byte) error {
	if len(b) < unix.SizeofIfInfomsg {
		return errMessage
	}
	m.link.index = int(int32(binary.NativeEndian.Uint32(b[4:])))
	return eachAttribute(b[unix.SizeofIfInfomsg:], func(kind uint16, v []byte) error {
		switch {
		case kind == unix.IFLA_IFNAME:
			m.link.name = unix.ByteSliceToString(v)
		case kind == unix.IFLA_MTU && len(v) == 4:
			m.link.mtu = int(int32(binary.NativeEndian.Uint32(v)))
		case kind == unix.IFLA_OPERSTATE && len(v) == 1:
			m.link.oper = v[0]
		case kind == unix.IFLA_LINKINFO:
			return eachAttribute(v, func(kind uint16, v []byte) error {
				if kind == unix.IFLA_INFO_KIND {
					m.link.kind = unix.ByteSliceToString(v)
				}
				return nil
			})
		}
		return nil
	})
}

// parseAddr reads struct ifaddrmsg: family (1), prefix length (1), flags (1),
// scope (1), index (4). On a point-to-point link IFA_ADDRESS is the peer's and
// IFA_LOCAL ours.
func (m *message) parseAddr(b []byte) error {
	if len(b) < unix.SizeofIfAddrmsg {
		return errMessage
	}
	m.index = int(int32(binary.NativeEndian.Uint32(b[4:])))
	var local, address netip.Addr
	err := eachAttribute(b[unix.SizeofIfAddrmsg:], func(kind uint16, v []byte) error {
		switch kind {
		case unix.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(v)
		case unix.IFA_ADDRESS:
			address, _ = netip.AddrFromSlice(v)
		}
		return nil
	})
	if !local.IsValid() {
		local = address
	}
	if local.IsValid() && int(b[1]) <= local.BitLen() {
		m.addr = netip.PrefixFrom(local, int(b[1]))
	}
	return err
}

// parseRule reads struct fib_rule_hdr, whose fifth byte is the table where that
// fits a byte. KubeSpan's rule is told by its mark and table, not by its
// priority, which older versions of Talos chose freely.
func (m *message) parseRule(b []byte) error {
	if len(b) < fibRuleHeaderLen {
		return errMessage
	}
	table := uint32(b[4])
	var mark, mask uint32
	err := eachAttribute(b[fibRuleHeaderLen:], func(kind uint16, v []byte) error {
		if len(v) != 4 {
			return nil
		}
		switch n := binary.NativeEndian.Uint32(v); kind {
		case fraFwmark:
			mark = n
		case fraFwmask:
			mask = n
		case fraTable:
			table = n
		}
		return nil
	})
	m.talos = mark == forceMark && mask == forceMask && table == forceTable
	return err
}

// parseRoute reads struct rtmsg, of which nothing concerns us, and its RTA_OIF.
func (m *message) parseRoute(b []byte) error {
	if len(b) < unix.SizeofRtMsg {
		return errMessage
	}
	return eachAttribute(b[unix.SizeofRtMsg:], func(kind uint16, v []byte) error {
		if kind == unix.RTA_OIF && len(v) == 4 {
			m.index = int(int32(binary.NativeEndian.Uint32(v)))
		}
		return nil
	})
}

// What Talos's routing rule looks like (siderolabs/talos
// pkg/machinery/constants/constants.go).
const (
	bypassMark = 0x20 // of the bits in forceMask
	forceMark  = 0x40
	forceMask  = 0x60
	forceTable = 180
)

// eachAttribute visits attributes: length (2), type (2), value, padded to 4.
func eachAttribute(b []byte, visit func(kind uint16, value []byte) error) error {
	for len(b) > 0 {
		if len(b) < unix.SizeofRtAttr {
			return errMessage
		}
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.SizeofRtAttr || length > len(b) {
			return errMessage
		}
		if err := visit(binary.NativeEndian.Uint16(b[2:])&attrTypeMask, b[unix.SizeofRtAttr:length]); err != nil {
			return err
		}
		b = b[min(align(length), len(b)):]
	}
	return nil
}

// request makes a message with a header of one family and attributes.
func request(kind, flags uint16, seq uint32, header []byte, attributes ...[]byte) []byte {
	b := make([]byte, unix.SizeofNlMsghdr, 64)
	b = append(b, header...)
	for _, a := range attributes {
		b = append(b, a...)
	}
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|flags)
	binary.NativeEndian.PutUint32(b[8:], seq)
	return b
}

// attribute makes one, padded.
func attribute(kind uint16, value []byte) []byte {
	b := make([]byte, align(unix.SizeofRtAttr+len(value)))
	binary.NativeEndian.PutUint16(b, uint16(unix.SizeofRtAttr+len(value)))
	binary.NativeEndian.PutUint16(b[2:], kind)
	copy(b[unix.SizeofRtAttr:], value)
	return b
}
