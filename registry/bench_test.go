package registry_test

import (
	"fmt"
	"testing"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/registry"
)

// owners returns the messages of count owners with four devices each, and their
// members.
func owners(tb testing.TB, count int) (messages [][]byte, all map[identity.NodeID]registry.MemberView) {
	tb.Helper()
	all = make(map[identity.NodeID]registry.MemberView)
	for i := range count {
		seed := [32]byte{byte(i), byte(i >> 8), 1}
		who := identity.FromSeed(seed)
		name := fmt.Sprintf("node%d", i)
		all[who.ID()] = registry.MemberView{Name: name, Alive: true}
		r := registry.New(registry.Config{Identity: who, Cluster: cluster, NodeName: name})
		if _, err := r.SetEpoch(0, 1); err != nil {
			tb.Fatal(err)
		}
		var devices []registry.Device
		for d := range 4 {
			devices = append(devices, registry.Device{
				Name: fmt.Sprintf("%s-port%d", name, d), Kind: "serial", Line: "115200n81",
				Hardware: registry.Hardware{VID: "0403", PID: "6001", Serial: fmt.Sprintf("S%d-%d", i, d), Interface: "00"},
			})
		}
		publish(tb, r, 0, devices...)
		messages = append(messages, everything(tb, r)...)
	}
	return messages, all
}

// BenchmarkMerge tells an empty registry what ten owners with four devices each
// have to say; an operation is one message. "known": it has heard all of it,
// as it hears most of what gossip brings.
func BenchmarkMerge(b *testing.B) {
	messages, all := owners(b, 10)
	empty := func() *registry.Registry {
		r := node(b, 7)
		r.SetMembers(all)
		return r
	}
	run := func(b *testing.B, r *registry.Registry, fresh bool) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if fresh && i%len(messages) == 0 {
				b.StopTimer()
				r = empty()
				b.StartTimer()
			}
			if _, err := r.Merge(0, messages[i%len(messages)]); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("new", func(b *testing.B) { run(b, nil, true) })
	b.Run("known", func(b *testing.B) {
		r := empty()
		for _, m := range messages {
			if _, err := r.Merge(0, m); err != nil {
				b.Fatal(err)
			}
		}
		run(b, r, false)
	})
}

// BenchmarkResolve asks for a name among those of a hundred owners.
func BenchmarkResolve(b *testing.B) {
	messages, all := owners(b, 100)
	r := node(b, 7)
	r.SetMembers(all)
	for _, m := range messages {
		if _, err := r.Merge(0, m); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Resolve(0, "node50-port2"); err != nil {
			b.Fatal(err)
		}
	}
}
