package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/control"
	"github.com/serialspan/serialspan/configs"
	"github.com/serialspan/serialspan/mesh"
	"github.com/serialspan/serialspan/mesh/identity"
)

// RotateSecret implements control.Agent.
func (a *Agent) RotateSecret(ctx context.Context, request client.RotateRequest) (uint32, error) {
	number, err := a.mesh.Rotate(mesh.RotateOptions{DropOld: request.DropOld})
	switch {
	case errors.Is(err, mesh.ErrNotAdmin):
		return 0, client.Errorf(client.Refused, "", "%v", err)
	case err != nil:
		return 0, controlError(err)
	}
	a.log.Info("cluster secret is rotated on request", "user", control.Caller(ctx), "key", number)
	return number, nil
}

// RemoveNode implements control.Agent.
func (a *Agent) RemoveNode(ctx context.Context, node string) (client.Removal, error) {
	id, name, err := a.removable(node)
	if err != nil {
		return client.Removal{}, err
	}
	if _, err := a.mesh.Remove(id, name); err != nil {
		if errors.Is(err, mesh.ErrRemoveSelf) {
			return client.Removal{}, client.Errorf(client.Invalid, "", "%v", err)
		}
		return client.Removal{}, controlError(err)
	}
	defer a.changes.tell()
	a.log.Info("node is removed on request", "user", control.Caller(ctx), "node", id.String())
	config := a.settings.current()
	r := client.Removal{
		Node: name, ID: id, Everywhere: slices.Contains(a.admission.administrators(), a.mesh.Self()),
		RotateSecret: config.Cluster.Admission == "secret",
	}
	if !r.Everywhere {
		r.Notes = append(r.Notes, fmt.Sprintf("out on this node only: others honour this once %s is in cluster.admins there", a.mesh.Self()))
	}
	if r.RotateSecret {
		note := "it still has the cluster secret, with which a new node could be made: rotate it with \"serialspan secret rotate\""
		if !r.Everywhere {
			note += ", after it is out everywhere: who does not honour the removal gives it the new secret"
		}
		r.Notes = append(r.Notes, note)
	}
	r.Notes = append(r.Notes, mentions(config, id)...)
	return r, nil
}

// removable finds the node to remove: by alias, as a member, or by a NodeID that
// need not be known.
func (a *Agent) removable(node string) (id identity.NodeID, name string, err error) {
	if alias, ok := a.settings.current().Cluster.Nodes[node]; ok {
		node = alias
	}
	m, err := a.member(node)
	if err == nil {
		return m.ID, m.Name, nil
	}
	if id, parseErr := identity.ParseNodeID(node); parseErr == nil {
		return id, "", nil
	}
	return id, "", err
}

// mentions says where the configuration still names a node.
func mentions(config configs.Config, id identity.NodeID) (all []string) {
	say := func(key string) {
		all = append(all, fmt.Sprintf("%s: names the removed node %s; take it out", config.Place(key), id.Short()))
	}
	for _, name := range slices.Sorted(maps.Keys(config.Cluster.Nodes)) {
		if parsed, err := identity.ParseNodeID(config.Cluster.Nodes[name]); err == nil && parsed == id {
			say("cluster.nodes." + name)
		}
	}
	lists := map[string][]string{"cluster.allow": config.Cluster.Allow, "cluster.admins": config.Cluster.Admins}
	for i, rule := range config.Devices.Rules {
		lists[fmt.Sprintf("devices.rules[%d].allow", i)] = rule.Allow
		lists[fmt.Sprintf("devices.rules[%d].allow_read", i)] = rule.AllowRead
	}
	for _, key := range slices.Sorted(maps.Keys(lists)) {
		for i, word := range lists[key] {
			if member, err := config.Cluster.Member(word); err == nil && member == id {
				say(fmt.Sprintf("%s[%d]", key, i))
			}
		}
	}
	return all
}

// nodeRemoved is mesh.Config.OnRemoved: sessions of the node end, and what it
// says of its devices is forgotten.
func (a *Agent) nodeRemoved(id identity.NodeID) {
	a.publisher.EndPeer(id, session.CloseError{Code: session.CodeRemoved, Text: id.Short()})
	a.registry.Forget(id)
	a.changes.tell()
}

// dialOwner opens a session stream; a device of a node that was removed is gone
// for good.
func (a *Agent) dialOwner(ctx context.Context, owner identity.NodeID) (net.Conn, error) {
	conn, err := a.mesh.Dial(ctx, owner, sessionProtocol)
	if errors.Is(err, mesh.ErrRemoved) {
		return nil, &session.CloseError{Code: session.CodeRemoved, Text: owner.Short()}
	}
	return conn, err
}

// maxIdleTold bounds the removals told of that do not count here: any member can
// make some.
const maxIdleTold = 3

// belongingProblems are what is wrong with the cluster secret and with removals.
func (a *Agent) belongingProblems() []string {
	all := a.mesh.Keys().Problems
	if text := a.secretFile.problem(); text != "" {
		all = append(all, text)
	}
	config := a.settings.current()
	idle := 0
	for _, r := range a.mesh.RemovedNodes() {
		switch {
		case r.Honoured:
			all = append(all, mentions(config, r.ID)...)
		case !a.mesh.IsRemoved(r.ID) && idle < maxIdleTold:
			idle++
			all = append(all, fmt.Sprintf("node %s: %s says that it is removed, but is not in cluster.admins here; add it there if that is so", nameOr(r.Name, r.ID), a.nameOf(r.By)))
		}
	}
	return all
}

func nameOr(name string, id identity.NodeID) string {
	if name == "" {
		return id.Short()
	}
	return name
}

// removedNodes lists those that are out, each once.
func (a *Agent) removedNodes() (all []client.Node) {
	seen := make(map[identity.NodeID]bool)
	for _, r := range a.mesh.RemovedNodes() {
		if r.Honoured && !seen[r.ID] && r.ID != a.mesh.Self() {
			seen[r.ID] = true
			all = append(all, client.Node{Name: nameOr(r.Name, r.ID), ID: r.ID, State: client.NodeRemoved, RemovedBy: a.nameOf(r.By)})
		}
	}
	return all
}

// key is the state of the cluster secret.
func (a *Agent) key() *client.Key {
	k := a.mesh.Keys()
	out := &client.Key{Number: k.Number, Oldest: k.Oldest, Next: k.Next}
	for _, id := range k.Behind {
		out.Behind = append(out.Behind, a.nameOf(id))
	}
	if r := k.Rotation; r.Phase != mesh.PhaseNone {
		out.Rotation = &client.Rotation{Number: r.Number, Phase: r.Phase.String(), Has: []string{}, Missing: []client.Missing{}}
		for _, id := range r.Has {
			out.Rotation.Has = append(out.Rotation.Has, a.nameOf(id))
		}
		for _, id := range slices.SortedFunc(maps.Keys(r.Missing), identity.NodeID.Compare) {
			out.Rotation.Missing = append(out.Rotation.Missing, client.Missing{Node: a.nameOf(id), ID: id, Why: r.Missing[id]})
		}
	}
	return out
}
