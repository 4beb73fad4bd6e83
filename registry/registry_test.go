package registry_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/registry"
)

var cluster = identity.ClusterID{1, 2, 3}

// ident returns the n-th identity of the tests. They are ordered: a smaller n
// has the smaller NodeID.
func ident(n int) *identity.Identity { return idents[n] }

var idents = func() []*identity.Identity {
	all := make([]*identity.Identity, 8)
	for i := range all {
		all[i] = identity.FromSeed([32]byte{byte(i + 1)})
	}
	slices.SortFunc(all, func(a, b *identity.Identity) int { return a.ID().Compare(b.ID()) })
	return all
}()

// nodeName is the name of the n-th node.
func nodeName(n int) string {
	return []string{"garage", "server", "cloud", "shed", "n4", "n5", "n6", "n7"}[n]
}

// node returns the registry of the n-th node in its first epoch; it knows all
// nodes and believes them alive.
func node(t testing.TB, n int, change ...func(*registry.Config)) *registry.Registry {
	t.Helper()
	cfg := registry.Config{Identity: ident(n), Cluster: cluster, NodeName: nodeName(n)}
	for _, c := range change {
		c(&cfg)
	}
	r := registry.New(cfg)
	if _, err := r.SetEpoch(0, 1); err != nil {
		t.Fatal(err)
	}
	r.SetMembers(members())
	return r
}

// members returns all nodes, alive but for dead.
func members(dead ...int) map[identity.NodeID]registry.MemberView {
	m := make(map[identity.NodeID]registry.MemberView)
	for i, id := range idents {
		m[id.ID()] = registry.MemberView{Name: nodeName(i), Alive: !slices.Contains(dead, i)}
	}
	return m
}

func publish(t testing.TB, r *registry.Registry, now time.Duration, devices ...registry.Device) []registry.Message {
	t.Helper()
	messages, err := r.Publish(now, devices)
	if err != nil {
		t.Fatal(err)
	}
	return messages
}

// deliver merges messages into registries, which must take them as valid.
func deliver(t testing.TB, now time.Duration, messages []registry.Message, to ...*registry.Registry) {
	t.Helper()
	for _, r := range to {
		for _, m := range messages {
			if _, err := r.Merge(now, m.Wire); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// emptyDigest is the digest of a registry that holds nothing.
func emptyDigest() []byte {
	return registry.New(registry.Config{Identity: ident(7)}).Digest()
}

// everything returns all that a registry holds, as messages.
func everything(t testing.TB, r *registry.Registry) [][]byte {
	t.Helper()
	messages, err := r.Answer(emptyDigest())
	if err != nil {
		t.Fatal(err)
	}
	return messages
}

// exchange is one digest sync, as package registrysync does it.
func exchange(t testing.TB, now time.Duration, a, b *registry.Registry) {
	t.Helper()
	send := func(from, to *registry.Registry, digest []byte) {
		messages, err := from.Answer(digest)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range messages {
			if len(m) > registry.MaxMessage {
				t.Fatalf("message of %d bytes", len(m))
			}
			if _, err := to.Merge(now, m); err != nil {
				t.Fatal(err)
			}
		}
	}
	send(a, b, b.Digest())
	send(b, a, a.Digest())
}

func TestPublishedDeviceIsSeenWhole(t *testing.T) {
	owner, other := node(t, 0), node(t, 1)
	want := registry.Device{
		Name: "garage-zwave", Kind: "zwave", Profile: "aeotec-gen5",
		Hardware:     registry.Hardware{VID: "0658", PID: "0200", Serial: "A1", Interface: "00", Port: "1-1.2", Path: "/dev/ttyACM0"},
		Capabilities: []string{"break", "baud"}, Line: "115200n81", Labels: map[string]string{"zone": "garage"},
		State: registry.StateInUse, User: ident(1).ID(), Detail: "since breakfast",
	}
	deliver(t, 0, publish(t, owner, 0, want), other)
	for what, r := range map[string]*registry.Registry{"owner": owner, "other": other} {
		got, err := r.Resolve(0, "garage-zwave")
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if fmt.Sprint(got.Device) != fmt.Sprint(want) {
			t.Errorf("%s: device %+v, want %+v", what, got.Device, want)
		}
		if got.Owner != ident(0).ID() || got.OwnerName != "garage" || !got.OwnerAlive || got.UserName != "server" || got.Claim != 1 || !got.Holder || got.Conflict {
			t.Errorf("%s: status %+v", what, got)
		}
	}
}

func TestPublishSendsWhatChanged(t *testing.T) {
	a, b := registry.Device{Name: "a"}, registry.Device{Name: "b"}
	busy := registry.Device{Name: "a", State: registry.StateInUse}
	r := node(t, 0)
	self := ident(0).ID().String()
	for _, step := range []struct {
		what    string
		devices []registry.Device
		topics  []string
	}{
		{"the first publish withdraws those of the last start", nil, []string{"devices/" + self}},
		{"nothing new", nil, nil},
		{"a new device needs no list", []registry.Device{a}, []string{"device/" + self + "/a"}},
		{"nothing new", []registry.Device{a}, nil},
		{"one changed, one new", []registry.Device{busy, b}, []string{"device/" + self + "/a", "device/" + self + "/b"}},
		{"order is no change", []registry.Device{b, busy}, nil},
		{"a removed device needs a list", []registry.Device{b}, []string{"devices/" + self}},
		{"one back, one removed", []registry.Device{a}, []string{"device/" + self + "/a", "devices/" + self}},
	} {
		var topics []string
		for _, m := range publish(t, r, 0, step.devices...) {
			topics = append(topics, m.Topic)
			if len(m.Wire) > registry.MaxBroadcast {
				t.Errorf("%s: message of %d bytes", step.what, len(m.Wire))
			}
		}
		if !slices.Equal(topics, step.topics) {
			t.Errorf("%s: sent %q, want %q", step.what, topics, step.topics)
		}
	}
}

func TestRestartWithdrawsWhatIsGone(t *testing.T) {
	before, other := node(t, 0), node(t, 1)
	deliver(t, 0, publish(t, before, 0, registry.Device{Name: "a"}, registry.Device{Name: "b"}), other)
	after := registry.New(registry.Config{Identity: ident(0), Cluster: cluster})
	if _, err := after.SetEpoch(0, 2); err != nil {
		t.Fatal(err)
	}
	// It hears of its own past first, and does not believe it.
	exchange(t, 0, other, after)
	if d := after.Devices(0); len(d) != 0 {
		t.Errorf("after the restart the node owns %v", d)
	}
	deliver(t, 0, publish(t, after, 0, registry.Device{Name: "b"}), other)
	if d := other.Devices(0); len(d) != 1 || d[0].Device.Name != "b" || d[0].Version.Epoch != 2 {
		t.Errorf("the other node sees %+v, want b of epoch 2", d)
	}
}

// TestNameStaysBetweenListAndEntry: the list of a restarted owner arrives before
// its entry, and programs that look in between find the device.
func TestNameStaysBetweenListAndEntry(t *testing.T) {
	before, after := node(t, 0), registry.New(registry.Config{Identity: ident(0), Cluster: cluster})
	old := publish(t, before, 0, registry.Device{Name: "stays"}, registry.Device{Name: "goes"})
	if _, err := after.SetEpoch(0, 2); err != nil {
		t.Fatal(err)
	}
	messages := publish(t, after, 0, registry.Device{Name: "stays", Detail: "of epoch 2"})
	entry, list := messages[:1], messages[1:]
	knew, newcomer := node(t, 1), node(t, 2)
	deliver(t, 0, old, knew)
	deliver(t, 0, list, knew, newcomer)
	if found, err := knew.Resolve(0, "stays"); err != nil || found.Version.Epoch != 1 {
		t.Errorf("after the list: %+v, %v; want the device of epoch 1", found, err)
	}
	if found, err := knew.Resolve(0, "goes"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("what the list withdraws: %+v, %v", found, err)
	}
	// What stands in is not told to anyone, and comes back from nobody.
	if knew.Root() != newcomer.Root() {
		t.Error("two that lack the same entry differ")
	}
	deliver(t, 0, old, knew, newcomer)
	if found, err := newcomer.Resolve(0, "stays"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("an old entry after the list: %+v, %v", found, err)
	}
	exchange(t, 0, newcomer, knew)
	if found, err := newcomer.Resolve(0, "stays"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("from one that lacks the entry too: %+v, %v", found, err)
	}
	deliver(t, 0, entry, knew)
	exchange(t, 0, newcomer, knew)
	for _, r := range []*registry.Registry{knew, newcomer} {
		if found, err := r.Resolve(0, "stays"); err != nil || found.Version.Epoch != 2 || r.Root() != after.Root() {
			t.Errorf("after the entry: %+v, %v", found, err)
		}
	}
}

// TestStandInGoes with the next list that does not name it, and with its owner.
func TestStandInGoes(t *testing.T) {
	before, after := node(t, 0), registry.New(registry.Config{Identity: ident(0), Cluster: cluster})
	knew := node(t, 1)
	deliver(t, 0, publish(t, before, 0, registry.Device{Name: "a", State: registry.StateAway}, registry.Device{Name: "b"}), knew)
	if _, err := after.SetEpoch(0, 2); err != nil {
		t.Fatal(err)
	}
	first := publish(t, after, 0, registry.Device{Name: "a"}, registry.Device{Name: "b"})
	second := publish(t, after, 0, registry.Device{Name: "b"})
	names := func() (all []string) {
		for _, d := range knew.Devices(0) {
			all = append(all, fmt.Sprint(d.Device.Name, d.Version.Epoch))
		}
		return all
	}
	for _, step := range []struct {
		what    string
		message []registry.Message
		want    string
	}{
		{"the list of both", first[2:], "[a1 b1]"},
		{"the list without a", second, "[b1]"},
		{"the entry of a", first[:1], "[b1]"},
		{"the entry of b", first[1:2], "[b2]"},
		{"all again", first, "[b2]"},
	} {
		deliver(t, 0, step.message, knew)
		if have := fmt.Sprint(names()); have != step.want {
			t.Errorf("after %s: %s, want %s", step.what, have, step.want)
		}
	}
	if knew.Root() != after.Root() {
		t.Error("it does not hold what the owner holds")
	}
	if _, ok := knew.Advance(time.Hour); ok {
		t.Error("the hold of a device that is gone runs on")
	}
	deliver(t, 0, publish(t, after, 0, registry.Device{Name: "b", Detail: "new"}), knew)
	knew.Forget(ident(0).ID())
	if have := names(); len(have) > 0 {
		t.Errorf("of a forgotten owner: %v", have)
	}
}

// TestStandInStaysOut: two machines with one identity, whose lists take turns.
// What a list has put out of the state does not come back by a later one, or two
// replicas would differ after they have exchanged all.
func TestStandInStaysOut(t *testing.T) {
	machine := func(details ...string) (said []registry.Message) {
		r := node(t, 0)
		for _, detail := range details {
			said = append(said, publish(t, r, 0, registry.Device{Name: "x", Detail: detail})...)
		}
		publish(t, r, 0, registry.Device{Name: "x", Detail: details[len(details)-1]}, registry.Device{Name: "y"})
		return append(said, publish(t, r, 0, registry.Device{Name: "x", Detail: details[len(details)-1]})...)
	}
	one := machine("1.1")        // x of 1, list of 2, y of 3, list of 4 with x of 1
	two := machine("2.1", "2.2") // x of 1, list of 2, x of 3, y of 4, list of 5 with x of 3
	a, b := node(t, 1), node(t, 2)
	deliver(t, 0, []registry.Message{two[2], one[2]}, a)
	deliver(t, 0, two[3:], b)
	exchange(t, 0, a, b)
	if a.Root() != b.Root() {
		t.Errorf("after the exchange one holds %v, the other %v", spokenBy(a, 0), spokenBy(b, 0))
	}
	deliver(t, 0, two[2:3], a, b)
	for _, r := range []*registry.Registry{a, b} {
		if d := r.Devices(0); len(d) != 1 || d[0].Device.Detail != "2.2" || r.Root() != a.Root() {
			t.Errorf("after the entry: %+v", d)
		}
	}
}

func TestLargerEpochSignsAgain(t *testing.T) {
	r, other := node(t, 0), node(t, 1)
	publish(t, r, 0, registry.Device{Name: "a"})
	// Another start of this node, which the disk forgot, had published.
	ghost := registry.New(registry.Config{Identity: ident(0), Cluster: cluster})
	if early, err := ghost.SetEpoch(0, 5); err != nil || early != nil {
		t.Fatalf("SetEpoch before Publish: %v, %v", early, err)
	}
	messages := publish(t, ghost, 0, registry.Device{Name: "a", Detail: "old"}, registry.Device{Name: "gone"})
	deliver(t, 0, messages, other)
	merged, err := r.Merge(0, messages[0].Wire)
	if err != nil || merged.Outcome != registry.Foreign {
		t.Errorf("own message of another process: %v, %v; want Foreign", merged.Outcome, err)
	}
	messages, err = r.SetEpoch(0, 6)
	if err != nil {
		t.Fatal(err)
	}
	deliver(t, 0, messages, other)
	if d := other.Devices(0); len(d) != 1 || d[0].Device.Detail != "" || d[0].Version.Epoch != 6 {
		t.Errorf("after the jump the other node sees %+v", d)
	}
	if again, _ := r.SetEpoch(0, 6); again != nil {
		t.Error("the same epoch signed again")
	}
}

func TestPublishLeavesOutWhatBreaksALimit(t *testing.T) {
	long := func(n int) string { return string(bytes.Repeat([]byte("x"), n)) }
	labels := func(n int) map[string]string {
		m := make(map[string]string)
		for i := range n {
			m[fmt.Sprint("label", i)] = long(63)
		}
		return m
	}
	for _, row := range []struct {
		what string
		d    registry.Device
		ok   bool
	}{
		{"empty name", registry.Device{}, false},
		{"longest name", registry.Device{Name: long(63)}, true},
		{"too long a name", registry.Device{Name: long(64)}, false},
		{"name@node", registry.Device{Name: "a@b"}, false},
		{"space", registry.Device{Name: "a b"}, false},
		{"path", registry.Device{Name: "a/b"}, false},
		{"leading dot", registry.Device{Name: ".a"}, false},
		{"all characters", registry.Device{Name: "A-z_0.9"}, true},
		{"control character in kind", registry.Device{Name: "a", Kind: "x\x1b[2J"}, false},
		{"long detail is cut", registry.Device{Name: "a", Detail: long(199) + "ü\n" + long(300)}, true},
		{"8 long labels", registry.Device{Name: "a", Labels: labels(8)}, true},
		{"an entry of more than 1000 bytes", registry.Device{Name: "a", Labels: labels(16)}, false},
		{"too many labels", registry.Device{Name: "a", Labels: labels(17)}, false},
		{"too many capabilities", registry.Device{Name: "a", Capabilities: make([]string, 17)}, false},
	} {
		t.Run(row.what, func(t *testing.T) {
			r := node(t, 0)
			messages, err := r.Publish(0, []registry.Device{row.d, {Name: "good"}})
			if (err == nil) != row.ok {
				t.Errorf("error %v", err)
			}
			other := node(t, 1)
			deliver(t, 0, messages, other)
			if _, err := other.Resolve(0, "good"); err != nil {
				t.Errorf("the good device beside it: %v", err)
			}
			if _, err := other.Resolve(0, row.d.Name); (err == nil) != row.ok {
				t.Errorf("resolve: %v", err)
			}
		})
	}
	_, err := node(t, 0).Publish(0, []registry.Device{{Name: "a"}, {Name: "a"}})
	if err == nil {
		t.Error("two devices of one name are no error")
	}
}

func TestListTooLargeToBroadcastIsHinted(t *testing.T) {
	var devices []registry.Device
	for i := range 300 {
		devices = append(devices, registry.Device{Name: fmt.Sprintf("a-device-with-quite-a-long-name-for-a-serial-adapter-number-%03d", i)})
	}
	r, other := node(t, 0), node(t, 1)
	messages, err := r.Publish(0, devices)
	if err == nil || len(messages) != 257 {
		t.Fatalf("publish 300 devices: %d messages, error %v; want 256 and a hint, and an error", len(messages), err)
	}
	exchange(t, 0, r, other)
	if len(other.Devices(0)) != 256 {
		t.Fatalf("%d devices after a sync", len(other.Devices(0)))
	}
	hint := publish(t, r, 0, devices[50:256]...)
	if len(hint) != 1 {
		t.Fatalf("%d messages for a removal", len(hint))
	}
	for i, want := range []registry.Outcome{registry.Behind, registry.Unchanged} {
		if merged, err := other.Merge(0, hint[0].Wire); err != nil || merged.Outcome != want {
			t.Errorf("hint the %d. time: %v, %v; want %v", i+1, merged.Outcome, err, want)
		}
	}
	exchange(t, 0, other, r)
	if len(other.Devices(0)) != 206 || other.Root() != r.Root() {
		t.Errorf("%d devices after the sync, want 206", len(other.Devices(0)))
	}
}

func TestMergeRefuses(t *testing.T) {
	good := publish(t, node(t, 0), 0, registry.Device{Name: "a"})[0].Wire
	changed := func(i int) []byte {
		b := bytes.Clone(good)
		b[i] ^= 1
		return b
	}
	elsewhere := registry.New(registry.Config{Identity: ident(0), Cluster: identity.ClusterID{9}})
	asList := bytes.Clone(good)
	asList[0] = 3
	for what, wire := range map[string][]byte{
		"nothing":             nil,
		"one byte":            {1},
		"kind 0":              append([]byte{0}, good[1:]...),
		"another kind":        asList,
		"changed signature":   changed(len(good) - 1),
		"changed body":        changed(len(good) - 65),
		"changed key":         changed(10),
		"one byte more":       append(bytes.Clone(good), 0),
		"one byte less":       good[:len(good)-1],
		"of another cluster":  publish(t, elsewhere, 0, registry.Device{Name: "a"})[0].Wire,
		"larger than allowed": append([]byte{1}, make([]byte, 1000)...),
	} {
		r := node(t, 1)
		before := r.Root()
		if _, err := r.Merge(0, wire); !errors.Is(err, registry.ErrMessage) {
			t.Errorf("%s: error %v, want ErrMessage", what, err)
		}
		if r.Root() != before {
			t.Errorf("%s: changed the registry", what)
		}
	}
	r := node(t, 1)
	if merged, err := r.Merge(0, []byte{200, 1, 2, 3}); err != nil || merged.Outcome != registry.Unchanged {
		t.Errorf("a kind of a later version: %v, %v; want to be ignored", merged, err)
	}
}

func TestMergeDoesNotKeepItsInput(t *testing.T) {
	r := node(t, 1)
	wire := publish(t, node(t, 0), 0, registry.Device{Name: "a"})[0].Wire
	buffer := bytes.Clone(wire)
	if _, err := r.Merge(0, buffer); err != nil {
		t.Fatal(err)
	}
	clear(buffer)
	if got := everything(t, r); len(got) != 1 || !bytes.Equal(got[0], wire) {
		t.Error("the registry kept the caller's buffer")
	}
}

func TestWatchCoalescesAndStops(t *testing.T) {
	r := node(t, 1)
	changes, stop := r.Watch()
	messages := publish(t, node(t, 0), 0, registry.Device{Name: "a"}, registry.Device{Name: "b"})
	deliver(t, 0, messages, r)
	told := func() bool {
		select {
		case <-changes:
			return true
		default:
			return false
		}
	}
	if !told() || told() {
		t.Error("several changes are not told exactly once")
	}
	deliver(t, 0, messages, r)
	r.SetMembers(members())
	if told() {
		t.Error("told without a change")
	}
	r.SetMembers(members(0))
	if !told() {
		t.Error("a death is not told")
	}
	stop()
	r.SetMembers(members())
	if told() {
		t.Error("told after stop")
	}
}

func TestFullRegistryKeepsRoomForMembers(t *testing.T) {
	r := registry.New(registry.Config{Identity: ident(0), Cluster: cluster, NodeName: "garage"})
	r.SetMembers(map[identity.NodeID]registry.MemberView{ident(1).ID(): {Name: "server", Alive: true}})
	var full error
	for i := range 4097 {
		stranger := registry.New(registry.Config{Identity: identity.FromSeed([32]byte{0xff, byte(i >> 8), byte(i)}), Cluster: cluster})
		if _, full = r.Merge(0, publish(t, stranger, 0)[0].Wire); full != nil {
			break
		}
	}
	if !errors.Is(full, registry.ErrFull) {
		t.Fatalf("4097 made-up owners: error %v, want ErrFull", full)
	}
	deliver(t, 0, publish(t, node(t, 1), 0, registry.Device{Name: "a"}), r)
	publish(t, r, 0, registry.Device{Name: "b"})
	if d := r.Devices(0); len(d) != 2 {
		t.Errorf("devices of members: %v", d)
	}
}
