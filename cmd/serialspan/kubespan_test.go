package main

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/serialspan/serialspan/bridge/client"
)

// wellSpan is a KubeSpan with a member and another node in it.
func wellSpan() *client.KubeSpan {
	return &client.KubeSpan{
		Present: true, Address: netip.MustParseAddr("fd7f:175a:b97c:5602::1"), Link: 7, MTU: 1420, Rights: "NET_ADMIN", Bypass: "mark", Rule: true, Forced: true,
		Peers: []client.KubeSpanPeer{
			{Address: netip.MustParseAddr("fd7f:175a:b97c:5602::2"), Node: "garage", Endpoint: "192.0.2.2:51820", Class: "public", State: "alive", Received: 10, Sent: 20},
			{Address: netip.MustParseAddr("fd7f:175a:b97c:5602::3"), Endpoint: "10.0.0.3:51820", Class: "private", State: "alive", Received: 10, Sent: 20},
		},
	}
}

func TestDiagnoseKubeSpan(t *testing.T) {
	ula := netip.MustParseAddr("fd7f:175a:b97c:5602::2")
	for name, test := range map[string]struct {
		sick func(*patient, *client.KubeSpan)
		want []string // as in TestDiagnose
	}{
		"well": {func(p *patient, _ *client.KubeSpan) { p.nodes[0].Path, p.nodes[0].KubeSpan = "kubespan", ula }, nil},
		"not present": {func(_ *patient, k *client.KubeSpan) { k.Present, k.Detail = false, "link kubespan is hardware" }, []string{
			"KubeSpan | link kubespan is hardware; members are reached without it | talosctl"}},
		"no rights": {func(_ *patient, k *client.KubeSpan) {
			k.Rights, k.Bypass, k.Peers, k.Detail = "address only", "relay", nil, "peers of kubespan not read"
		}, []string{"?rights for KubeSpan | peers of kubespan not read | NET_ADMIN", "?rights past KubeSpan | may not mark | relay"}},
		"no rule":  {func(_ *patient, k *client.KubeSpan) { k.Rule, k.Forced = false, false }, []string{"?KubeSpan routing | no rule | talosctl"}},
		"no route": {func(_ *patient, k *client.KubeSpan) { k.Forced = false }, []string{"?KubeSpan routing | table 180 lacks | talosctl"}},
		"silent peers": {func(_ *patient, k *client.KubeSpan) {
			k.Peers[0].State, k.Peers[1].State, k.Peers[1].Endpoint = "silent", "silent", ""
		}, []string{
			"KubeSpan peer garage | endpoint 192.0.2.2:51820 (public), 10 B received, 20 B sent | filters.endpoints",
			"KubeSpan peer fd7f:175a:b97c:5602::3 | no endpoint is known | UDP 51820"}},
		"tunnel in a tunnel": {func(_ *patient, k *client.KubeSpan) { k.Peers[0].Tunnel = "vpn" }, []string{"KubeSpan peer garage | through the tunnel vpn | filters.endpoints"}},
		"mesh addresses":     {func(_ *patient, k *client.KubeSpan) { k.Peers[1].Mesh = true }, []string{"KubeSpan peer fd7f:175a:b97c:5602::3 | claims this mesh's | excludeAdvertisedNetworks"}},
		"a member beside it": {func(p *patient, _ *client.KubeSpan) { p.nodes[0].KubeSpan = ula }, []string{"?KubeSpan to garage | its path is direct | 1420"}},
		"another KubeSpan":   {func(p *patient, _ *client.KubeSpan) { p.nodes[0].KubeSpan = netip.MustParseAddr("fd00::2:0:0:0:2") }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p, k := healthy(), wellSpan()
			p.status.KubeSpan, p.machine.kubeSpan = k, true
			test.sick(&p, k)
			wantFindings(t, diagnose(p), test.want)
		})
	}
}

func TestPrintKubeSpan(t *testing.T) {
	for name, test := range map[string]struct {
		edit func(*client.KubeSpan)
		want []string
	}{
		"well":        {func(*client.KubeSpan) {}, []string{"fd7f:175a:b97c:5602::1, link 7, MTU 1420", "NET_ADMIN: 2 of 2 peers are heard", "mark 0x20"}},
		"no rights":   {func(k *client.KubeSpan) { k.Rights, k.Bypass, k.Detail = "address only", "relay", "not read" }, []string{"address only: not read", "a relay outside"}},
		"not present": {func(k *client.KubeSpan) { k.Present, k.Detail = false, "link kubespan is not up" }, []string{"not used: link kubespan is not up"}},
	} {
		t.Run(name, func(t *testing.T) {
			k := wellSpan()
			test.edit(k)
			var p page
			printStatus(&p, client.StatusAnswer{Status: client.Status{KubeSpan: k}})
			for _, want := range test.want {
				if !strings.Contains(p.out.String(), want) {
					t.Errorf("no %q in\n%s", want, p.out.String())
				}
			}
		})
	}
}
