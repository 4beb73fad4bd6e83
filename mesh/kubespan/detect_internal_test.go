package kubespan

import (
	"net/netip"
	"strings"
	"testing"
)

func TestDetect(t *testing.T) {
	const ula = "fd7f:175a:b97c:5602:2c1a:b6ff:fe53:8169/64"
	good := link{index: 9, name: "kubespan", kind: "wireguard", mtu: 1280}
	with := func(edit func(*link)) link { l := good; edit(&l); return l }
	for name, row := range map[string]struct {
		link  link
		addrs []string
		why   string // empty: present
	}{
		"as Talos makes it":      {good, []string{ula}, ""},
		"beside others":          {good, []string{"fe80::1/64", "192.0.2.1/24", ula}, ""},
		"state up":               {with(func(l *link) { l.oper = 6 }), []string{ula}, ""},
		"down":                   {with(func(l *link) { l.oper = 2 }), []string{ula}, "not up"},
		"dormant":                {with(func(l *link) { l.oper = 5 }), []string{ula}, "not up"},
		"TUN":                    {with(func(l *link) { l.kind = "tun" }), []string{ula}, "kind tun, not wireguard"},
		"hardware":               {with(func(l *link) { l.kind = "" }), []string{ula}, "hardware"},
		"no address":             {good, nil, "no address"},
		"SideroLink's":           {good, []string{"fd7f:175a:b97c:5603::1/64"}, "no address"},
		"another ULA":            {good, []string{"fd7f:175a:b97c:56::1/64"}, "no address"},
		"another first byte":     {good, []string{"fc7f:175a:b97c:5602::1/64"}, "no address"},
		"another length":         {good, []string{"fd7f:175a:b97c:5602::1/128"}, "no address"},
		"IPv4":                   {good, []string{"10.0.0.2/24"}, "no address"},
		"IPv4 mapped, of length": {good, []string{"::ffff:253.0.0.2/64"}, "no address"},
	} {
		t.Run(name, func(t *testing.T) {
			var addrs []netip.Prefix
			for _, a := range row.addrs {
				addr, bits, _ := strings.Cut(a, "/")
				n := map[string]int{"64": 64, "128": 128, "24": 24}[bits]
				addrs = append(addrs, netip.PrefixFrom(netip.MustParseAddr(addr), n))
			}
			s := detect(row.link, wireGuardKind, addrs)
			if s.Present != (row.why == "") || !strings.Contains(s.Why, row.why) || (s.Why == "") != s.Present {
				t.Errorf("%+v, want why %q", s, row.why)
			}
			if s.Link != 9 || s.MTU != 1280 || s.Address.IsValid() != s.Present {
				t.Errorf("%+v", s)
			}
			if s.Present && (netip.PrefixFrom(s.Address, 64).String() != ula || s.Prefix.String() != "fd7f:175a:b97c:5602::/64") {
				t.Errorf("address %v, prefix %v", s.Address, s.Prefix)
			}
		})
	}
}

func TestTalosHints(t *testing.T) {
	for name, row := range map[string]struct {
		release, cmdline string
		want             TalosHints
	}{
		"Debian":           {"6.12.48+deb13-amd64", "BOOT_IMAGE=/vmlinuz root=/dev/sda1 ro", TalosHints{Kernel: "6.12.48+deb13-amd64"}},
		"Talos":            {"6.18.1-talos", "talos.platform=metal console=tty0\n", TalosHints{Kernel: "6.18.1-talos", Talos: true, Platform: "metal"}},
		"a kernel only":    {"6.18.1-talos", "", TalosHints{Kernel: "6.18.1-talos", Talos: true}},
		"a command line":   {"6.18.1-custom", "talos.platform=aws", TalosHints{Kernel: "6.18.1-custom", Talos: true, Platform: "aws"}},
		"the word only":    {"6.18.1-talos2", "nottalos.platform=aws", TalosHints{Kernel: "6.18.1-talos2"}},
		"nothing readable": {},
	} {
		if got := hintsFrom(row.release, row.cmdline); got != row.want {
			t.Errorf("%s: %+v, want %+v", name, got, row.want)
		}
	}
	if ReadTalosHints().Kernel == "" {
		t.Error("no kernel release")
	}
}
