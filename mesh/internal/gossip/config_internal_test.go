package gossip

import (
	"context"
	"net"
	"net/netip"
	"reflect"
	"testing"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/memnet"
)

// TestConfigDefaults walks all fields, so that none is forgotten.
func TestConfigDefaults(t *testing.T) {
	self := identity.NodeID{1}
	required := Config{
		Self:         self,
		Address:      func(identity.NodeID) netip.Addr { return netip.Addr{} },
		Label:        "label",
		Key:          [32]byte{1},
		Meta:         func() []byte { return nil },
		Verify:       func([]byte) (identity.NodeID, error) { return self, nil },
		Packets:      memnet.New(memnet.Config{}).Conn(memnet.AddrOf(self)),
		Addr:         memnet.AddrOf,
		NodeOf:       memnet.NodeOf,
		DialStream:   func(context.Context, identity.NodeID) (net.Conn, error) { return nil, net.ErrClosed },
		AcceptStream: func(context.Context) (net.Conn, identity.NodeID, error) { return nil, self, net.ErrClosed },
	}
	full, err := required.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []reflect.Value{reflect.ValueOf(full), reflect.ValueOf(full.Intervals)} {
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; v.Field(i).IsZero() {
				t.Errorf("%s has no default", name)
			}
		}
	}
	for i := range reflect.TypeFor[Config]().NumField() {
		field := reflect.TypeFor[Config]().Field(i)
		c := required
		v := reflect.ValueOf(&c).Elem().Field(i)
		if v.IsZero() {
			continue // optional
		}
		v.SetZero()
		if _, err := c.withDefaults(); err == nil {
			t.Errorf("%s may be missing", field.Name)
		}
	}
}
