package roster

import (
	"slices"
	"sync"

	"github.com/serialspan/serialspan/mesh/identity"
)

// MaxRecords bounds a Roster and a members list. A holder of the secret could
// otherwise fill the memory of every member with made-up identities.
const MaxRecords = 4096

// Outcome says what became of a record given to Roster.Merge.
type Outcome int

const (
	// Same: the roster holds these very bytes already.
	Same Outcome = iota
	// Older: the roster holds a newer record of the node.
	Older
	// Added: the first record of the node.
	Added
	// Newer: it replaced an older record of the node.
	Newer
	// Own: a record of this very node that this process did not make and that
	// is not older than ours. It is not taken; OwnEpoch says what it means.
	Own
	// Full: the first record of a node, but the roster is full. Not taken.
	Full
)

// String returns the outcome's name in lower case.
func (o Outcome) String() string {
	names := [...]string{"same", "older", "added", "newer", "own", "full"}
	if o < 0 || int(o) >= len(names) {
		return "unknown"
	}
	return names[o]
}

// Roster holds the newest record of every known member, this node's own
// included. It is safe for concurrent use: one mutex guards all of it. The
// zero value is not usable; use New.
type Roster struct {
	mu      sync.Mutex
	self    Signed
	records map[identity.NodeID]Signed // without self
}

// New makes the roster of the node whose newest record is self. The zero
// Signed means that it has none yet; give it to SetSelf before the first Merge.
func New(self Signed) *Roster {
	return &Roster{self: self, records: make(map[identity.NodeID]Signed)}
}

// SetSelf replaces this node's own record. Call it before the record is sent
// to anyone.
func (r *Roster) SetSelf(self Signed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.self = self
	delete(r.records, self.ID())
}

// Self returns this node's own record.
func (r *Roster) Self() Signed {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.self
}

// Merge takes s if it is the newest record of its node. Merging is commutative,
// associative and idempotent as long as the roster is not full.
func (r *Roster) Merge(s Signed) Outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := s.ID()
	if s.IsZero() {
		return Older
	}
	if id == r.self.ID() {
		return r.mergeOwn(s)
	}
	held, known := r.records[id]
	order := Compare(s, held)
	switch {
	case known && order == 0:
		return Same
	case known && order < 0:
		return Older
	case !known && len(r.records) >= MaxRecords:
		return Full
	}
	r.records[id] = s
	if known {
		return Newer
	}
	return Added
}

// mergeOwn never takes a record: this process is the only one that writes its
// own.
func (r *Roster) mergeOwn(s Signed) Outcome {
	switch {
	case foreign(r.self, s):
		return Own
	case Compare(s, r.self) == 0:
		return Same
	}
	return Older
}

// Get returns the newest record of a node.
func (r *Roster) Get(id identity.NodeID) (Signed, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.self.IsZero() && id == r.self.ID() {
		return r.self, true
	}
	s, ok := r.records[id]
	return s, ok
}

// All returns every record, this node's own included, by ascending NodeID.
func (r *Roster) All() []Signed {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.others()
	if !r.self.IsZero() {
		all = append(all, r.self)
	}
	slices.SortFunc(all, byID)
	return all
}

// others returns the records without self, in no order.
func (r *Roster) others() []Signed {
	all := make([]Signed, 0, len(r.records)+1)
	for _, s := range r.records {
		all = append(all, s)
	}
	return all
}

// Remove forgets a node; this node itself stays. It reports whether the node
// was known.
func (r *Roster) Remove(id identity.NodeID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, known := r.records[id]
	delete(r.records, id)
	return known
}

func byID(a, b Signed) int { return a.ID().Compare(b.ID()) }
