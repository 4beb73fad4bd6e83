package mesh_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/mesh/meshtest"
)

// overhead of a datagram on the wire: IPv4 and UDP headers, bytes.
const overhead = 20 + 8

// kinds are the first bytes of datagrams: WireGuard's of section 5.4 of its
// white paper, ours of packages join and probe.
var kinds = map[byte]string{
	1: "initiation", 2: "response", 3: "cookie", 4: "data", 5: "join 1", 6: "join 2", 7: "join 3", 8: "probe",
}

// traffic is what nodes send together, per member and second.
type traffic struct {
	datagrams, bytes float64 // with overhead
	kinds            string
}

// measure counts what living members send during so long.
func measure(nodes []*meshtest.Node, during time.Duration) traffic {
	total := func() map[byte]meshtest.Traffic {
		sum := make(map[byte]meshtest.Traffic)
		for _, n := range nodes {
			for kind, t := range n.Sent() {
				sum[kind] = meshtest.Traffic{Datagrams: sum[kind].Datagrams + t.Datagrams, Bytes: sum[kind].Bytes + t.Bytes}
			}
		}
		return sum
	}
	before := total()
	time.Sleep(during)
	after := total()
	var all traffic
	var text []string
	per := 1 / (during.Seconds() * float64(len(nodes)))
	for _, kind := range slices.Sorted(maps.Keys(after)) {
		datagrams := float64(after[kind].Datagrams-before[kind].Datagrams) * per
		bytes := float64(after[kind].Bytes-before[kind].Bytes)*per + datagrams*overhead
		all.datagrams += datagrams
		all.bytes += bytes
		text = append(text, fmt.Sprintf("%s %.1f", kinds[kind], bytes))
	}
	all.kinds = strings.Join(text, ", ")
	return all
}

// crowd starts n nodes that join through the first, and waits for one
// membership.
func crowd(t *testing.T, net *meshtest.Network, n int, o meshtest.Options) []*meshtest.Node {
	t.Helper()
	nodes := []*meshtest.Node{net.Start("m0", o)}
	o.Join = nodes[:1:1]
	for i := 1; i < n; i++ {
		nodes = append(nodes, net.Start(fmt.Sprintf("m%d", i), o))
	}
	until(t, 3*time.Minute, "one membership", func() string { return disagreement(nodes) })
	return nodes
}

// idleMost bounds what a member sends that has nothing to say, bytes per second:
// a fifth of the 2 kB/s that it may at 1,000 members.
const idleMost = 400

// TestIdleTraffic bounds what members send that have nothing to say.
func TestIdleTraffic(t *testing.T) {
	for _, members := range sizes(t, []int{3, 10}, 50) {
		t.Run(fmt.Sprintf("%d members", members), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := meshtest.New(t, lan)
				nodes := crowd(t, net, members, meshtest.Options{})
				time.Sleep(10 * time.Minute)
				got := measure(nodes, 10*time.Minute)
				t.Logf("%.0f bytes/s, %.2f datagrams/s per member (%s)", got.bytes, got.datagrams, got.kinds)
				if got.bytes > idleMost {
					t.Errorf("%.0f bytes/s per member, more than %d", got.bytes, idleMost)
				}
			})
		})
	}
}

// TestTrafficToTheDead bounds what members send when half of all are gone.
func TestTrafficToTheDead(t *testing.T) {
	for _, members := range sizes(t, []int{4, 12}, 20) {
		t.Run(fmt.Sprintf("%d members", members), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := meshtest.New(t, lan)
				nodes := crowd(t, net, members, meshtest.Options{})
				for _, n := range nodes[:members/2] {
					n.Crash()
				}
				nodes = nodes[members/2:]
				first := measure(nodes, 10*time.Minute)
				t.Logf("first 10 minutes: %.0f bytes/s, %.2f datagrams/s per member (%s)", first.bytes, first.datagrams, first.kinds)
				then := measure(nodes, 10*time.Minute)
				t.Logf("then: %.0f bytes/s, %.2f datagrams/s per member (%s)", then.bytes, then.datagrams, then.kinds)
				// A join message of 1,200 bytes twice a minute to each of the gone, of
				// whom at most eight are tried at a time.
				if most := idleMost + float64(min(members/2, 8))*(1200+overhead)*2/60*1.25; then.bytes > most {
					t.Errorf("%.0f bytes/s per member, more than %.0f", then.bytes, most)
				}
			})
		})
	}
}
