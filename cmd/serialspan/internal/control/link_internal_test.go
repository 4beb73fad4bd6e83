package control

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/serialspan/serialspan/bridge/client"
)

// TestLinkRule is in the package since a test cannot be two users.
func TestLinkRule(t *testing.T) {
	own := t.TempDir()
	uid := os.Geteuid()
	for _, test := range []struct {
		name          string
		agent, caller int
		link          string
		refused       bool
	}{
		{"root asks root", 0, 0, "/etc/x", false},
		{"user asks own agent", 1000, 1000, "/etc/x", false},
		{"allowed directory", 0, 1000, "/run/serialspan/x", false},
		{"below it", 0, 1000, "/run/serialspan/a/b", false},
		{"beside it", 0, 1000, "/run/serialspan-x/a", true},
		{"out of it", 0, 1000, "/run/serialspan/../x", true},
		{"the directory itself", 0, 1000, "/run/serialspan", true},
		{"foreign directory", 0, 1000, "/etc/x", true},
		{"no such directory", 0, 1000, "/nowhere/x", true},
		{"unknown caller", 0, -1, "/etc/x", true},
		{"own directory", 0, uid, filepath.Join(own, "x"), false},
	} {
		rule := linkRule{agent: test.agent, dirs: []string{"/run/serialspan/"}}
		err := rule.check(test.caller, &client.PTYSpec{Link: test.link})
		if errors.Is(err, client.Refused) != test.refused || !test.refused && err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	if err := (linkRule{}).check(1000, nil); err != nil {
		t.Errorf("no link: %v", err)
	}
}
