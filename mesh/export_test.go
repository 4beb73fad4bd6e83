package mesh

// RemoveIdlePeers removes the WireGuard peers without a session at once.
func (m *Mesh) RemoveIdlePeers() { m.removeIdle(0) }

// Peers returns how many WireGuard peers there are.
func (m *Mesh) Peers() int { return len(m.tunnel.Peers()) }
