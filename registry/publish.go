package registry

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
)

// claimSettles is how long a new claim may still be raised: long enough for a
// node that has just started to hear of an older claim to the same name.
const claimSettles = time.Minute

// maxClaims bounds the kept claims: names that are no longer published go.
const maxClaims = 1024

// ownState is what this node publishes.
type ownState struct {
	version   Version // of the last message signed
	published bool    // since the epoch was set
	wanted    []Device
	bodies    map[string][]byte // body without owner and version of what is published
	claims    map[string]ownClaim
}

type ownClaim struct {
	number  uint32
	made    time.Duration
	settled bool // kept from before, or raised once
}

// SetEpoch sets the epoch of what this node signs from now on: the boot
// counter, called once before the first Publish, and again with a larger
// number when the node has to jump over records of its own (DESIGN section 6).
// Then everything that is published is signed again, and the messages to
// broadcast are returned. An epoch that is not larger changes nothing.
func (r *Registry) SetEpoch(now time.Duration, epoch uint64) ([]Message, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if epoch <= r.own.version.Epoch {
		return nil, nil
	}
	r.own.version = Version{Epoch: epoch}
	if !r.own.published {
		return nil, nil
	}
	r.own.published = false
	clear(r.own.bodies)
	return r.publish(now)
}

// Publish makes devices the devices that this node owns: what is new or
// changed is signed, what is missing is withdrawn. It returns the messages to
// broadcast, none if nothing changed. It must be called once after a start
// even if there are no devices, to withdraw those of the last start.
//
// A device that breaks a limit (see Device), that would make an entry of more
// than MaxBroadcast bytes, that repeats a name, or that is the 257th is left
// out, and the error says so; the error also reports that the claims could
// not be saved. The messages are to be sent in any case.
func (r *Registry) Publish(now time.Duration, devices []Device) ([]Message, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	wanted := make([]Device, 0, len(devices))
	seen := make(map[string]bool, len(devices))
	var errs []error
	for _, d := range devices {
		d = d.clone()
		d.Detail = tidyDetail(d.Detail)
		d.Hardware.VID, d.Hardware.PID = strings.ToLower(d.Hardware.VID), strings.ToLower(d.Hardware.PID)
		err := d.check()
		switch {
		case err != nil:
		case seen[d.Name]:
			err = errors.New("this node has another device of that name; give one of them another name by a rule")
		case len(wanted) == maxDevices:
			err = fmt.Errorf("a node can publish %d devices", maxDevices)
		default:
			err = r.checkSize(d)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("publish device %q: %w", d.Name, err))
			continue
		}
		seen[d.Name] = true
		wanted = append(wanted, d)
	}
	r.own.wanted = wanted
	messages, err := r.publish(now)
	return messages, errors.Join(append(errs, err)...)
}

// Reconcile looks again at what was last published, in the light of what was
// merged since: a claim that turns out not to be the first is raised, a device
// in use that came to have its name says that it keeps it. It returns the
// messages to broadcast.
func (r *Registry) Reconcile(now time.Duration) ([]Message, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.own.published {
		return nil, nil
	}
	return r.publish(now)
}

func (r *Registry) publish(now time.Duration) ([]Message, error) {
	var messages []Message
	claimsChanged := false
	for _, d := range r.own.wanted {
		claim, changed := r.claimFor(now, d.Name)
		claimsChanged = claimsChanged || changed
		b := bodyOf(d, claim, r.keepsName(now, d, claim))
		plain := encode(b)
		if bytes.Equal(plain, r.own.bodies[d.Name]) {
			continue
		}
		v := r.nextVersion()
		b.Key, b.Epoch, b.Sequence = r.cfg.Identity.Public(), v.Epoch, v.Sequence
		m, err := r.putOwn(now, kindEntry, encode(b))
		if err != nil {
			return messages, fmt.Errorf("publish device %q: %w", d.Name, err)
		}
		r.own.bodies[d.Name] = plain
		messages = append(messages, Message{m.topic(), m.wire})
	}
	gone := false
	for name := range r.own.bodies {
		if !slices.ContainsFunc(r.own.wanted, func(d Device) bool { return d.Name == name }) {
			delete(r.own.bodies, name)
			gone = true
		}
	}
	if gone || !r.own.published {
		m, err := r.putOwnList(now)
		if err != nil {
			return messages, fmt.Errorf("publish the list of devices: %w", err)
		}
		messages = append(messages, m)
		r.own.published = true
	}
	if claimsChanged {
		return messages, r.saveClaims()
	}
	return messages, nil
}

func (r *Registry) nextVersion() Version {
	r.own.version.Sequence++
	return r.own.version
}

// putOwn signs a body and takes it into the state.
func (r *Registry) putOwn(now time.Duration, kind messageKind, encoded []byte) (*message, error) {
	m, err := decode(sign(r.cfg.Identity, r.cfg.Cluster, kind, encoded))
	if err != nil {
		return nil, err
	}
	if kind == kindHint {
		return m, nil
	}
	o, err := r.makeRoom(m)
	if err != nil {
		return nil, err
	}
	if kind == kindEntry {
		r.putEntry(now, o, m)
	} else {
		r.putList(o, m)
	}
	return m, nil
}

// putOwnList signs the list of what is published and returns it, or a hint of
// it if it is too large to broadcast.
func (r *Registry) putOwnList(now time.Duration) (Message, error) {
	list := listBody{Key: r.cfg.Identity.Public(), Names: []listItem{}}
	if o := r.owners[r.self]; o != nil {
		for _, name := range slices.Sorted(maps.Keys(r.own.bodies)) {
			v := o.entries[name].version
			list.Names = append(list.Names, listItem{Name: name, Epoch: v.Epoch, Sequence: v.Sequence})
		}
	}
	v := r.nextVersion()
	list.Epoch, list.Sequence = v.Epoch, v.Sequence
	m, err := r.putOwn(now, kindList, encode(list))
	if err == nil && len(m.wire) > MaxBroadcast {
		m, err = r.putOwn(now, kindHint, encode(hintBody{list.Key, list.Epoch, list.Sequence}))
	}
	if err != nil {
		return Message{}, err
	}
	return Message{m.topic(), m.wire}, nil
}

// checkSize reports whether the entry of d could become too large: whoever
// uses it and whatever the numbers grow to.
func (r *Registry) checkSize(d Device) error {
	if d.User.IsZero() {
		d.User = r.self
	}
	b := bodyOf(d, math.MaxUint32, true)
	b.Key, b.Epoch, b.Sequence = r.cfg.Identity.Public(), math.MaxUint64, math.MaxUint64
	if size := 1 + len(encode(b)) + ed25519.SignatureSize; size > maxEntry {
		return fmt.Errorf("its entry would have %d bytes, want at most %d; shorten labels or capabilities", size, maxEntry)
	}
	return nil
}

// claimFor returns the number of this node's claim to a name and whether it is
// new. A claim is kept for good, but a new one that ties with that of another
// owner was made in ignorance of it, so it is raised, once; if both are new
// and both are raised, the NodeID decides.
func (r *Registry) claimFor(now time.Duration, name string) (number uint32, changed bool) {
	highest, tie := uint32(0), false
	have, ok := r.own.claims[name]
	for id, h := range r.names[name] {
		if id != r.self {
			highest = max(highest, h.claim)
			tie = tie || h.claim == have.number
		}
	}
	next := highest + 1
	if highest == math.MaxUint32 {
		next = highest
	}
	switch {
	case !ok:
		r.own.claims[name] = ownClaim{number: next, made: now}
		return next, true
	case have.settled:
	case now-have.made > claimSettles:
		have.settled = true
		r.own.claims[name] = have
	case tie:
		r.own.claims[name] = ownClaim{number: next, settled: true}
		return next, next != have.number
	}
	return have.number, false
}

// keepsName reports whether a device of this node keeps its name against a
// better claim: it is in use, and it had the name when the session began or
// has come to have it since.
func (r *Registry) keepsName(now time.Duration, d Device, claim uint32) bool {
	if d.State != StateInUse {
		return false
	}
	if mine := r.names[d.Name][r.self]; mine != nil && mine.device.State == StateInUse && mine.keeps {
		return true
	}
	for id, h := range r.names[d.Name] {
		if id == r.self || !r.isEligible(now, h) {
			continue
		}
		if h.holdsFast() || lessClaim(h.claim, id, claim, r.self) {
			return false
		}
	}
	return true
}

func (r *Registry) saveClaims() error {
	if len(r.own.claims) > maxClaims {
		maps.DeleteFunc(r.own.claims, func(name string, _ ownClaim) bool { return r.own.bodies[name] == nil })
	}
	if r.cfg.SaveClaims == nil {
		return nil
	}
	all := make(map[string]uint32, len(r.own.claims))
	for name, c := range r.own.claims {
		all[name] = c.number
	}
	if err := r.cfg.SaveClaims(all); err != nil {
		return fmt.Errorf("save claims to device names: %w", err)
	}
	return nil
}

// lessClaim reports whether claim a of node i goes before claim b of node j.
func lessClaim(a uint32, i identity.NodeID, b uint32, j identity.NodeID) bool {
	if a != b {
		return a < b
	}
	return i.Compare(j) < 0
}
