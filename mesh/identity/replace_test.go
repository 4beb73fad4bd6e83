package identity_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/serialspan/serialspan/mesh/identity"
)

func secretOf(number uint32, which byte) identity.Secret {
	return identity.SecretOf(identity.ClusterID{1}, number, [32]byte{which})
}

// The file has one secret or the other, the one from before is kept, nothing
// else is left about, and a failure changes nothing.
func TestReplaceSecretFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "cluster.secret")
	for n := uint32(1); n <= 3; n++ {
		if err := identity.ReplaceSecretFile(path, secretOf(n, 0)); err != nil {
			t.Fatal(err)
		}
		have, err := identity.ReadSecretFile(path)
		if err != nil || have != secretOf(n, 0) {
			t.Errorf("replaced by %d: %v, %v", n, have, err)
		}
		if n > 1 {
			if before, err := identity.ReadSecretFile(path + identity.PreviousSuffix); err != nil || before != secretOf(n-1, 0) {
				t.Errorf("the one before %d: %v, %v", n, before, err)
			}
		}
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if err := identity.ReplaceSecretFile(link, secretOf(4, 0)); err != nil {
		t.Fatal(err)
	}
	if have, err := identity.ReadSecretFile(path); err != nil || have.KeyNumber != 4 {
		t.Errorf("through a link: %v, %v", have, err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link is none any more: %v", err)
	}
	names := func() (all []string) {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			all = append(all, e.Name())
		}
		return all
	}
	if have := names(); len(have) != 2 {
		t.Errorf("left about: %v", have)
	}
	// In the way of the copy.
	if err := os.Remove(path + identity.PreviousSuffix); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(path+identity.PreviousSuffix, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := identity.ReplaceSecretFile(path, secretOf(5, 0)); err == nil {
		t.Error("it did not fail")
	}
	if have, err := identity.ReadSecretFile(path); err != nil || have.KeyNumber != 4 || len(names()) != 2 {
		t.Errorf("after a failure: %v, %v, %v", have, err, names())
	}
	if err := identity.ReplaceSecretFile(filepath.Join(dir, "no", "such"), secretOf(1, 0)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in a folder that is not there: %v", err)
	}
}

func TestSecretOrder(t *testing.T) {
	one, other := secretOf(7, 1), secretOf(7, 2)
	if one.Compare(other) == 0 || one.Compare(other) != -other.Compare(one) || one.Compare(one) != 0 {
		t.Error("of one number: no order")
	}
	if secretOf(8, 1).Compare(one) <= 0 || secretOf(8, 1).Compare(other) <= 0 {
		t.Error("the larger number is not newer")
	}
	next, err := one.Renewed(8)
	if err != nil || next.Cluster != one.Cluster || next.KeyNumber != 8 || next.JoinKey() == one.JoinKey() {
		t.Errorf("renewed: %v, %v", next, err)
	}
}
