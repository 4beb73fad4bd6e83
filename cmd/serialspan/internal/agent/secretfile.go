package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/serialspan/serialspan/configs"
	"github.com/serialspan/serialspan/mesh/identity"
)

// secretFile keeps the file of the cluster secret up to date. Where it cannot be
// written, as with a secret that Kubernetes mounts, the secret in use is put into
// the state directory, for a person to copy; the agent itself finds it there in
// the mesh's own file of keys.
type secretFile struct {
	path string // of the configuration
	dir  string // the state directory
	log  *slog.Logger

	mu   sync.Mutex
	want identity.Secret
	err  error // why path does not have it; nil: it does
}

// keep puts a secret into the file. It is mesh.Config.OnSecret.
func (s *secretFile) keep(secret identity.Secret) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.want = secret
	s.writeLocked()
}

// retry writes what could not be written before.
func (s *secretFile) retry() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		s.writeLocked()
	}
}

// spare is where the secret is while the file cannot be written.
func (s *secretFile) spare() string { return filepath.Join(s.dir, configs.SecretFileName) }

func (s *secretFile) writeLocked() {
	have, err := identity.ReadSecretFile(s.path)
	if err == nil && have == s.want {
		s.mended()
		return
	}
	if err = identity.ReplaceSecretFile(s.path, s.want); err == nil {
		s.log.Info("cluster secret written", "path", s.path, "fingerprint", s.want.Fingerprint())
		s.mended()
		return
	}
	if s.err == nil {
		s.log.Warn("cluster secret cannot be written where the configuration says", "err", err)
	}
	s.err = err
	if have, readErr := identity.ReadSecretFile(s.spare()); readErr == nil && have == s.want {
		return
	}
	if spareErr := identity.ReplaceSecretFile(s.spare(), s.want); spareErr != nil {
		s.err = errors.Join(err, spareErr)
	}
}

// mended notes that the file has the secret; copies of it are not left about.
func (s *secretFile) mended() {
	s.err = nil
	if s.spare() == s.path {
		return
	}
	for _, path := range []string{s.spare(), s.spare() + identity.PreviousSuffix} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.log.Warn("copy of the cluster secret not removed", "err", err)
		}
	}
}

// problem says what a person should know, "" for nothing.
func (s *secretFile) problem() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		return ""
	}
	return fmt.Sprintf("cluster.secret_file: the new secret (key %d) is in use, but not in this file: %v; copy %s to where the file comes from (a Kubernetes secret, a provisioning system), then restart the agent",
		s.want.KeyNumber, s.err, s.spare())
}
