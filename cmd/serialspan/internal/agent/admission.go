package agent

import (
	"slices"
	"sync/atomic"

	"github.com/serialspan/serialspan/configs"
	"github.com/serialspan/serialspan/mesh/identity"
)

// admission is who may be a member. It follows the configuration: who is added
// is let in without a restart. Who is removed stays a member as long as it and
// this agent run. Its zero value admits everybody.
type admission struct {
	allowed atomic.Pointer[[]identity.NodeID] // nil: everybody
	admins  atomic.Pointer[[]identity.NodeID] // nil: nobody
}

// set takes over cluster.admission, cluster.allow, cluster.admins and
// cluster.nodes.
func (a *admission) set(c configs.Cluster) error {
	admins, err := c.Members(c.Admins)
	if err != nil {
		return err
	}
	a.admins.Store(&admins)
	if c.Admission != "allowlist" {
		a.allowed.Store(nil)
		return nil
	}
	ids, err := c.Members(c.Allow)
	if err != nil {
		return err
	}
	a.allowed.Store(&ids)
	return nil
}

// administrators is mesh.Config.Admins.
func (a *admission) administrators() []identity.NodeID {
	if admins := a.admins.Load(); admins != nil {
		return *admins
	}
	return nil
}

// admits is mesh.Config.Admit.
func (a *admission) admits(id identity.NodeID) bool {
	allowed := a.allowed.Load()
	return allowed == nil || slices.Contains(*allowed, id)
}
