package quicnet

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/memnet"
)

// TestConfigDefaults walks all fields, so that none is forgotten.
func TestConfigDefaults(t *testing.T) {
	id := identity.FromSeed([32]byte{1})
	required := Config{
		Identity:   id,
		PacketConn: memnet.New(memnet.Config{}).Conn(memnet.AddrOf(id.ID())),
		Addr:       memnet.AddrOf,
		NodeOf:     memnet.NodeOf,
	}
	full, err := required.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	v := reflect.ValueOf(full)
	for i := range v.NumField() {
		if name := v.Type().Field(i).Name; name != "KeepAlive" && v.Field(i).IsZero() {
			t.Errorf("%s has no default", name)
		}
	}
	for i := range v.NumField() {
		c := required
		field := reflect.ValueOf(&c).Elem().Field(i)
		if field.IsZero() {
			continue // optional
		}
		field.SetZero()
		if _, err := c.withDefaults(); err == nil {
			t.Errorf("%s may be missing", v.Type().Field(i).Name)
		}
	}
}

// TestHandshakeIgnoresDatesAndClocks makes connections with certificates that
// are long over or far from valid, between nodes in 1970 and 2100.
func TestHandshakeIgnoresDatesAndClocks(t *testing.T) {
	year := func(y int) time.Time { return time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC) }
	rows := []struct {
		name               string
		from, until, clock time.Time // of the dialer; the other one is as usual
	}{
		{"over, clock in 1970", year(1971), year(1972), year(1970)},
		{"over, clock in 2100", year(1971), year(1972), year(2100)},
		{"not yet valid, clock in 1970", year(2090), year(2091), year(1970)},
		{"not yet valid, clock in 2100", year(2190), year(2191), year(2100)},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := memnet.New(memnet.Config{Link: memnet.Link{Delay: time.Millisecond}})
				var nets []*Net
				for i := range 2 {
					id := identity.FromSeed([32]byte{byte(i)})
					n, err := New(Config{Identity: id, PacketConn: hub.Conn(memnet.AddrOf(id.ID())), Addr: memnet.AddrOf, NodeOf: memnet.NodeOf})
					if err != nil {
						t.Fatal(err)
					}
					nets = append(nets, n)
				}
				odd := nets[0]
				template := &x509.Certificate{SerialNumber: big.NewInt(7), NotBefore: row.from, NotAfter: row.until}
				id := odd.cfg.Identity
				der, err := x509.CreateCertificate(rand.Reader, template, template, id.Public(), id.Private())
				if err != nil {
					t.Fatal(err)
				}
				odd.tls.Certificates = []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: id.Private()}}
				odd.tls.Time = func() time.Time { return row.clock }

				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				for _, n := range nets {
					wg.Go(func() { _ = n.Run(ctx) })
				}
				for i, n := range nets { // the odd one as client, then as server
					if err := nets[1-i].Listen("x"); err != nil {
						t.Fatal(err)
					}
					c, err := n.Dial(ctx, nets[1-i].self, "x")
					if err != nil {
						t.Fatalf("Dial: %v", err)
					}
					if _, err := c.Write([]byte("y")); err != nil {
						t.Fatal(err)
					}
					s, _, err := nets[1-i].Accept(ctx, "x")
					if err != nil {
						t.Fatal(err)
					}
					if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
						t.Errorf("read: %v", err)
					}
					_, _ = c.Close(), s.Close()
					n.Renew(nets[1-i].self)
					time.Sleep(time.Second) // until both know
				}
				cancel()
				wg.Wait()
			})
		})
	}
}
