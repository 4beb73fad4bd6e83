package control

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/serialspan/serialspan/bridge/client"
)

// linkRule says where the agent makes links for whom: an agent of root could
// otherwise be talked into writing anywhere.
type linkRule struct {
	agent int // user ID of this process
	dirs  []string
}

func newLinkRule(dirs []string) linkRule { return linkRule{agent: os.Geteuid(), dirs: dirs} }

// check refuses a link that caller, a user ID, may not ask for.
func (l linkRule) check(caller int, pty *client.PTYSpec) error {
	if pty == nil || l.agent != 0 || caller == 0 {
		return nil
	}
	link := filepath.Clean(pty.Link)
	for _, dir := range l.dirs {
		if strings.HasPrefix(link, filepath.Clean(dir)+"/") {
			return nil
		}
	}
	if info, err := os.Stat(filepath.Dir(link)); err == nil && caller >= 0 && ownerOf(info) == caller {
		return nil
	}
	return client.Errorf(client.Refused, "use a directory of yours, or one of control.link_dirs: "+strings.Join(l.dirs, ", "),
		"make link %q: its directory does not belong to user %d", pty.Link, caller)
}
