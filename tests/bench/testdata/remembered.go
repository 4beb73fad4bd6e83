package identity

import (
	"crypto/ed25519"
	"crypto/sha256"
	"sync"
)

// remembered is ed25519.Verify where a whole mesh runs in one process: tests/bench/run
// builds it in for meshes in which each of 1,000 members would verify what each
// other has signed, the same millions of times. Only the first time is worth it.
func remembered(key ed25519.PublicKey, message, signature []byte) bool {
	h := sha256.New()
	h.Write(key)
	h.Write(signature)
	h.Write(message)
	sum := [sha256.Size]byte(h.Sum(nil))
	memory.Lock()
	valid, known := memory.valid[sum]
	memory.Unlock()
	if known {
		return valid
	}
	valid = ed25519.Verify(key, message, signature)
	memory.Lock()
	memory.valid[sum] = valid
	memory.Unlock()
	return valid
}

var memory = struct {
	sync.Mutex
	valid map[[sha256.Size]byte]bool
}{valid: make(map[[sha256.Size]byte]bool)}
