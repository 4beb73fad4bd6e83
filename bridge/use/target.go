package use

import (
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/mesh/identity"
)

// Target is where a device is: what a name resolves to.
type Target struct {
	Owner  identity.NodeID
	Device string        // name by which the owner publishes it
	Line   line.Settings // as the registry knows them; may be zero
}

// TargetError is why a name leads to no device now. It unwraps to what
// Config.Resolve returned.
type TargetError struct{ Err error }

// Error returns the text of the cause.
func (e *TargetError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *TargetError) Unwrap() error { return e.Err }
