package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/serialspan/serialspan/bridge/client"
)

// checkPaths looks at the sizes of datagrams: small ones that arrive say nothing
// of large ones.
func checkPaths(p patient) []finding {
	var all []finding
	for _, s := range p.paths {
		switch {
		case s.There == 0: // nothing was answered, which checkNodes and ping tell
		case s.There < s.Full:
			all = append(all, narrow(s, "to", s.There, "get there"))
		case s.Back > 0 && s.Back < s.Full:
			all = append(all, narrow(s, "from", s.Back, "come back"))
		}
	}
	return append(all, checkFragments(p)...)
}

// narrow is the finding of a path on which larger datagrams than most vanish,
// one way.
func narrow(s client.PathSize, way string, most int, arrive string) finding {
	f := finding{What: "path " + way + " " + s.Node, Hint: most >= s.Data}
	lost, whose := s.Data, "our largest"
	if f.Hint {
		lost, whose = s.Full, "the largest that are passed on for others"
	}
	f.Evidence = fmt.Sprintf("%s: datagrams of up to %d bytes %s, those of %d, %s, do not", wayOf(s), most, arrive, lost, whose)
	if s.Headers == 0 {
		f.Do = fmt.Sprintf("run \"serialspan doctor\" on %s and on %s: a relay sees both legs, one of which is too narrow", strings.TrimPrefix(s.Path, "via "), s.Node)
		return f
	}
	packet := most + s.Headers
	f.Evidence += fmt.Sprintf("; an IP packet of more than %d bytes is lost on the way, and nobody says so", packet)
	sender := "here"
	if way == "from" {
		sender = "on " + s.Node
	}
	f.Do = fmt.Sprintf("let ICMP pass the firewalls on the way (\"fragmentation needed\", \"packet too big\"), or have smaller packets sent: %s set the MTU of the interface or route that leads there to %d", sender, packet)
	if s.Path == "kubespan" {
		f.Do = fmt.Sprintf("set kubespan mtu in Talos to the uplink's less 80, on both nodes; %d or less gets through", packet)
	}
	return f
}

// wayOf says by which way a path leads.
func wayOf(s client.PathSize) string {
	if s.Endpoint == "" {
		return s.Path
	}
	return s.Path + " " + s.Endpoint
}

// checkFragments looks for paths on which our datagrams leave in fragments:
// they arrive, but on a way that has little to do with that of others.
func checkFragments(p patient) []finding {
	type link struct{ mtu, packet int }
	nodes := make(map[link][]string)
	for _, s := range p.paths {
		if packet := s.Full + s.Headers; s.MTU > 0 && packet > s.MTU && s.There == s.Full {
			l := link{s.MTU, packet}
			nodes[l] = append(nodes[l], s.Node)
		}
	}
	var all []finding
	for l, to := range nodes {
		all = append(all, finding{
			What: "packet size", Evidence: fmt.Sprintf("to %s packets of up to %d bytes leave in two fragments: the MTU on the way is %d; they arrive", few(to), l.packet, l.mtu),
			Do: "nothing while they do; a firewall that drops fragments would make large datagrams vanish", Hint: true,
		})
	}
	slices.SortFunc(all, func(a, b finding) int { return strings.Compare(a.Evidence, b.Evidence) })
	return all
}

// checkNAT says what kind of router this machine is behind, from where members
// beyond it see it (RFC 4787, section 4.1).
func checkNAT(p patient) []finding {
	var seen []string
	var addrs []netip.AddrPort
	for _, s := range p.paths {
		if s.Translated {
			seen = append(seen, fmt.Sprintf("%s sees it at %s", s.Node, s.Seen))
			addrs = append(addrs, s.Seen)
		}
	}
	const most = 3
	evidence := strings.Join(seen[:min(len(seen), most)], ", ")
	kinds := slices.Clone(addrs)
	slices.SortFunc(kinds, netip.AddrPort.Compare)
	switch kinds = slices.Compact(kinds); {
	case len(addrs) == 0:
		return nil
	case len(addrs) == 1:
		return []finding{{What: "router of this machine", Evidence: "it translates addresses: " + evidence + "; its kind takes two members beyond it to tell", Do: "nothing", Hint: true}}
	case len(kinds) == 1:
		return []finding{{What: "router of this machine", Evidence: "it translates addresses, to one for all (endpoint-independent): " + evidence, Do: "nothing; members find each other through such routers", Hint: true}}
	}
	return []finding{{
		What: "router of this machine", Evidence: "it translates addresses, to another for each member (symmetric): " + evidence,
		Do: fmt.Sprintf("nothing where paths are direct; members behind such routers themselves are reached through a relay only. For a straight way forward UDP port %s in the router and name it in mesh.advertise", portOf(p.status.Listen)), Hint: true,
	}}
}

// few lists the first of some names.
func few(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
