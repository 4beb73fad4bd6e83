package keyring

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/serialspan/serialspan/mesh/identity"
)

const (
	// Accepted is how many rotations old a secret may be and still let a
	// former member in.
	Accepted = 2
	// Named is for how many rotations more its holder is told that it is too
	// old.
	Named = 2

	// maxAhead bounds how far a secret may be ahead of the newest one here:
	// nobody can use up the key numbers in a few steps.
	maxAhead = 8
	// maxPerNumber bounds the secrets of one key number, made at the same time.
	maxPerNumber = 3
	// maxKnown bounds the former members remembered.
	maxKnown = 4096
)

// Errors of Ring.Add.
var (
	// ErrCluster: the secret is that of another cluster.
	ErrCluster = errors.New("secret of another cluster")
	// ErrAhead: the key number is too far ahead to be believed.
	ErrAhead = errors.New("key number too far ahead")
	// ErrOld: the secret is older than those accepted.
	ErrOld = errors.New("secret too old")
)

// Key is a secret of the cluster.
type Key struct {
	Secret    identity.Secret
	Statement Statement // of who made it
	InUse     bool      // false: offered
}

// NamedKey opens the first join message of a holder of a secret that is too
// old, to tell it so.
type NamedKey struct {
	Number  uint32
	JoinKey [32]byte
}

// Ring holds the secrets of one member. It is not safe for concurrent use. The
// zero value is not usable; use New or Unmarshal.
type Ring struct {
	cluster identity.ClusterID
	keys    []Key      // newest first, none older than Oldest
	named   []NamedKey // newest first
	known   map[identity.NodeID]uint32
}

// New makes a ring with one secret, in use.
func New(first Key) *Ring {
	first.InUse = true
	return &Ring{cluster: first.Secret.Cluster, keys: []Key{first}, known: make(map[identity.NodeID]uint32)}
}

// Clone returns a copy that changes apart from r.
func (r *Ring) Clone() *Ring {
	return &Ring{cluster: r.cluster, keys: slices.Clone(r.keys), named: slices.Clone(r.named), known: maps.Clone(r.known)}
}

// Current returns the newest secret in use.
func (r *Ring) Current() Key {
	return r.keys[slices.IndexFunc(r.keys, func(k Key) bool { return k.InUse })]
}

// Next returns the newest secret that is offered and newer than the one in use.
func (r *Ring) Next() (Key, bool) {
	if first := r.keys[0]; !first.InUse {
		return first, true
	}
	return Key{}, false
}

// Keys returns all secrets that are accepted, newest first.
func (r *Ring) Keys() []Key { return slices.Clone(r.keys) }

// Named returns the join keys of secrets that are too old but not forgotten,
// newest first.
func (r *Ring) Named() []NamedKey { return slices.Clone(r.named) }

// Find returns an accepted secret by its hash.
func (r *Ring) Find(hash [sha256.Size]byte) (Key, bool) {
	i := slices.IndexFunc(r.keys, func(k Key) bool { return k.Secret.Hash() == hash })
	if i < 0 {
		return Key{}, false
	}
	return r.keys[i], true
}

// Oldest returns the smallest key number that is accepted.
func (r *Ring) Oldest() uint32 {
	oldest := uint32(0)
	if n := r.Current().Secret.KeyNumber; n > Accepted {
		oldest = n - Accepted
	}
	for _, k := range r.keys {
		if k.InUse {
			oldest = max(oldest, k.Statement.oldest)
		}
	}
	return oldest
}

// Add takes in a secret, and that it is in use. It reports whether the ring
// changed. The error wraps ErrCluster, ErrAhead, ErrOld or ErrStatement.
func (r *Ring) Add(k Key) (changed bool, err error) {
	switch {
	case k.Secret.Cluster != r.cluster:
		err = ErrCluster
	case !k.Statement.Fits(k.Secret):
		err = ErrStatement
	case k.Secret.KeyNumber < r.Oldest():
		err = ErrOld
	case k.Secret.KeyNumber > r.keys[0].Secret.KeyNumber && k.Secret.KeyNumber-r.keys[0].Secret.KeyNumber > maxAhead:
		err = ErrAhead
	}
	if err != nil {
		return false, fmt.Errorf("take key number %d: %w", k.Secret.KeyNumber, err)
	}
	return r.add(k), nil
}

func (r *Ring) add(k Key) (changed bool) {
	i, found := slices.BinarySearchFunc(r.keys, k, func(a, b Key) int { return b.Secret.Compare(a.Secret) })
	if found {
		if r.keys[i].InUse || !k.InUse {
			return false
		}
		r.keys[i].InUse = true
	} else {
		r.keys = slices.Insert(r.keys, i, k)
	}
	r.trim()
	_, kept := r.Find(k.Secret.Hash())
	return kept
}

// trim drops what is too old, what was offered and overtaken, and what is too
// much.
func (r *Ring) trim() {
	current, oldest := r.Current().Secret, r.Oldest()
	perNumber := make(map[uint32]int)
	r.keys = slices.DeleteFunc(r.keys, func(k Key) bool {
		n := k.Secret.KeyNumber
		perNumber[n]++
		switch {
		case n < oldest:
			r.named = append(r.named, NamedKey{n, k.Secret.JoinKey()})
			return true
		case k.InUse && k.Secret == current:
			return false
		}
		return !k.InUse && k.Secret.Compare(current) < 0 || perNumber[n] > maxPerNumber
	})
	slices.SortStableFunc(r.named, func(a, b NamedKey) int { return cmp.Compare(b.Number, a.Number) })
	r.named = slices.Compact(r.named)
	named := make(map[uint32]int)
	r.named = slices.DeleteFunc(r.named, func(k NamedKey) bool {
		named[k.Number]++
		return k.Number >= oldest || current.KeyNumber-k.Number > Accepted+Named || named[k.Number] > maxPerNumber
	})
	maps.DeleteFunc(r.known, func(_ identity.NodeID, n uint32) bool { return n < oldest })
}

// Know notes who is a member while the present secret is in use. It reports
// whether the ring changed.
func (r *Ring) Know(members []identity.NodeID) (changed bool) {
	n := r.Current().Secret.KeyNumber
	for _, id := range members {
		was, known := r.known[id]
		if known && was >= n || !known && len(r.known) >= maxKnown {
			continue
		}
		r.known[id], changed = n, true
	}
	return changed
}

// Knows reports whether a node was a member under a secret that is accepted.
func (r *Ring) Knows(id identity.NodeID) bool {
	_, known := r.known[id]
	return known
}

// Forget makes a node one that was never a member.
func (r *Ring) Forget(id identity.NodeID) { delete(r.known, id) }
