package registry_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/registry"
)

// house has nodes garage, server and two that are both named "shed"; server's
// zwave is in conflict with garage's, cloud is dead, and the answers are those
// of a node "me".
func house(t *testing.T) *registry.Registry {
	me := node(t, 5)
	garage, server, cloud, shed1, shed2 := node(t, 0), node(t, 1), node(t, 2), node(t, 3), node(t, 4)
	deliver(t, 0, publish(t, garage, 0, registry.Device{Name: "zwave"}, registry.Device{Name: "garage-zigbee"}), me, server)
	deliver(t, 0, publish(t, server, 0, registry.Device{Name: "zwave"}, registry.Device{Name: "furnace", State: registry.StateAway},
		registry.Device{Name: "meter", State: registry.StateAway, Detail: "being opened"}), me)
	deliver(t, 0, publish(t, cloud, 0, registry.Device{Name: "modem"}), me)
	deliver(t, 0, publish(t, shed1, 0, registry.Device{Name: "pump"}, registry.Device{Name: "fan"}), me)
	deliver(t, 0, publish(t, shed2, 0, registry.Device{Name: "pump"}), me)
	m := members(2)
	m[ident(4).ID()] = registry.MemberView{Name: "shed", Alive: true}
	delete(m, ident(5).ID())
	me.SetMembers(m)
	publish(t, me, 0, registry.Device{Name: "mine"})
	return me
}

func TestResolve(t *testing.T) {
	r := house(t)
	id := func(n int) string { return ident(n).ID().String() }
	for _, row := range []struct {
		query string
		owner int // -1: an error
		is    error
		text  string // of the error
	}{
		{"zwave", 0, nil, ""},
		{" zwave ", 0, nil, ""},
		{"zwave@garage", 0, nil, ""},
		{"zwave@server", 1, nil, ""},
		{"zwave@" + id(1), 1, nil, ""},
		{"zwave@" + strings.ToUpper(id(1)), 1, nil, ""},
		{"zwave@" + ident(1).ID().Short(), 1, nil, ""},
		{"mine", 5, nil, ""},
		{"mine@n5", 5, nil, ""},
		{"fan@shed", 3, nil, ""}, // only one of the two has it
		{"pump@" + id(4), 4, nil, ""},
		{"pump@shed", -1, registry.ErrAmbiguous, `device "pump@shed" is ambiguous: several nodes have that name; use one of pump@` + id(3) + `, pump@` + id(4)},
		{"zwav", -1, registry.ErrNotFound, "no device named \"zwav\"; nearest: zwave; see `serialspan devices`"},
		{"ZWAVE", -1, registry.ErrNotFound, "no device named \"ZWAVE\"; nearest: zwave; see `serialspan devices`"},
		{"zigbee", -1, registry.ErrNotFound, "no device named \"zigbee\"; nearest: garage-zigbee; see `serialspan devices`"},
		{"qqqqqqqq", -1, registry.ErrNotFound, "no device named \"qqqqqqqq\"; see `serialspan devices`"},
		{"", -1, registry.ErrNotFound, "no device named \"\"; see `serialspan devices`"},
		{"@", -1, registry.ErrNotFound, "no device named \"@\"; see `serialspan devices`"},
		{"zwave@" + id(1)[:5], -1, registry.ErrNotFound, "no node named \"" + id(1)[:5] + "\"; see `serialspan nodes`"},
		{"zwave@grage", -1, registry.ErrNotFound, "no node named \"grage\"; nearest: garage; see `serialspan nodes`"},
		{"zwav@server", -1, registry.ErrNotFound, "no device named \"zwav@server\"; nearest: zwave@server; see `serialspan devices`"},
		{"zwave@shed", -1, registry.ErrNotFound, "no device named \"zwave@shed\"; nearest: zwave; see `serialspan devices`"},
		{"modem", -1, registry.ErrAway, "device \"modem\" is away: its node cloud (" + ident(2).ID().Short() + ") cannot be reached; see `serialspan nodes`"},
		{"modem@cloud", -1, registry.ErrAway, "device \"modem@cloud\" is away: its node cloud (" + ident(2).ID().Short() + ") cannot be reached; see `serialspan nodes`"},
		{"furnace", -1, registry.ErrAway, "device \"furnace\" is away: it is unplugged from node server (" + ident(1).ID().Short() + "); plug it in there, or into any other node"},
		{"meter", -1, registry.ErrAway, "device \"meter\" is away: its node server (" + ident(1).ID().Short() + ") says: being opened"},
	} {
		got, err := r.Resolve(0, row.query)
		if row.owner >= 0 {
			name, _, _ := strings.Cut(strings.TrimSpace(row.query), "@")
			if err != nil || got.Owner != ident(row.owner).ID() || got.Device.Name != name {
				t.Errorf("%q: %+v, %v; want the one of node %d", row.query, got, err, row.owner)
			}
			continue
		}
		if !errors.Is(err, row.is) || err.Error() != row.text {
			t.Errorf("%q: error %q,\nwant %q", row.query, err, row.text)
		}
	}
}

func TestResolveErrorsCarryWhatTheySay(t *testing.T) {
	r := house(t)
	_, err := r.Resolve(0, "furnace")
	var away *registry.AwayError
	if !errors.As(err, &away) || away.Device.Owner != ident(1).ID() || !away.Device.OwnerAlive {
		t.Errorf("away: %+v", away)
	}
	_, err = r.Resolve(0, "pump@shed")
	var ambiguous *registry.AmbiguousError
	if !errors.As(err, &ambiguous) {
		t.Fatalf("ambiguous: %v", err)
	}
	for _, query := range ambiguous.Candidates {
		if _, err := r.Resolve(0, query); err != nil {
			t.Errorf("candidate %q: %v", query, err)
		}
	}
	_, err = r.Resolve(0, "zwave@nowhere")
	var missing *registry.NotFoundError
	if !errors.As(err, &missing) || missing.Node != "nowhere" {
		t.Errorf("not found: %+v", missing)
	}
}

// A member can give itself any name, also another's NodeID.
func TestNodeNameDoesNotShadowNodeID(t *testing.T) {
	r := node(t, 5)
	for i := range 2 {
		deliver(t, 0, publish(t, node(t, i), 0, registry.Device{Name: "zwave"}), r)
	}
	r.SetMembers(map[identity.NodeID]registry.MemberView{
		ident(0).ID(): {Name: "garage", Alive: true},
		ident(1).ID(): {Name: ident(0).ID().String(), Alive: true},
	})
	if got, err := r.Resolve(0, "zwave@"+ident(0).ID().String()); err != nil || got.Owner != ident(0).ID() {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestDevicesAreOrdered(t *testing.T) {
	var got []string
	for _, s := range house(t).Devices(0) {
		mark := ""
		if s.Conflict {
			mark = " conflict"
		}
		got = append(got, s.Device.Name+" "+s.OwnerName+" "+s.Device.State.String()+mark)
	}
	want := []string{
		"fan shed available", "furnace server away", "garage-zigbee garage available", "meter server away", "mine n5 available", "modem cloud away",
		"pump shed available", "pump shed available conflict", "zwave garage available", "zwave server available conflict",
	}
	if !slices.Equal(got, want) {
		t.Errorf("devices\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestResolveByLabels(t *testing.T) {
	me, garage, cloud := node(t, 5), node(t, 0), node(t, 2) // cloud is dead
	zone := func(name, kind, zone string, state registry.State) registry.Device {
		return registry.Device{Name: name, Kind: kind, Labels: map[string]string{"zone": zone}, State: state}
	}
	deliver(t, 0, publish(t, garage, 0, zone("a", "zwave", "garage", 0), zone("b", "zigbee", "garage", registry.StateInUse),
		zone("c", "zwave", "shed", 0), zone("d", "meter", "shed", registry.StateAway)), me)
	deliver(t, 0, publish(t, cloud, 0, zone("e", "zwave", "garage", 0), zone("f", "modem", "attic", 0)), me)
	m := members(2)
	delete(m, ident(5).ID())
	me.SetMembers(m)
	for _, row := range []struct {
		query, want string
		is          error
		text        string
	}{
		{"zone=garage,kind=zwave", "a", nil, ""}, // the other's owner is dead
		{" kind=zigbee , zone=garage ", "b", nil, ""},
		{"kind=zigbee", "b", nil, ""},
		{"zone=garage", "", registry.ErrAmbiguous, `several devices have these labels; use one of a, b, e@` + ident(2).ID().String()},
		{"zone=cellar", "", registry.ErrNotFound, `no device with the labels "zone=cellar"`},
		{"colour=", "", registry.ErrNotFound, `no device with the labels "colour="`},
		{"kind=meter,zone=shed", "", registry.ErrAway, "is unplugged from node"},
		{"kind=modem", "", registry.ErrAway, "its node cloud"},
	} {
		got, err := me.Resolve(0, row.query)
		if row.is == nil && (err != nil || got.Device.Name != row.want) || row.is != nil && (!errors.Is(err, row.is) || !strings.Contains(err.Error(), row.text)) {
			t.Errorf("%q: %q, %v", row.query, got.Device.Name, err)
		}
	}
}
