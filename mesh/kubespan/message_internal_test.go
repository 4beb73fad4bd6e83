package kubespan

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// golden reads a datagram as the kernel sent it.
func golden(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	b, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// linkMessage makes what the kernel says of a link.
func linkMessage(kind uint16, l link) []byte {
	header := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(header[4:], uint32(l.index))
	mtu := binary.NativeEndian.AppendUint32(nil, uint32(l.mtu))
	attributes := [][]byte{
		attribute(unix.IFLA_IFNAME, append([]byte(l.name), 0)),
		attribute(unix.IFLA_MTU, mtu),
		attribute(unix.IFLA_OPERSTATE, []byte{l.oper}),
	}
	if l.kind != "" {
		info := append(attribute(unix.IFLA_INFO_KIND, append([]byte(l.kind), 0)), attribute(unix.IFLA_INFO_DATA, nil)...)
		attributes = append(attributes, attribute(unix.IFLA_LINKINFO|unix.NLA_F_NESTED, info))
	}
	return request(kind, 0, 7, header, attributes...)
}

func TestParse(t *testing.T) {
	const flags = uint16(unix.NLM_F_DUMP_INTR)
	wg := link{index: 9, name: "kubespan", kind: "wireguard", mtu: 1420}
	status := func(n int32) []byte { return binary.NativeEndian.AppendUint32(nil, uint32(n)) }
	address := func(local, peer string) []byte {
		header := []byte{unix.AF_INET6, 64, 0, 0, 0, 0, 0, 0}
		binary.NativeEndian.PutUint32(header[4:], 9)
		var attributes [][]byte
		if local != "" {
			attributes = append(attributes, attribute(unix.IFA_LOCAL, netip.MustParseAddr(local).AsSlice()))
		}
		attributes = append(attributes, attribute(unix.IFA_ADDRESS, netip.MustParseAddr(peer).AsSlice()))
		return request(unix.RTM_NEWADDR, 0, 7, header, attributes...)
	}
	for name, row := range map[string]struct {
		in   []byte
		want []message
	}{
		"nothing":         {},
		"link":            {linkMessage(unix.RTM_NEWLINK, wg), []message{{kind: unix.RTM_NEWLINK, seq: 7, link: wg}}},
		"hardware":        {linkMessage(unix.RTM_DELLINK, link{index: 2, name: "eth0", oper: 6}), []message{{kind: unix.RTM_DELLINK, seq: 7, link: link{index: 2, name: "eth0", oper: 6}}}},
		"address":         {address("", "fd00::1"), []message{{kind: unix.RTM_NEWADDR, seq: 7, index: 9, addr: netip.MustParsePrefix("fd00::1/64")}}},
		"point to point":  {address("fd00::1", "fd00::2"), []message{{kind: unix.RTM_NEWADDR, seq: 7, index: 9, addr: netip.MustParsePrefix("fd00::1/64")}}},
		"another kind":    {request(unix.RTM_NEWNEIGH, 0, 7, make([]byte, 12)), nil},
		"acknowledgement": {request(unix.NLMSG_ERROR, 0, 7, status(0)), []message{{kind: unix.NLMSG_ERROR, seq: 7}}},
		"refusal":         {request(unix.NLMSG_ERROR, 0, 7, status(-int32(unix.ENODEV))), []message{{kind: unix.NLMSG_ERROR, seq: 7, status: unix.ENODEV}}},
		"torn end":        {request(unix.NLMSG_DONE, flags, 7, status(0)), []message{{kind: unix.NLMSG_DONE, seq: 7, torn: true}}},
		"two": {append(request(unix.NLMSG_NOOP, 0, 1, nil), request(unix.NLMSG_DONE, 0, 7, nil)...),
			[]message{{kind: unix.NLMSG_DONE, seq: 7}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parse(row.in)
			if err != nil || !reflect.DeepEqual(got, row.want) {
				t.Errorf("%+v, %v; want %+v", got, err, row.want)
			}
			for cut := 1; cut < len(row.in); cut++ {
				if _, err := parse(row.in[:cut]); err == nil && cut%4 != 0 {
					t.Errorf("cut after %d bytes: no error", cut)
				}
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	short := func(kind uint16, length int) []byte { return request(kind, 0, 1, make([]byte, length)) }
	endless := linkMessage(unix.RTM_NEWLINK, link{name: "kubespan"})
	binary.NativeEndian.PutUint16(endless[32:], 0) // an attribute of no length
	beyond := linkMessage(unix.RTM_NEWLINK, link{name: "kubespan"})
	binary.NativeEndian.PutUint16(beyond[32:], 4000)
	empty := make([]byte, 16) // a message of no length
	for name, in := range map[string][]byte{
		"half a header": make([]byte, 10), "message of length 0": empty, "short link": short(unix.RTM_NEWLINK, 12),
		"short address": short(unix.RTM_NEWADDR, 4), "short rule": short(unix.RTM_NEWRULE, 8),
		"short error": short(unix.NLMSG_ERROR, 0), "attribute of length 0": endless, "attribute beyond the end": beyond,
	} {
		if got, err := parse(in); err == nil {
			t.Errorf("%s: %+v, want an error", name, got)
		}
	}
}

// TestParseGolden reads what a kernel (6.18, amd64) sent of a veth named
// kubespan, of its addresses and of the routing rules that Talos sets.
func TestParseGolden(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the bytes are of a little-endian machine")
	}
	var links, addrs, rules []string
	for _, name := range []string{"link.hex", "addresses.hex", "rules.hex"} {
		all, err := parse(golden(t, name))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, m := range all {
			switch m.kind {
			case unix.RTM_NEWLINK:
				links = append(links, m.link.name, m.link.kind)
				if m.link.mtu != 1420 || m.link.oper != operUp {
					t.Errorf("link %+v", m.link)
				}
			case unix.RTM_NEWADDR:
				addrs = append(addrs, m.addr.String())
			case unix.RTM_NEWRULE:
				rules = append(rules, map[bool]string{true: "talos", false: "other"}[m.talos])
			}
		}
	}
	for _, row := range []struct{ got, want []string }{
		{links, []string{"kubespan", "veth"}},
		{addrs, []string{"2001:db8::1/128", "fd7f:175a:b97c:5602:2c1a:b6ff:fe53:8169/64"}},
		{rules, []string{"other", "talos", "other", "other"}},
	} {
		if !reflect.DeepEqual(row.got, row.want) {
			t.Errorf("%q, want %q", row.got, row.want)
		}
	}
}

// FuzzParse: no panic, no endless loop, no more messages than fit.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"link.hex", "addresses.hex", "rules.hex"} {
		f.Add(golden(f, name))
	}
	f.Add(request(unix.NLMSG_ERROR, 0, 7, []byte{0, 0, 0, 0x80}))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := parse(b)
		if len(all) > len(b)/unix.SizeofNlMsghdr {
			t.Fatalf("%d messages of %d bytes", len(all), len(b))
		}
		if err != nil && all != nil {
			t.Fatal("messages beside an error")
		}
		for _, m := range all {
			if m.status != 0 && m.kind != unix.NLMSG_ERROR && m.kind != unix.NLMSG_DONE || m.status > syscall.Errno(1<<31) {
				t.Fatalf("status %d of kind %d", m.status, m.kind)
			}
			if m.addr.IsValid() && m.kind != unix.RTM_NEWADDR && m.kind != unix.RTM_DELADDR {
				t.Fatalf("an address in kind %d", m.kind)
			}
			_ = detect(m.link, wireGuardKind, []netip.Prefix{m.addr})
		}
	})
}
