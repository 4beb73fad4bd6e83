package agent

import (
	"context"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/mesh"
	"github.com/serialspan/serialspan/mesh/identity"
)

// Ping implements control.Agent.
func (a *Agent) Ping(ctx context.Context, node string) (client.Pong, error) {
	m, err := a.member(node)
	if err != nil {
		return client.Pong{}, err
	}
	pong := client.Pong{Node: m.Name, ID: m.ID, Path: "self"}
	if m.Self {
		return pong, nil
	}
	err = a.mesh.Ping(ctx, m.ID, 1, 0, func(p mesh.Pong) bool {
		pong.RTT, pong.Skew = milliseconds(p.RoundTrip), client.Seconds(p.Skew)
		pong.Path, pong.Endpoint = p.Path, p.Endpoint
		return true
	})
	if err != nil {
		return client.Pong{}, client.Errorf(client.Away, "\"serialspan nodes\" shows its state", "ping %q: %v", node, err)
	}
	return pong, nil
}

// member finds a member by name or NodeID; of several with one name, the one
// that is alive.
func (a *Agent) member(node string) (mesh.Member, error) {
	id, _ := identity.ParseNodeID(node)
	var found []mesh.Member
	alive := 0
	for _, m := range a.mesh.Members() {
		switch {
		case m.ID == id:
			return m, nil
		case m.Name != node:
		case m.State == mesh.Alive:
			found = append([]mesh.Member{m}, found...)
			alive++
		default:
			found = append(found, m)
		}
	}
	switch {
	case len(found) == 0:
		return mesh.Member{}, client.Errorf(client.NotFound, "\"serialspan nodes\" lists them", "find node %q: no such member", node)
	case alive > 1:
		return mesh.Member{}, client.Errorf(client.Ambiguous, "name one of them by its id; \"serialspan nodes --json\" shows it", "find node %q: %d members have the name", node, alive)
	}
	return found[0], nil
}
