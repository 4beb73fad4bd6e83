package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/serialspan/serialspan/bridge/client"
)

// printKubeSpan is the part of status about the KubeSpan of this machine.
func printKubeSpan(p *page, k *client.KubeSpan) {
	if !k.Present {
		p.line("kubespan", "not used: %s", k.Detail)
		return
	}
	p.line("kubespan", "%s, link %d, MTU %d", k.Address, k.Link, k.MTU)
	if k.Rights != addressOnly {
		alive := 0
		for _, peer := range k.Peers {
			if peer.State == "alive" {
				alive++
			}
		}
		p.line("span rights", "%s: %d of %d peers are heard", k.Rights, alive, len(k.Peers))
	} else {
		p.line("span rights", "%s: %s", k.Rights, cmp.Or(k.Detail, "its peers are not known"))
	}
	p.line("span bypass", "%s", map[string]string{
		"mark":  "mark 0x20: the tunnel stays out of a dead KubeSpan",
		"relay": "no right to set marks: a relay outside it is used when it dies",
	}[k.Bypass])
}

const addressOnly = "address only"

// checkKubeSpan looks at the KubeSpan of this machine.
func checkKubeSpan(p patient) []finding {
	k := p.status.KubeSpan
	switch {
	case k != nil && !k.Present:
		return []finding{{
			What: "KubeSpan", Evidence: k.Detail + "; members are reached without it",
			Do: "look at \"talosctl get kubespanstatus\" and \"talosctl get links kubespan\"; if the link is none of Talos's, set mesh.kubespan: off",
		}}
	case k != nil:
		return slices.Concat(checkKubeSpanRights(k), checkKubeSpanRoutes(k), checkKubeSpanPeers(k), checkKubeSpanMembers(p, k))
	case p.machine.kubeSpan:
		return []finding{{What: "KubeSpan", Evidence: "there is an interface \"kubespan\", and the agent makes no use of it; UDP port 51820 is its own", Do: "start the agent, with mesh.kubespan: auto; keep it on another port (51821)", Hint: true}}
	}
	i := slices.IndexFunc(p.machine.sockets, func(s udpSocket) bool { return s.port == kubeSpanPort })
	if i < 0 {
		return nil
	}
	who := cmp.Or(p.machine.sockets[i].holder, "another program has it, a WireGuard tunnel as a rule; root is told which")
	return []finding{{What: "UDP port 51820", Evidence: who, Do: "nothing; SerialSpan never uses it. A KubeSpan could not come up on this machine beside it", Hint: true}}
}

// checkKubeSpanRights says what the agent may not do.
func checkKubeSpanRights(k *client.KubeSpan) []finding {
	var all []finding
	if k.Rights == addressOnly {
		all = append(all, finding{
			What: "rights for KubeSpan", Evidence: cmp.Or(k.Detail, "its peers are not known") + "; so they cannot be joined through, nor looked at here",
			Do: "give the agent NET_ADMIN (hostNetwork, no user namespace), or name one member in cluster.join", Hint: true,
		})
	}
	if k.Bypass != "mark" {
		all = append(all, finding{
			What: "rights past KubeSpan", Evidence: "the agent may not mark its packets: when the KubeSpan dies, Talos forces those for its nodes into it all the same",
			Do: "give the agent NET_ADMIN or NET_RAW, or run an agent on a machine outside the KubeSpan as relay", Hint: true,
		})
	}
	return all
}

// checkKubeSpanRoutes looks at what Talos sets up beside the link.
func checkKubeSpanRoutes(k *client.KubeSpan) []finding {
	const do = "nothing for SerialSpan, which uses the KubeSpan's own addresses; other programs that speak to node addresses do without it: \"talosctl get routingrules,routes\""
	switch {
	case !k.Rule:
		return []finding{{What: "KubeSpan routing", Evidence: "no rule sends packets marked 0x40/0x60 to table 180", Do: do, Hint: true}}
	case !k.Forced:
		return []finding{{What: "KubeSpan routing", Evidence: "the rule for packets marked 0x40/0x60 is there, and does not lead into link kubespan: table 180 lacks its route", Do: do, Hint: true}}
	}
	return nil
}

// checkKubeSpanPeers looks at the nodes of the KubeSpan.
func checkKubeSpanPeers(k *client.KubeSpan) []finding {
	var all []finding
	for _, peer := range k.Peers {
		what := "KubeSpan peer " + cmp.Or(peer.Node, peer.Address.String())
		where := "no endpoint is known"
		if peer.Endpoint != "" {
			where = fmt.Sprintf("endpoint %s (%s), %s received, %s sent", peer.Endpoint, peer.Class, size(peer.Received), size(peer.Sent))
		}
		if peer.State == "silent" {
			all = append(all, finding{
				What: what, Evidence: "not heard for 275 s or longer: " + where,
				Do: "look whether the node is on; open UDP 51820 to one of the two; if the endpoint is wrong, set kubespan filters.endpoints or extraAnnouncedEndpoints in Talos. Members on it are reached by tunnel or relay meanwhile",
			})
		}
		if peer.Tunnel != "" {
			all = append(all, finding{
				What: what, Evidence: fmt.Sprintf("its endpoint %s is reached through the tunnel %s: a tunnel in a tunnel, which loses large packets", peer.Endpoint, peer.Tunnel),
				Do: "exclude that network with kubespan filters.endpoints in Talos (\"!NETWORK\"), or take the route away",
			})
		}
		if peer.Mesh {
			all = append(all, finding{
				What: what, Evidence: "it claims this mesh's addresses, so another program there has put one on a network interface",
				Do: "take the address away there, or list it in kubespan filters.excludeAdvertisedNetworks in Talos",
			})
		}
	}
	return all
}

// checkKubeSpanMembers looks for members in the same KubeSpan that are not
// reached through it.
func checkKubeSpanMembers(p patient, k *client.KubeSpan) []finding {
	var all []finding
	for _, n := range p.nodes {
		if n.Self || n.State != client.NodeAlive || n.Path == "kubespan" || !n.KubeSpan.IsValid() || !sameKubeSpan(k.Address, n.KubeSpan) {
			continue
		}
		all = append(all, finding{
			What: "KubeSpan to " + n.Name, Evidence: fmt.Sprintf("it is in the same one, at %s, and probes as large as data are not answered there; its path is %s", n.KubeSpan, cmp.Or(n.Path, "none")),
			Do: fmt.Sprintf("compare kubespan mtu (%d here) with the uplink's less 80; look whether both agents listen on one port; wait a minute if it just came back", k.MTU), Hint: true,
		})
	}
	return all
}

// sameKubeSpan reports whether two addresses are in one /64.
func sameKubeSpan(a, b netip.Addr) bool { return netip.PrefixFrom(a, 64).Masked().Contains(b) }
