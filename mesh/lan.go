package mesh

import (
	"context"
	"net/netip"
	"slices"

	"github.com/serialspan/serialspan/mesh/internal/beacon"
)

// runBeacon finds members on the same link, which need no address to join. The
// mesh goes on without it.
func (m *Mesh) runBeacon(ctx context.Context) {
	b, err := beacon.New(beacon.Config{
		Keys:   m.beaconKeys,
		Port:   m.cfg.Socket.LocalAddr().Port(),
		OnPeer: m.beaconHeard,
		Skip:   isVirtual,
		Logger: m.log,
	})
	if err == nil {
		err = b.Run(ctx)
	}
	if err != nil {
		m.log.Warn("members on the same link are not looked for", "err", err)
	}
}

// beaconHeard tries to join through an address at which a beacon says that a
// holder of the secret is. Members that are there are left alone.
func (m *Mesh) beaconHeard(addr netip.AddrPort) {
	m.do(func() {
		for id, alive := range m.alive {
			if !alive || id == m.self {
				continue
			}
			signed, _ := m.roster.Get(id)
			if !signed.IsZero() && slices.Contains(signed.Record().Endpoints, addr) {
				return
			}
			for _, r := range m.peering.Routes(id) {
				if r.Remote == addr {
					return
				}
			}
		}
		m.beginJoin(addr)
	})
}
