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
}

// set takes over cluster.admission, cluster.allow and cluster.nodes.
func (a *admission) set(c configs.Cluster) error {
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

// admits is mesh.Config.Admit.
func (a *admission) admits(id identity.NodeID) bool {
	allowed := a.allowed.Load()
	return allowed == nil || slices.Contains(*allowed, id)
}
