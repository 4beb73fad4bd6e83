package agent

import (
	"context"

	"github.com/serialspan/serialspan/bridge/attach"
)

// files returns who keeps PTYs over a restart; nil: nobody.
func (a *Agent) files() attach.FileStore {
	if m := a.options.Manager; m != nil && m.Listens() {
		return m
	}
	return nil
}

// tellManager tells the service manager when the attachments stand, so that
// what is started after the agent finds them, and when the agent ends.
// It ends with ctx, when the end is asked for, or with users, when the agent
// fails.
func (a *Agent) tellManager(ctx, users context.Context) {
	m := a.options.Manager
	if m == nil {
		return
	}
	if a.attacher.Standing(users) == nil {
		if err := m.Ready(); err != nil {
			a.log.Warn("service manager does not hear that the agent runs", "err", err)
		}
	}
	select {
	case <-ctx.Done():
	case <-users.Done():
	}
	if err := m.Stopping(); err != nil {
		a.log.Debug("service manager does not hear that the agent stops", "err", err)
	}
}
