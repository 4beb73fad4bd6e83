package registrysync

import (
	"context"
	"sync"

	"github.com/serialspan/serialspan/mesh/identity"
)

// How many exchanges run that others opened, in all and of one member. Streams
// beyond that are closed; the other side tries again or elsewhere.
const (
	maxAccepted         = 8
	maxAcceptedOfMember = 2
)

// accepted counts the running exchanges by member.
type accepted struct {
	mu       sync.Mutex
	all      int
	byMember map[identity.NodeID]int
}

func (a *accepted) enter(peer identity.NodeID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.all >= maxAccepted || a.byMember[peer] >= maxAcceptedOfMember {
		return false
	}
	a.all++
	a.byMember[peer]++
	return true
}

func (a *accepted) leave(peer identity.NodeID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all--
	if a.byMember[peer]--; a.byMember[peer] == 0 {
		delete(a.byMember, peer)
	}
}

// accept serves exchanges until ctx is done; then it joins them and returns nil.
func (e *Engine) accept(ctx context.Context) error {
	running := accepted{byMember: make(map[identity.NodeID]int)}
	var exchanges sync.WaitGroup
	defer exchanges.Wait()
	for {
		conn, peer, err := e.cfg.Accept(ctx)
		switch {
		case err != nil && ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case !running.enter(peer):
			conn.Close()
			e.log.Debug("registry comparison refused: too many at once", "node", peer)
			continue
		}
		exchanges.Go(func() {
			defer running.leave(peer)
			if err := e.exchange(ctx, conn, peer, (*exchange).respond); err != nil && ctx.Err() == nil {
				e.log.Debug("registry comparison failed", "node", peer, "err", err)
			}
		})
	}
}
