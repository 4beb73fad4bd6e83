package mesh

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/internal/admission"
	"github.com/serialspan/serialspan/mesh/internal/join"
	"github.com/serialspan/serialspan/mesh/keyring"
	"github.com/serialspan/serialspan/mesh/removal"
)

const (
	keysFile     = "keys"
	removalsFile = "removed"
)

// belonging is who may be a member: the cluster's secrets and the removals. It
// is safe for concurrent use.
type belonging struct {
	// disk is held over each change of ring and removals, so that they reach
	// the disk in order. It is taken before Mesh.mu and mu.
	disk sync.Mutex

	mu       sync.Mutex // a leaf; guards what follows
	ring     *keyring.Ring
	removals removal.Set
	seen     map[identity.NodeID]uint32  // key number that others use; since we use ours
	leaving  map[identity.NodeID]parting // those that were removed
	problems map[problemKind]string
	rotation Rotation
	compare  map[identity.NodeID]time.Duration // whom to compare with, and when
	heard    []removal.Statement               // from rumours, not yet looked at
	hintAt   time.Duration                     // when to tell others that we hold something else; 0: never

	wake   chan struct{} // belongLoop should look again
	rotate chan struct{} // rotateLoop should look again
}

// problemKind keeps one text for each thing that can be wrong.
type problemKind int

const (
	keysNotKept problemKind = iota
	removalsNotKept
	keysDamaged
	removalsDamaged
	keyRefused
	weAreBehind
	weAreRemoved
)

func (b *belonging) init() {
	b.seen = make(map[identity.NodeID]uint32)
	b.leaving = make(map[identity.NodeID]parting)
	b.problems = make(map[problemKind]string)
	b.compare = make(map[identity.NodeID]time.Duration)
	b.wake = make(chan struct{}, 1)
	b.rotate = make(chan struct{}, 1)
}

// problem notes what is wrong, or with "" that it is not any more.
func (b *belonging) problem(kind problemKind, text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if text == "" {
		delete(b.problems, kind)
	} else {
		b.problems[kind] = text
	}
}

// recallBelonging reads what was known at the last stop. The secret of the
// configuration counts if the ring does not know a newer one.
func (m *Mesh) recallBelonging() error {
	b := &m.belonging
	b.init()
	id, _ := m.cfg.Store.Identity()
	statement, err := keyring.SignStatement(id, m.cfg.Secret, 0)
	if err != nil {
		return err
	}
	given := keyring.Key{Secret: m.cfg.Secret, Statement: statement, InUse: true}
	b.ring = keyring.New(given)
	text, err := m.cfg.Store.read(keysFile)
	if err == nil {
		var kept *keyring.Ring
		if kept, err = keyring.Unmarshal(text); err == nil && kept.Cluster() == m.cfg.Secret.Cluster {
			// A secret far ahead was put there by hand, long after.
			if _, addErr := kept.Add(given); !errors.Is(addErr, keyring.ErrAhead) {
				b.ring = kept
			}
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.log.Warn("cluster keys of the last run are lost, the secret file counts", "err", err)
		b.problems[keysDamaged] = fmt.Sprintf("state directory: %v; the secret file counts, older keys are not accepted", err)
	}
	m.cfg.Secret = b.ring.Current().Secret

	text, err = m.cfg.Store.read(removalsFile)
	if err == nil {
		err = b.removals.Unmarshal(m.cfg.Secret.Cluster, text, m.counts)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.log.Warn("list of removed nodes damaged", "err", err)
		b.problems[removalsDamaged] = fmt.Sprintf("state directory: list of removed nodes: %v; other members give it again", err)
	}
	return nil
}

// counts reports whether an issuer's removals are honoured here.
func (m *Mesh) counts(issuer identity.NodeID) bool {
	return issuer == m.self || slices.Contains(m.cfg.Admins(), issuer)
}

// mayRotate reports whether secrets made by a node are taken here: everybody's
// where there are no administrators.
func (m *Mesh) mayRotate(issuer identity.NodeID) bool {
	admins := m.cfg.Admins()
	return (len(admins) == 0 || slices.Contains(admins, issuer)) && !m.isRemoved(issuer)
}

// isRemoved reports whether a node was removed, as far as this one honours that.
func (m *Mesh) isRemoved(id identity.NodeID) bool {
	b := &m.belonging
	b.mu.Lock()
	defer b.mu.Unlock()
	_, removed := b.removals.Find(id, m.counts)
	return removed
}

// admits reports whether a node may be a member.
func (m *Mesh) admits(id identity.NodeID) bool { return m.cfg.Admit(id) && !m.isRemoved(id) }

// wasMember reports whether a node was a member when an older secret was in use.
func (m *Mesh) wasMember(id identity.NodeID) bool {
	if _, known := m.roster.Get(id); known {
		return true
	}
	m.belonging.mu.Lock()
	defer m.belonging.mu.Unlock()
	return m.belonging.ring.Knows(id)
}

// ring returns a copy of the secrets.
func (m *Mesh) ring() *keyring.Ring {
	m.belonging.mu.Lock()
	defer m.belonging.mu.Unlock()
	return m.belonging.ring.Clone()
}

// Secret returns the cluster secret in use.
func (m *Mesh) Secret() identity.Secret {
	m.belonging.mu.Lock()
	defer m.belonging.mu.Unlock()
	return m.belonging.ring.Current().Secret
}

// changeKeys changes the secrets: on disk, then in all that uses them. It
// reports whether edit changed anything. It may take as long as the disk does.
func (m *Mesh) changeKeys(edit func(*keyring.Ring) (changed bool)) bool {
	b := &m.belonging
	b.disk.Lock()
	defer b.disk.Unlock()
	ring := m.ring()
	before := ring.Current().Secret
	if !edit(ring) {
		return false
	}
	err := m.cfg.Store.write(keysFile, string(ring.Marshal()))
	text := ""
	if err != nil {
		// The others have it, so it is not lost with this process.
		m.log.Warn("cluster keys not kept", "err", err)
		text = fmt.Sprintf("state directory: cluster keys are not kept: %v; free or repair the disk, or this node may have to be given the secret by hand after a restart", err)
	}
	b.problem(keysNotKept, text)
	b.mu.Lock()
	b.ring = ring
	delete(b.problems, weAreBehind)
	if ring.Current().Secret != before {
		clear(b.seen)
	}
	b.mu.Unlock()
	m.useKeys(ring)
	if now := ring.Current().Secret; now != before {
		m.log.Info("cluster secret changed", "key", now.KeyNumber, "fingerprint", now.Fingerprint())
		m.cfg.OnSecret(now)
	}
	m.watch.changed()
	poke(b.rotate)
	return true
}

// useKeys gives the secrets to all that seals or opens with them.
func (m *Mesh) useKeys(ring *keyring.Ring) {
	m.join.SetKeys(joinKeys(ring))
	if err := m.gossip.SetKeys(gossipKeys(ring)); err != nil {
		m.log.Error("gossip keys not changed", "err", err)
	}
}

// sealFirst returns the accepted secrets, the one in use first.
func sealFirst(ring *keyring.Ring) []keyring.Key {
	current := ring.Current()
	keys := []keyring.Key{current}
	for _, k := range ring.Keys() {
		if k.Secret != current.Secret {
			keys = append(keys, k)
		}
	}
	return keys
}

func joinKeys(ring *keyring.Ring) []join.Key {
	current := ring.Current().Secret
	var keys []join.Key
	for _, k := range sealFirst(ring) {
		use := join.UseCurrent
		if k.Secret.Compare(current) < 0 {
			use = join.UseOld
		}
		keys = append(keys, join.Key{Number: k.Secret.KeyNumber, PSK: k.Secret.JoinKey(), Use: use})
	}
	for _, n := range ring.Named() {
		keys = append(keys, join.Key{Number: n.Number, PSK: n.JoinKey, Use: join.UseNamed})
	}
	return keys
}

func gossipKeys(ring *keyring.Ring) [][32]byte {
	var keys [][32]byte
	for _, k := range sealFirst(ring) {
		keys = append(keys, k.Secret.GossipKey())
	}
	return keys
}

// beaconKeys returns the keys of beacons: all open, the first seals.
func (m *Mesh) beaconKeys() [][32]byte {
	m.belonging.mu.Lock()
	defer m.belonging.mu.Unlock()
	var keys [][32]byte
	for _, k := range sealFirst(m.belonging.ring) {
		keys = append(keys, k.Secret.BeaconKey())
	}
	return keys
}

// digest is equal on members that need not compare.
func (b *belonging) digest() [8]byte {
	h := sha256.New()
	hash := b.ring.Current().Secret.Hash()
	h.Write(hash[:])
	if next, ok := b.ring.Next(); ok {
		hash = next.Secret.Hash()
		h.Write(hash[:])
	}
	sum := b.removals.Digest()
	h.Write(sum[:])
	return [8]byte(h.Sum(nil))
}

// hint is what to tell others of what we hold.
func (m *Mesh) hint() admission.Hint {
	b := &m.belonging
	b.mu.Lock()
	defer b.mu.Unlock()
	return admission.Hint{From: m.self, Digest: b.digest(), Number: b.ring.Current().Secret.KeyNumber}
}
