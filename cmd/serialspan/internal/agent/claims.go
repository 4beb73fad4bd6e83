package agent

import (
	"log/slog"
	"maps"
	"sync"
)

// claimsFile keeps which number this node drew for each device name. It is
// written only when a number changes.
const claimsFile = "claims.json"

// claims keeps the claim numbers in the state directory. A disk that takes no
// writes does not stop the node: the numbers are written when it takes them
// again.
type claims struct {
	dir string
	log *slog.Logger

	mu    sync.Mutex // guards the fields below
	known map[string]uint32
	err   error // why known is not on disk; nil: it is
}

// openClaims reads the numbers. Where that fails they are lost.
func openClaims(dir string, log *slog.Logger) *claims {
	c := &claims{dir: dir, log: log}
	if err := readState(dir, claimsFile, &c.known); err != nil {
		log.Warn("claims on device names are lost, others may get the names", "err", err)
		c.known = nil
	}
	return c
}

// save is registry.Config.SaveClaims. It returns no error: the failure is
// shown by problem and mended by retry.
func (c *claims) save(numbers map[string]uint32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known = maps.Clone(numbers)
	c.writeLocked()
	return nil
}

func (c *claims) writeLocked() {
	err := writeState(c.dir, claimsFile, c.known)
	if err != nil && c.err == nil {
		c.log.Warn("claims on device names cannot be kept", "err", err)
	}
	c.err = err
}

// retry writes what could not be written before.
func (c *claims) retry() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		c.writeLocked()
	}
}

// problem says what a person should know, "" for nothing.
func (c *claims) problem() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		return ""
	}
	return "state directory: names of devices may go to others after a restart: " + c.err.Error() + "; free or repair the disk"
}
