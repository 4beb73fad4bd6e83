package control

import (
	"strings"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/configs"
)

// checkPTY refuses a PTY that the caller may not ask for. An agent that is not
// root's can do no more than its user, so only root's is asked what it must
// not be talked into: links outside of control.link_dirs and of the caller's
// own directories, and terminals for groups that the caller is not in.
func checkPTY(links configs.LinkRule, who caller, pty *client.PTYSpec) error {
	if pty == nil {
		return nil
	}
	if err := links.Check(who.uid, pty.Link); err != nil {
		text, next, _ := strings.Cut(err.Error(), "; ")
		return client.Errorf(client.Refused, next, "make link: %s", text)
	}
	if links.Agent != 0 || who.uid == 0 || pty.Group == "" {
		return nil
	}
	gid, err := groupID(pty.Group)
	if err != nil {
		return client.Errorf(client.Invalid, "name a group that exists", "make PTY: group %q is not known", pty.Group)
	}
	if !who.in(gid) {
		return client.Errorf(client.Refused, "name a group of yours; id(1) lists them", "make PTY for group %q: user %d is not in it", pty.Group, who.uid)
	}
	return nil
}
