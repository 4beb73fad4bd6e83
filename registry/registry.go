package registry

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
)

// What a registry holds at most. A member can make up owners and devices as it
// likes, so everything that arrives from outside is bounded: the worst case is
// about maxEntries * maxEntry = 8 MB.
const (
	maxDevices = 256            // devices that one owner may publish
	maxHeld    = 2 * maxDevices // entries kept of one owner: old and new ones, before the list arrives
	maxOwners  = 4096           // as many as the roster has records
	maxEntries = 8192           // entries kept in all
)

// defaultHold is DESIGN law 6: short outages change nothing.
const defaultHold = 15 * time.Second

// ErrFull is wrapped by the error of Merge for a message that was valid and
// not taken because the registry holds as much as it may. Owners that are no
// members make room for members.
var ErrFull = errors.New("the registry is full")

// Config is what a Registry is made of. Identity is required.
type Config struct {
	// Identity signs what this node publishes.
	Identity *identity.Identity
	// Cluster is the cluster whose messages are signed and accepted.
	Cluster identity.ClusterID
	// NodeName is this node's name, for queries and tables.
	NodeName string
	// Hold is how long a device that went away keeps its name. Default 15 s.
	Hold time.Duration
	// Claims are the claim numbers that this node has kept, by device name.
	Claims map[string]uint32
	// SaveClaims keeps all claim numbers; it is called when one changes, and
	// with the registry locked, so it must not call back. Default: not kept.
	SaveClaims func(map[string]uint32) error
	// Refuse reports whether what an owner says is not taken. It must not
	// block or call the registry. Default: nobody is refused.
	Refuse func(owner identity.NodeID) bool
}

// MemberView is what the registry needs to know of a member.
type MemberView struct {
	Name  string
	Alive bool
}

// Message is a signed message to be broadcast, at most MaxBroadcast bytes. Of
// two messages with one Topic the newer replaces the older.
type Message struct {
	Topic string
	Wire  []byte
}

// Outcome says what Merge did with a message.
type Outcome int

const (
	// Unchanged: the message said nothing new; do not pass it on.
	Unchanged Outcome = iota
	// Changed: the registry learned something; pass the message on.
	Changed
	// Behind: the owner has a newer list than this registry, which has to be
	// fetched by digest. Told once for each version; pass the message on.
	Behind
	// Foreign: the message bears this node's own signature, and another
	// process made it: an earlier start with a larger epoch, or another
	// machine with this identity. It was not taken.
	Foreign
)

// Merged is the result of Merge.
type Merged struct {
	Outcome Outcome
	Owner   identity.NodeID // who signed the message
	Topic   string          // as in Message
}

// Registry is one node's replica of what all owners say. It is safe for
// concurrent use; one mutex guards everything, no call blocks for long.
type Registry struct {
	cfg  Config
	self identity.NodeID

	mu       sync.Mutex
	owners   map[identity.NodeID]*owner
	names    map[string]map[identity.NodeID]*held
	away     map[*held]struct{} // the entries whose device is away
	root     *[32]byte          // see Root; nil: to be computed
	entries  int
	members  map[identity.NodeID]MemberView
	own      ownState
	watchers map[chan struct{}]struct{}
	advanced time.Duration // the time of the last Advance
}

// owner is the part of the state that one owner may change.
type owner struct {
	list    *message // nil: none seen
	entries map[string]*held
	hinted  Version  // newest list version that a hint told of
	sum     *[8]byte // digest of list and entries; nil: to be computed
}

// held is an entry, live or awaited, and what this registry observed of it.
type held struct {
	*message
	awaySince time.Duration // when this registry first saw it away, if it is
	// awaited: the owner's list names another version, which is not here yet. The
	// entry is no longer part of the state; it stands in, so that the device has
	// its name in between.
	awaited bool
}

// New returns an empty registry. It panics if cfg has no identity.
func New(cfg Config) *Registry {
	if cfg.Identity == nil {
		panic("registry: Config.Identity is nil")
	}
	if cfg.Hold <= 0 {
		cfg.Hold = defaultHold
	}
	r := &Registry{
		cfg:      cfg,
		self:     cfg.Identity.ID(),
		owners:   make(map[identity.NodeID]*owner),
		names:    make(map[string]map[identity.NodeID]*held),
		away:     make(map[*held]struct{}),
		watchers: make(map[chan struct{}]struct{}),
	}
	r.own.bodies = make(map[string][]byte)
	r.own.claims = make(map[string]ownClaim)
	for name, number := range cfg.Claims {
		r.own.claims[name] = ownClaim{number: max(number, 1), settled: true}
	}
	return r
}

// Merge takes a message that arrived at now from anyone. It does not keep
// wire. The error wraps ErrMessage for a message that no honest member sends,
// and ErrFull for one that found no room.
func (r *Registry) Merge(now time.Duration, wire []byte) (Merged, error) {
	m, err := decode(wire)
	if m == nil {
		if err != nil {
			err = fmt.Errorf("merge registry message: %w", err)
		}
		return Merged{}, err
	}
	result := Merged{Owner: m.owner, Topic: m.topic()}
	// Most broadcasts arrive several times; a signature is only worth
	// verifying if the message would change something.
	if !r.wants(m) {
		return result, nil
	}
	if err := m.verify(r.cfg.Cluster); err != nil {
		return result, fmt.Errorf("merge registry message: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.isNews(m) {
		return result, nil
	}
	if m.owner == r.self {
		result.Outcome = Foreign
		return result, nil
	}
	o, err := r.makeRoom(m)
	if err != nil {
		return result, fmt.Errorf("merge %s of %s: %w", m.topic(), m.owner.Short(), err)
	}
	result.Outcome = Changed
	switch m.kind {
	case kindEntry:
		r.putEntry(now, o, m)
	case kindList:
		r.putList(o, m)
	case kindHint:
		o.hinted = m.version
		result.Outcome = Behind
	}
	return result, nil
}

// Knows reports whether a message would change nothing. Of one that is not valid
// nothing is known; its signature is not looked at.
func (r *Registry) Knows(wire []byte) bool {
	m, err := decode(wire)
	return err == nil && m != nil && !r.wants(m)
}

func (r *Registry) wants(m *message) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.isNews(m)
}

// isNews reports whether m would change the state.
func (r *Registry) isNews(m *message) bool {
	if r.cfg.Refuse != nil && r.cfg.Refuse(m.owner) {
		return false
	}
	if m.owner == r.self {
		return m.version.Compare(r.own.version) > 0
	}
	o := r.owners[m.owner]
	if o == nil {
		return true
	}
	switch m.kind {
	case kindEntry:
		have := o.entries[m.device.Name]
		return o.isLive(m) && (have == nil || have.awaited || have.compare(m) < 0)
	case kindList:
		return o.list == nil || o.list.compare(m) < 0
	default:
		return m.version.Compare(o.hinted) > 0 && (o.list == nil || m.version.Compare(o.list.version) > 0)
	}
}

// isLive is the rule of the package comment.
func (o *owner) isLive(entry *message) bool {
	if o.list == nil || o.list.version.Compare(entry.version) < 0 {
		return true
	}
	listed, ok := o.list.listed[entry.device.Name]
	return ok && listed == entry.version
}

// makeRoom returns the state of m's owner, with room for m.
func (r *Registry) makeRoom(m *message) (*owner, error) {
	o := r.owners[m.owner]
	adds := m.kind == kindEntry && (o == nil || o.entries[m.device.Name] == nil)
	if o != nil && adds && len(o.entries) >= maxHeld {
		return nil, fmt.Errorf("%w: %d devices of one owner", ErrFull, len(o.entries))
	}
	full := func() bool { return o == nil && len(r.owners) >= maxOwners || adds && r.entries >= maxEntries }
	if _, member := r.members[m.owner]; full() && member {
		r.dropStrangers()
	}
	if full() && m.owner != r.self { // this node's own devices always have room
		return nil, fmt.Errorf("%w: %d owners, %d devices", ErrFull, len(r.owners), r.entries)
	}
	if o == nil {
		o = &owner{entries: make(map[string]*held)}
		r.owners[m.owner] = o
	}
	return o, nil
}

// Forget drops all that is known of an owner.
func (r *Registry) Forget(id identity.NodeID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.owners[id]
	if o == nil || id == r.self {
		return
	}
	for name := range o.entries {
		r.dropEntry(id, o, name)
	}
	delete(r.owners, id)
	r.root = nil
	r.signal()
}

// dropStrangers forgets the owners that are no members.
func (r *Registry) dropStrangers() {
	for id, o := range r.owners {
		if _, member := r.members[id]; member || id == r.self {
			continue
		}
		for name := range o.entries {
			r.dropEntry(id, o, name)
		}
		delete(r.owners, id)
		r.root = nil
	}
}

func (r *Registry) putEntry(now time.Duration, o *owner, m *message) {
	name := m.device.Name
	h := &held{message: m, awaySince: now}
	if old := o.entries[name]; old != nil && old.device.State == StateAway {
		h.awaySince = old.awaySince
	} else if old == nil {
		r.entries++
	}
	for _, other := range o.entries { // mostly those of the node, on all of its devices
		if maps.Equal(other.device.Labels, m.device.Labels) {
			m.device.Labels = other.device.Labels
			break
		}
	}
	delete(r.away, o.entries[name])
	if h.device.State == StateAway {
		r.away[h] = struct{}{}
	}
	o.entries[name] = h
	if r.names[name] == nil {
		r.names[name] = make(map[identity.NodeID]*held)
	}
	r.names[name][m.owner] = h
	r.changed(o)
}

func (r *Registry) putList(o *owner, m *message) {
	o.list = m
	for name, h := range o.entries {
		_, named := m.listed[name]
		// For good, even if a list names it again: others have dropped it.
		h.awaited = h.awaited || !o.isLive(h.message)
		if h.awaited && !named {
			r.dropEntry(m.owner, o, name)
		}
	}
	r.changed(o)
}

func (r *Registry) dropEntry(id identity.NodeID, o *owner, name string) {
	delete(r.away, o.entries[name])
	delete(o.entries, name)
	r.entries--
	delete(r.names[name], id)
	if len(r.names[name]) == 0 {
		delete(r.names, name)
	}
}

func (r *Registry) changed(o *owner) {
	o.sum, r.root = nil, nil
	r.signal()
}

// SetMembers tells who is a member and who of them is alive. This node itself
// need not be in it: it is always alive. The map is copied.
func (r *Registry) SetMembers(members map[identity.NodeID]MemberView) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if maps.Equal(r.members, members) {
		return
	}
	r.members = maps.Clone(members)
	r.signal()
}
