package mesh

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/serialspan/serialspan/mesh/internal/join"
)

// maxSilent bounds the addresses of which is known that they did not answer.
const maxSilent = 1024

// olderKey says with which older secret to try an address too, by its index: one
// that does not answer may be a member that missed a rotation. 0: with none.
func (j *joining) olderKey(to netip.AddrPort, keys int) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	if n := j.silence[to]; n > 0 && keys > 1 {
		return 1 + (n-1)%(keys-1)
	}
	return 0
}

// beginJoin sends the first message of a join handshake; mu is held.
func (m *Mesh) beginJoin(to netip.AddrPort) {
	m.beginJoinWith(to, 0)
	if older := m.joining.olderKey(to, m.join.Keys()); older > 0 {
		m.beginJoinWith(to, older)
	}
}

// beginJoinWith begins with the secret of an index of the join machine's.
func (m *Mesh) beginJoinWith(to netip.AddrPort, key int) {
	first, err := m.join.BeginWith(m.now(), to, key)
	if err != nil {
		m.log.Warn("join handshake not begun", "endpoint", to, "err", err)
		return
	}
	if first == nil {
		return // the keys have changed
	}
	if err := m.cfg.Socket.WriteTo(first, to, netip.Addr{}); err != nil {
		m.joining.note([]netip.AddrPort{to}, func(s *seed) { s.Err = fmt.Errorf("join through %s: %w", s.Address, err) })
	}
}

// refusedSecret notes refusals that are about belonging to the cluster, and
// reports whether there is no more to say of one.
func (m *Mesh) refusedSecret(refused *join.RefusedError) (said bool) {
	if refused.Side != join.There {
		if errors.Is(refused, join.ErrRemoved) {
			m.log.Debug("join handshake refused", "err", refused) // it knocks for ever
		} else {
			m.log.Warn("join handshake refused", "err", refused)
		}
		return false
	}
	about := errors.Is(refused, join.ErrOldSecret) || errors.Is(refused, join.ErrNewcomer)
	switch {
	case about && refused.Key != m.Secret().KeyNumber:
		return true // it was a try with an older one
	case about:
		m.belonging.problem(weAreBehind, "cluster secret: "+refused.Error())
	case errors.Is(refused, join.ErrRemoved):
		m.belonging.problem(weAreRemoved, "identity "+m.self.Short()+": "+refused.Error())
	}
	m.later(m.watch.changed)
	m.log.Warn("join handshake refused", "err", refused)
	return false
}
