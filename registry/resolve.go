package registry

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/serialspan/serialspan/mesh/identity"
)

// What an error of Resolve is; each is wrapped by the struct of its name.
var (
	ErrNotFound  = errors.New("no such device")
	ErrAway      = errors.New("device is away")
	ErrAmbiguous = errors.New("device is ambiguous")
)

// NotFoundError says that no device is known by the query. It is ErrNotFound.
type NotFoundError struct {
	Query string
	// Node is set if the query named a node and it is not a member.
	Node string
	// Nearest are known names that look alike, best first, at most 3.
	Nearest []string
}

func (e *NotFoundError) Error() string {
	var b strings.Builder
	if e.Node != "" {
		fmt.Fprintf(&b, "no node named %q", e.Node)
	} else if isLabels(e.Query) {
		fmt.Fprintf(&b, "no device with the labels %q", e.Query)
	} else {
		fmt.Fprintf(&b, "no device named %q", e.Query)
	}
	if len(e.Nearest) > 0 {
		b.WriteString("; nearest: " + strings.Join(e.Nearest, ", "))
	}
	if e.Node != "" {
		b.WriteString("; see `serialspan nodes`")
	} else {
		b.WriteString("; see `serialspan devices`")
	}
	return b.String()
}

// Unwrap returns ErrNotFound.
func (e *NotFoundError) Unwrap() error { return ErrNotFound }

// AwayError says that the device is known and cannot be reached now: it is
// unplugged, its owner says what else keeps it away, or the owner is not alive. It is ErrAway. Watch tells when it may
// be back.
type AwayError struct {
	Query  string
	Device Status
}

func (e *AwayError) Error() string {
	node := nodeText(e.Device.OwnerName, e.Device.Owner)
	if !e.Device.OwnerAlive {
		return fmt.Sprintf("device %q is away: its node %s cannot be reached; see `serialspan nodes`", e.Query, node)
	}
	if why := e.Device.Device.Detail; why != "" && !strings.HasPrefix(why, "unplugged") {
		return fmt.Sprintf("device %q is away: its node %s says: %s", e.Query, node, why)
	}
	return fmt.Sprintf("device %q is away: it is unplugged from node %s; plug it in there, or into any other node", e.Query, node)
}

// Unwrap returns ErrAway.
func (e *AwayError) Unwrap() error { return ErrAway }

// AmbiguousError says that several nodes answer to the node name of the query, or
// that several devices have its labels. It is ErrAmbiguous.
type AmbiguousError struct {
	Query string
	// Candidates are queries of which each finds one of the devices.
	Candidates []string
}

func (e *AmbiguousError) Error() string {
	why := "several nodes have that name"
	if isLabels(e.Query) {
		why = "several devices have these labels"
	}
	return fmt.Sprintf("device %q is ambiguous: %s; use one of %s", e.Query, why, strings.Join(e.Candidates, ", "))
}

// Unwrap returns ErrAmbiguous.
func (e *AmbiguousError) Unwrap() error { return ErrAmbiguous }

func nodeText(name string, id identity.NodeID) string {
	if name == "" {
		return id.Short()
	}
	return name + " (" + id.Short() + ")"
}

// Resolve finds a device by "name", which goes to the device that has the name
// now, or by "name@node", where node is a member's name, its NodeID, or at
// least the first 8 characters of that, or by labels, "zone=garage,kind=zwave":
// the one device that has them all, where kind is the device's kind. Labels
// choose, they do not authorise: every owner gives its devices what it likes.
// The device may be in use or at fault; the caller decides by its state. Errors
// are NotFoundError, AwayError and AmbiguousError.
func (r *Registry) Resolve(now time.Duration, query string) (Status, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name, node, at := strings.Cut(strings.TrimSpace(query), "@")
	if isLabels(query) {
		return r.resolveLabels(now, query)
	}
	if at {
		return r.resolveAt(now, query, name, node)
	}
	owners := r.names[name]
	if len(owners) == 0 {
		return Status{}, &NotFoundError{Query: query, Nearest: nearest(name, maps.Keys(r.names))}
	}
	holder := r.holder(now, name)
	if holder == nil {
		return r.orAway(now, query, bestClaim(owners), nil)
	}
	return r.orAway(now, query, holder, holder)
}

func (r *Registry) orAway(now time.Duration, query string, h, holder *held) (Status, error) {
	s := r.status(now, h, holder)
	if s.Device.State == StateAway {
		return Status{}, &AwayError{Query: query, Device: s}
	}
	return s, nil
}

// bestClaim returns the device that would have the name if all were here.
func bestClaim(owners map[identity.NodeID]*held) *held {
	var best *held
	for id, h := range owners {
		if best == nil || lessClaim(h.claim, id, best.claim, best.owner) {
			best = h
		}
	}
	return best
}

func (r *Registry) resolveAt(now time.Duration, query, name, node string) (Status, error) {
	nodes := r.nodesNamed(node)
	if len(nodes) == 0 {
		return Status{}, &NotFoundError{Query: query, Node: node, Nearest: nearest(node, r.allNodeNames())}
	}
	var found []*held
	var here []string
	for _, id := range nodes {
		if h := r.names[name][id]; h != nil {
			found = append(found, h)
		}
		if o := r.owners[id]; o != nil {
			here = slices.AppendSeq(here, maps.Keys(o.entries))
		}
	}
	switch len(found) {
	case 0:
		near := nearest(name, slices.Values(here))
		for i := range near {
			near[i] += "@" + node
		}
		if len(near) == 0 && len(r.names[name]) > 0 {
			near = []string{name} // there is one, elsewhere
		}
		return Status{}, &NotFoundError{Query: query, Nearest: near}
	case 1:
		return r.orAway(now, query, found[0], r.holder(now, name))
	}
	e := &AmbiguousError{Query: query}
	for _, h := range found {
		e.Candidates = append(e.Candidates, name+"@"+h.owner.String())
	}
	return Status{}, e
}

// nodesNamed returns the nodes that a query may mean, ordered. A NodeID goes
// before a name: a member can give itself any name, also another's NodeID.
func (r *Registry) nodesNamed(node string) []identity.NodeID {
	known := slices.AppendSeq([]identity.NodeID{r.self}, maps.Keys(r.members))
	known = slices.AppendSeq(known, maps.Keys(r.owners))
	slices.SortFunc(known, identity.NodeID.Compare)
	known = slices.Compact(known)
	if id, err := identity.ParseNodeID(node); err == nil {
		if slices.Contains(known, id) {
			return []identity.NodeID{id}
		}
		return nil
	}
	matching := func(is func(identity.NodeID) bool) []identity.NodeID {
		return slices.DeleteFunc(slices.Clone(known), func(id identity.NodeID) bool { return !is(id) })
	}
	named := matching(func(id identity.NodeID) bool { return node != "" && r.nodeName(id) == node })
	const shortest = 8 // NodeID.Short
	if len(named) > 0 || len(node) < shortest {
		return named
	}
	prefix := strings.ToLower(node)
	return matching(func(id identity.NodeID) bool { return strings.HasPrefix(id.String(), prefix) })
}

func (r *Registry) allNodeNames() func(yield func(string) bool) {
	return func(yield func(string) bool) {
		if !yield(r.cfg.NodeName) {
			return
		}
		for _, m := range r.members {
			if !yield(m.Name) {
				return
			}
		}
	}
}

// nearest returns the up to three names that look most like want: a third of
// its letters may differ, or one contains the other.
func nearest(want string, names func(yield func(string) bool)) []string {
	type guess struct {
		name     string
		distance int
	}
	var guesses []guess
	want = strings.ToLower(want)
	if want == "" || len(want) > 2*maxName {
		return nil
	}
	for name := range names {
		lower := strings.ToLower(name)
		d := distance(want, lower)
		if lower != "" && (d <= max(2, len(want)/3) || strings.Contains(lower, want) || strings.Contains(want, lower)) {
			guesses = append(guesses, guess{name, d})
		}
	}
	slices.SortFunc(guesses, func(a, b guess) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(a.name, b.name))
	})
	guesses = slices.Compact(guesses)
	var out []string
	for _, g := range guesses[:min(3, len(guesses))] {
		out = append(out, g.name)
	}
	return out
}

// distance is the Levenshtein distance of a and b in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
