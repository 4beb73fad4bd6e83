package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/mesh"
	"github.com/serialspan/serialspan/mesh/identity"
)

// problems are what a person should know of, the worst first.
func (a *Agent) problems(s mesh.Status) []string {
	var all []string
	if s.Twin {
		all = append(all, "identity "+s.ID.Short()+": another machine runs with it; remove the copied state directory there or here")
	}
	all = append(all, a.settings.problems()...)
	all = append(all, a.belongingProblems()...)
	for _, j := range a.mesh.Joins() {
		if j.Err != nil {
			all = append(all, j.Err.Error())
		}
	}
	if err := a.store.EpochError(); err != nil {
		all = append(all, "state directory: "+err.Error())
	}
	if text := a.claims.problem(); text != "" {
		all = append(all, text)
	}
	all = append(all, a.deviceProblems()...)
	all = append(all, a.wanted.problems()...)
	for _, source := range s.JunkSources[:min(len(s.JunkSources), 3)] {
		all = append(all, fmt.Sprintf("join messages from %s: %d did not open; a node there may have another secret (compare `serialspan secret id`)", source.Source, source.Count))
	}
	names := make(map[string]identity.NodeID)
	for _, m := range a.mesh.Members() {
		if m.State != mesh.Alive {
			continue
		}
		if other, taken := names[m.Name]; taken {
			all = append(all, fmt.Sprintf("node name %q: both %s and %s have it; set node.name on one", m.Name, other.Short(), m.ID.Short()))
		}
		names[m.Name] = m.ID
	}
	if _, origin := a.store.Identity(); origin == identity.Replaced {
		all = append(all, fmt.Sprintf("identity: the state directory came from another machine, so this one made its own, %s; correct allow lists that name the old one", s.ID))
	}
	return all
}

// deviceProblems are those of the rules and devices of this node, and names
// that several devices want.
func (a *Agent) deviceProblems() []string {
	var all []string
	config := a.settings.current()
	for i, rule := range config.Devices.Rules {
		if path := rule.Match.Path; path != "" && !a.exists(path) {
			all = append(all, config.Place(fmt.Sprintf("devices.rules[%d].match.path", i))+": "+pathProblem(path))
		}
	}
	self := a.mesh.Self()
	holder := map[string]client.Device{} // by name; the registry lists the holder first
	for _, d := range a.Devices() {
		first, named := holder[d.Name]
		if !named {
			holder[d.Name] = d
		} else if d.Conflict {
			node, other := first.Node, d.Node
			if node == other { // twins themselves
				node, other = first.NodeID.String(), d.NodeID.String()
			}
			all = append(all, fmt.Sprintf("device name %q: %s and %s each have one; it means that of %s, the other is %s@%s; name one differently in devices.rules",
				d.Name, node, other, node, d.Name, other))
		}
		if d.NodeID == self && d.State == client.DeviceFault {
			all = append(all, fmt.Sprintf("device %s: %s", d.Name, d.Detail))
		}
	}
	return all
}

// exists reports whether the path of a rule is a tty now, as the publisher
// sees it.
func (a *Agent) exists(path string) bool {
	if a.options.Ports.Exists != nil {
		return a.options.Ports.Exists(path)
	}
	info, err := os.Stat(path)
	return err == nil && info.Mode()&fs.ModeCharDevice != 0
}

func pathProblem(path string) string {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		text := fmt.Sprintf("%q is not there; plug the device in, or write the path of another tty", path)
		if near, _ := filepath.Glob("/dev/serial/by-id/*"); len(near) > 0 {
			text += ", such as " + near[0]
		}
		return text
	case err != nil:
		return err.Error()
	case info.IsDir():
		return fmt.Sprintf("%q is a directory; write the path of a tty", path)
	case info.Mode()&fs.ModeCharDevice == 0:
		return fmt.Sprintf("%q is a file and no tty; write the path of a tty", path)
	}
	return fmt.Sprintf("%q cannot be used", path)
}
