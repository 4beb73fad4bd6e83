package mesh

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/mesh/roster"
)

const (
	lockFile    = "lock"
	epochFile   = "epoch"
	membersFile = "members"
)

// ErrStoreInUse is wrapped by OpenStore's error when another agent has the
// state directory.
var ErrStoreInUse = errors.New("another agent is using it")

// Store is an open state directory: the identity, the boot counter and the
// list of known members. It is for one process at a time; close it after use.
type Store struct {
	dir    string
	lock   *os.File
	id     *identity.Identity
	origin identity.Origin

	mu         sync.Mutex // guards what follows
	epoch      uint64
	epochError error
	saved      string // members list as last read or written
}

// OpenStore opens dir, making it (mode 0700) if need be, and begins a new
// epoch in it. machineID is what identity.Load says. It fails if another
// process has the directory (ErrStoreInUse) or the identity cannot be had.
func OpenStore(dir, machineID string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open state directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if errors.Is(err, syscall.EROFS) {
		// A disk gone read-only still has the identity; it cannot be locked.
		lock, err = os.Open(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("open state directory: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("%w; stop it, or give this one another node.state_dir", ErrStoreInUse)
		}
		return nil, fmt.Errorf("lock state directory %q: %w", dir, err)
	}
	s := &Store{dir: dir, lock: lock}
	if s.id, s.origin, err = identity.Load(dir, machineID); err != nil {
		lock.Close()
		return nil, err
	}
	if s.origin == identity.Replaced {
		s.epoch = 0 // the counter was the other machine's
		os.Remove(filepath.Join(dir, membersFile))
	} else {
		s.epoch = readEpoch(filepath.Join(dir, epochFile))
	}
	s.SetEpoch(s.epoch + 1)
	return s, nil
}

// Identity returns the node's identity and where it came from.
func (s *Store) Identity() (*identity.Identity, identity.Origin) { return s.id, s.origin }

// Epoch returns the epoch of this process.
func (s *Store) Epoch() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.epoch
}

// EpochError returns why the boot counter could not be written, nil if it was.
// The mesh then finds the right epoch by asking its members (DESIGN section 6).
func (s *Store) EpochError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.epochError
}

// SetEpoch goes on in another epoch and writes it down, which may take as long
// as the disk does. A failure shows in EpochError.
func (s *Store) SetEpoch(epoch uint64) {
	err := s.write(epochFile, strconv.FormatUint(epoch, 10)+"\n")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch, s.epochError = epoch, err
}

// readEpoch returns the last epoch, 0 if there is none or it is damaged: the
// mesh knows better then.
func readEpoch(path string) uint64 {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	epoch, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
	if err != nil || epoch >= roster.MaxCount {
		return 0
	}
	return epoch
}

// members reads the members known at the last stop. It returns the sound
// records even with an error.
func (s *Store) members(cluster identity.ClusterID) ([]roster.Signed, error) {
	data, err := os.ReadFile(filepath.Join(s.dir, membersFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.saved = string(data)
	s.mu.Unlock()
	return roster.Unmarshal(cluster, data)
}

// read reads a file; the error wraps fs.ErrNotExist where there is none.
func (s *Store) read(name string) ([]byte, error) { return os.ReadFile(filepath.Join(s.dir, name)) }

// saveMembers writes the members list if it has changed: the disk may be an
// eMMC that wears out.
func (s *Store) saveMembers(list []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if string(list) == s.saved {
		return nil
	}
	if err := s.write(membersFile, string(list)); err != nil {
		return err
	}
	s.saved = string(list)
	return nil
}

// write replaces a file whole: a node that loses power keeps the old or the
// new one.
func (s *Store) write(name, text string) error {
	path := filepath.Join(s.dir, name)
	tmp, err := os.CreateTemp(s.dir, "."+name+".*")
	if err != nil {
		return fmt.Errorf("write %q: %w", path, err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(text)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %q: %w", path, err)
	}
	return nil
}

// Dir returns the directory's path.
func (s *Store) Dir() string { return s.dir }

// Close lets another process have the directory.
func (s *Store) Close() error { return s.lock.Close() }
