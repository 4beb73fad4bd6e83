package beacon

// Remembered returns how many addresses a machine remembers.
func Remembered(m *Machine) int { return len(m.peers) }
