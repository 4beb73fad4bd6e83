package configs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// noLinks are the kernel's: a link cannot be made there.
var noLinks = [...]string{"/proc", "/sys", "/dev/pts"}

// LinkRule says where the agent makes links for whom: an agent of root could
// otherwise be talked into writing anywhere.
type LinkRule struct {
	Agent int      // user ID of the agent
	Dirs  []string // control.link_dirs
}

// NewLinkRule returns the rule of an agent that runs as this process's user.
func NewLinkRule(dirs []string) LinkRule { return LinkRule{Agent: os.Geteuid(), Dirs: dirs} }

// Check reports why user, a user ID, may not ask for a link at this absolute
// path; -1 is a user who is not known. An agent that is not root's cannot do
// more than its user, and root may ask for anything; other users may ask an
// agent of root for links below Dirs and in directories of their own.
func (l LinkRule) Check(user int, link string) error {
	link = filepath.Clean(link)
	for _, dir := range noLinks {
		if link == dir || strings.HasPrefix(link, dir+"/") {
			return fmt.Errorf("%q is in %s, where no link can be made; write a path such as /run/serialspan/zwave", link, dir)
		}
	}
	if l.Agent != 0 || user == 0 || l.Allowed(link) {
		return nil
	}
	if info, err := os.Stat(filepath.Dir(link)); err == nil && user >= 0 && owner(info) == user {
		return nil
	}
	return fmt.Errorf("%q is in a directory that does not belong to user %d; use a directory of yours, or one of control.link_dirs: %s",
		link, user, strings.Join(l.Dirs, ", "))
}

// Allowed reports whether a link is below Dirs.
func (l LinkRule) Allowed(link string) bool {
	for _, dir := range l.Dirs {
		if strings.HasPrefix(filepath.Clean(link), filepath.Clean(dir)+"/") {
			return true
		}
	}
	return false
}

// CheckSocket reports a control socket whose path is longer than the kernel
// takes.
func CheckSocket(path string) error {
	if len(path) > MaxSocket {
		return fmt.Errorf("%d bytes long; the kernel's limit for sockets leaves %d (sun_path, unix(7)); write a shorter path such as /run/serialspan/agent.sock", len(path), MaxSocket)
	}
	return nil
}

// MaxSocket is how long the path of the control socket may be, in bytes:
// sun_path of unix(7) has 108 with the final zero, and the agent makes the
// socket under a temporary name that is up to 11 longer.
const MaxSocket = 108 - 1 - 11
