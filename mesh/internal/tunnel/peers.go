package tunnel

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.zx2c4.com/wireguard/device"

	"github.com/serialspan/serialspan/mesh/identity"
)

// stamp is the wall time of the last initiation to a key.
type stamp struct {
	key identity.WireGuardKey
	at  time.Time
}

// table is what the data path reads; it is replaced whole.
type table struct {
	byID  map[identity.NodeID]*link
	byIID map[[8]byte]*link // by the lower half of the mesh address
}

// adopt gives a new device our key and the peers that were set before.
func (t *Tunnel) adopt(dev *device.Device) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.device = dev
	private := t.cfg.Private.Bytes()
	if err := dev.IpcSet("private_key=" + hex.EncodeToString(private[:]) + "\n"); err != nil {
		return err
	}
	for id, key := range t.keys {
		if err := dev.IpcSet(t.peerLines(id, key)); err != nil {
			return err
		}
		t.keep(key)
	}
	return nil
}

// keep shows a new peer to a socket that wants to keep it reachable: memnet's
// does, because wireguard-go drains a peer's channels in a finalizer, which
// the runtime does not allow for the channels of a testing/synctest bubble.
func (t *Tunnel) keep(key identity.WireGuardKey) {
	if k, ok := t.cfg.Socket.(interface{ Keep(any) }); ok {
		k.Keep(t.device.LookupPeer(device.NoisePublicKey(key)))
	}
}

// SetPeer adds a member, or gives it another WireGuard key: the new peer takes
// the /128 first, then the old one is removed, in one configuration call, so
// that no packet finds a hole. Its route stays.
func (t *Tunnel) SetPeer(id identity.NodeID, key identity.WireGuardKey) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	old, had := t.keys[id]
	if had && old == key {
		return nil
	}
	l := t.link(id)
	if l == nil {
		if clash := t.table.Load().byIID[[8]byte(id[:8])]; clash != nil {
			return fmt.Errorf("add peer %s: its mesh address is that of %s", id, clash.id)
		}
		l = &link{id: id, addr: t.cfg.Cluster.Address(id), first: t.cfg.Self.Compare(id) < 0}
		l.init.settle()
		if s := t.walls[id]; s.key == key {
			l.wall = s.at // the peer may remember it
		}
		delete(t.walls, id)
		t.change(func(next *table) {
			next.byID[id] = l
			next.byIID[[8]byte(id[:8])] = l
		})
	}
	if had {
		l.renew() // what it has was made for the old key
	}
	t.keys[id] = key
	if t.device == nil {
		return nil
	}
	lines := t.peerLines(id, key)
	if had {
		lines += "public_key=" + hex.EncodeToString(old[:]) + "\nremove=true\n"
	}
	if err := t.device.IpcSet(lines); err != nil {
		return fmt.Errorf("set peer %s: %w", id, err)
	}
	t.keep(key)
	return nil
}

// Rekey gives the device another private key. All WireGuard sessions end; new
// handshakes are made as soon as there is something to send. Peers that do not
// know the new key yet drop them.
func (t *Tunnel) Rekey(private identity.WireGuardPrivate) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cfg.Private = private
	t.bind.setKey(private.Public())
	clear(t.walls)
	for _, l := range t.table.Load().byID {
		l.renew()
	}
	if t.device == nil {
		return nil
	}
	key := private.Bytes()
	if err := t.device.IpcSet("private_key=" + hex.EncodeToString(key[:]) + "\n"); err != nil {
		return fmt.Errorf("change WireGuard key: %w", err)
	}
	return nil
}

// renew forgets what belongs to a pair of keys.
func (l *link) renew() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.init.settle()
	l.wall = time.Time{}
}

func (t *Tunnel) peerLines(id identity.NodeID, key identity.WireGuardKey) string {
	var b strings.Builder
	fmt.Fprintf(&b, "public_key=%s\n", hex.EncodeToString(key[:]))
	fmt.Fprintf(&b, "endpoint=%s%s\n", endpointPrefix, id)
	fmt.Fprintf(&b, "allowed_ip=%s/128\n", t.cfg.Cluster.Address(id))
	return b.String()
}

// RemovePeer forgets a member and its route.
func (t *Tunnel) RemovePeer(id identity.NodeID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key, had := t.keys[id]
	if !had {
		return
	}
	delete(t.keys, id)
	if l := t.link(id); l != nil {
		l.mu.Lock()
		if !l.wall.IsZero() {
			t.walls[id] = stamp{key, l.wall}
		}
		l.mu.Unlock()
	}
	t.change(func(next *table) {
		delete(next.byID, id)
		delete(next.byIID, [8]byte(id[:8]))
	})
	if t.device != nil {
		if err := t.device.IpcSet("public_key=" + hex.EncodeToString(key[:]) + "\nremove=true\n"); err != nil {
			t.log.Warn("remove peer failed", "node", id.Short(), "err", err)
		}
	}
}

// Peers returns the members that are peers now, in no order.
func (t *Tunnel) Peers() []identity.NodeID {
	return slices.Collect(maps.Keys(t.table.Load().byID))
}

// HasPeer reports whether the member is a peer now.
func (t *Tunnel) HasPeer(id identity.NodeID) bool { return t.link(id) != nil }

// IsStraight reports whether a member is a peer whose route goes through no
// other.
func (t *Tunnel) IsStraight(id identity.NodeID) bool {
	l := t.link(id)
	if l == nil {
		return false
	}
	r := l.route.Load()
	return r != nil && !r.IsRelay()
}

func (t *Tunnel) link(id identity.NodeID) *link { return t.table.Load().byID[id] }

// change replaces the table by a changed copy; t.mu is held.
func (t *Tunnel) change(edit func(*table)) {
	old := t.table.Load()
	next := &table{
		byID:  make(map[identity.NodeID]*link, len(old.byID)+1),
		byIID: make(map[[8]byte]*link, len(old.byIID)+1),
	}
	for id, l := range old.byID {
		next.byID[id] = l
		next.byIID[[8]byte(id[:8])] = l
	}
	edit(next)
	t.table.Store(next)
}
