package publish

import (
	"context"
	"fmt"

	"github.com/serialspan/serialspan/bridge/profile"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/mesh/identity"
)

// Signal runs steps on the port of one of this node's devices, whether or not
// somebody uses it: outputs change and the waits pass here, where the timing
// holds. The last state of DTR and RTS also holds for the port after a replug and
// at the begin of later sessions.
// It blocks for the sum of the waits; ctx ends it early, and then a break ends
// too. It does not check who asks. Errors wrap session.CodeNotFound,
// session.CodeGone, line.ErrNoSignals or profile.ErrProfile.
func (p *Publisher) Signal(ctx context.Context, device string, steps []profile.Step) error {
	d := p.device(device)
	if d == nil {
		return fmt.Errorf("signal device %q: %w", device, session.CodeNotFound)
	}
	if err := d.Signal(ctx, steps); err != nil {
		return fmt.Errorf("signal device %q: %w", device, err)
	}
	return nil
}

// Reset runs a recipe of the device's profile, as Signal does. Its error may
// also wrap profile.ErrNoRecipe.
func (p *Publisher) Reset(ctx context.Context, device, recipe string) error {
	d := p.device(device)
	if d == nil {
		return fmt.Errorf("reset device %q: %w", device, session.CodeNotFound)
	}
	if err := d.Reset(ctx, recipe); err != nil {
		return fmt.Errorf("reset device %q: %w", device, err)
	}
	return nil
}

// Allows reports whether the rule of one of this node's devices lets a member
// open it, and so signal it. False if there is no such device.
func (p *Publisher) Allows(device string, peer identity.NodeID) bool {
	d := p.device(device)
	return d != nil && d.Allows(peer)
}
