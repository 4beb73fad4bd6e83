package rule

import (
	"maps"
	"slices"

	"github.com/serialspan/serialspan/bridge/profile"
)

// Policy says which devices are published and how. It may change while devices
// are in use.
type Policy struct {
	Rules    []Rule // tried in order; the first that matches counts
	Publish  Publish
	Profiles []profile.Profile
	Labels   map[string]string // the node's; all its devices have them
}

// Clone returns a copy that shares no slice or map with p.
func (p Policy) Clone() Policy {
	return Policy{slices.Clone(p.Rules), p.Publish, slices.Clone(p.Profiles), maps.Clone(p.Labels)}
}
