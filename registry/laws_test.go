package registry_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/serialspan/serialspan/registry"
)

// history is all that a few owners ever said, in no order.
type history struct {
	messages [][]byte
	owners   []*registry.Registry // as they ended
}

func randomDevices(t *rapid.T) []registry.Device {
	var devices []registry.Device
	for _, name := range []string{"a", "b", "c", "d"} {
		if rapid.Bool().Draw(t, "has "+name) {
			devices = append(devices, registry.Device{
				Name:   name,
				State:  registry.State(rapid.IntRange(0, 3).Draw(t, "state")),
				Detail: fmt.Sprint("detail ", rapid.IntRange(0, 2).Draw(t, "detail")),
			})
		}
	}
	return devices
}

// randomHistory lets owners publish, restart and jump to other epochs, and
// hear of each other.
func randomHistory(t *rapid.T, tb testing.TB) history {
	var h history
	seen := make(map[string]bool)
	epochs := make([]uint64, 3)
	for i := range epochs {
		h.owners = append(h.owners, node(tb, i))
		epochs[i] = 1
	}
	for range rapid.IntRange(1, 15).Draw(t, "steps") {
		i := rapid.IntRange(0, len(h.owners)-1).Draw(t, "owner")
		r := h.owners[i]
		switch rapid.SampledFrom([]string{"publish", "publish", "publish", "jump", "restart", "hear"}).Draw(t, "step") {
		case "publish":
			publish(tb, r, 0, randomDevices(t)...)
		case "jump":
			epochs[i]++
			if _, err := r.SetEpoch(0, epochs[i]); err != nil {
				t.Fatal(err)
			}
		case "restart":
			epochs[i]++
			h.owners[i] = registry.New(registry.Config{Identity: ident(i), Cluster: cluster})
			if _, err := h.owners[i].SetEpoch(0, epochs[i]); err != nil {
				t.Fatal(err)
			}
		case "hear":
			exchange(tb, 0, r, h.owners[(i+1)%len(h.owners)])
		}
		for _, m := range everything(tb, h.owners[i]) {
			if !seen[string(m)] {
				seen[string(m)] = true
				h.messages = append(h.messages, m)
			}
		}
	}
	return h
}

// merged returns a registry that was told messages. What it is told may be
// refused for what it holds, never as invalid; what it knows changes nothing.
func merged(t *rapid.T, tb testing.TB, messages [][]byte) *registry.Registry {
	r := node(tb, 6)
	for _, m := range messages {
		known := r.Knows(m)
		did, err := r.Merge(0, m)
		if err != nil {
			t.Fatal(err)
		}
		if known != (did.Outcome == registry.Unchanged) {
			t.Errorf("known: %v, and merging it gives outcome %v", known, did.Outcome)
		}
	}
	return r
}

// join returns a new registry that holds what a and b hold.
func join(t *rapid.T, tb testing.TB, a, b *registry.Registry) *registry.Registry {
	return merged(t, tb, slices.Concat(everything(tb, a), everything(tb, b)))
}

func subset(t *rapid.T, messages [][]byte) [][]byte {
	return slices.DeleteFunc(slices.Clone(messages), func([]byte) bool { return rapid.Bool().Draw(t, "missed") })
}

func TestMergeLaws(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		all := randomHistory(rt, t).messages
		a, b, c := merged(rt, t, subset(rt, all)), merged(rt, t, subset(rt, all)), merged(rt, t, subset(rt, all))
		if join(rt, t, a, b).Root() != join(rt, t, b, a).Root() {
			rt.Error("a ∨ b is not b ∨ a")
		}
		if join(rt, t, join(rt, t, a, b), c).Root() != join(rt, t, a, join(rt, t, b, c)).Root() {
			rt.Error("(a ∨ b) ∨ c is not a ∨ (b ∨ c)")
		}
		if join(rt, t, a, a).Root() != a.Root() {
			rt.Error("a ∨ a is not a")
		}
	})
}

func TestOrderAndRepetitionDoNotMatter(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := randomHistory(rt, t)
		some := subset(rt, h.messages)
		one := merged(rt, t, rapid.Permutation(some).Draw(rt, "order"))
		twice := rapid.Permutation(slices.Concat(some, some)).Draw(rt, "order with repetitions")
		if one.Root() != merged(rt, t, twice).Root() {
			rt.Error("another order gives another state")
		}
		// Whoever heard everything holds exactly what each owner holds of itself.
		full := merged(rt, t, rapid.Permutation(h.messages).Draw(rt, "order of all"))
		for i, owner := range h.owners {
			if got, want := spokenBy(full, i), spokenBy(owner, i); len(want) > 0 && !slices.Equal(got, want) {
				rt.Errorf("node %d owns %v, known is %v", i, want, got)
			}
		}
	})
}

func spokenBy(r *registry.Registry, n int) []string {
	var all []string
	for _, s := range r.Devices(0) {
		if s.Owner == ident(n).ID() {
			all = append(all, fmt.Sprint(s.Device.Name, s.Version, s.Device.Detail))
		}
	}
	return all
}

func TestDigestSyncConverges(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var all [][]byte
		// Two histories of the same owners: two machines with one identity.
		for range rapid.IntRange(1, 2).Draw(rt, "machines of each identity") {
			all = append(all, randomHistory(rt, t).messages...)
		}
		draw := func() *registry.Registry {
			return merged(rt, t, rapid.Permutation(subset(rt, all)).Draw(rt, "order"))
		}
		a, b := draw(), draw()
		exchange(t, 0, a, b)
		if a.Root() != b.Root() || !bytes.Equal(a.Digest(), b.Digest()) {
			rt.Error("after one exchange both ways the two differ")
		}
		if messages, err := a.Answer(b.Digest()); len(messages) > 0 || err != nil {
			rt.Errorf("and there are still %d messages to send, %v", len(messages), err)
		}
	})
}

// TestNobodySpeaksForAnother: whatever a compromised member makes of messages
// that it saw, and whatever it signs itself, what another owner said stays.
func TestNobodySpeaksForAnother(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		victim := node(t, 0)
		publish(t, victim, 0, randomDevices(rt)...)
		r := node(t, 1)
		exchange(t, 0, r, victim)
		before := spokenBy(r, 0)
		mallory := node(t, 2)
		if _, err := mallory.SetEpoch(0, rapid.Uint64Min(2).Draw(rt, "epoch")); err != nil {
			rt.Fatal(err)
		}
		publish(t, mallory, 0, randomDevices(rt)...)
		theirs, own := everything(t, victim), everything(t, mallory)
		for range 10 {
			forged := bytes.Clone(rapid.SampledFrom(slices.Concat(theirs, own)).Draw(rt, "message"))
			switch rapid.SampledFrom([]string{"as is", "flip", "splice", "resign"}).Draw(rt, "forgery") {
			case "flip":
				forged[rapid.IntRange(0, len(forged)-1).Draw(rt, "at")] ^= byte(rapid.IntRange(1, 255).Draw(rt, "bits"))
			case "splice":
				from := rapid.SampledFrom(own).Draw(rt, "from")
				n := rapid.IntRange(0, min(len(forged), len(from))).Draw(rt, "length")
				copy(forged[len(forged)-n:], from[len(from)-n:])
			case "resign":
				body := forged[1 : len(forged)-64]
				for _, context := range []string{"serialspan registry entry v1", "serialspan registry list v1"} {
					copy(forged[len(forged)-64:], ident(2).Sign(context, slices.Concat(cluster[:], body)))
					r.Merge(0, forged)
				}
			}
			r.Merge(0, forged)
		}
		if after := spokenBy(r, 0); !slices.Equal(before, after) {
			rt.Errorf("the victim's devices were %v and are %v", before, after)
		}
	})
}
