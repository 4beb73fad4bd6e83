package configs

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/registry/naming"
)

// Member returns the NodeID that word means in an allow list: it is one, or a
// name of cluster.nodes.
func (c Cluster) Member(word string) (identity.NodeID, error) {
	text, ok := c.Nodes[word]
	id, err := identity.ParseNodeID(cmp.Or(text, word))
	switch {
	case err == nil:
		return id, nil
	case ok:
		return id, fmt.Errorf("cluster.nodes.%s is no NodeID", word)
	}
	best := nearest(word, slices.Sorted(maps.Keys(c.Nodes)))
	if best != "" {
		return id, fmt.Errorf("%q is neither a NodeID nor a name of cluster.nodes; did you mean %q?", word, best)
	}
	return id, fmt.Errorf("%q is neither a NodeID nor a name of cluster.nodes; \"serialspan nodes --json\" shows NodeIDs", word)
}

func (c *Config) checkNodes(p *places) {
	for _, name := range slices.Sorted(maps.Keys(c.Cluster.Nodes)) {
		key := "cluster.nodes." + name
		if !naming.Valid(name) {
			p.addKey(key, "%q is no name; write 1 to 63 letters, digits, '.', '_' or '-'", name)
		}
		if _, err := identity.ParseNodeID(c.Cluster.Nodes[name]); err != nil {
			p.addKey(key, "%q is no NodeID; write the 26 characters that \"serialspan status\" shows as id on that node", c.Cluster.Nodes[name])
		}
	}
}

// Members returns the NodeIDs that an allow list means.
func (c Cluster) Members(words []string) ([]identity.NodeID, error) {
	var ids []identity.NodeID
	for _, word := range words {
		id, err := c.Member(word)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func (c *Config) checkAdmission(p *places) {
	c.checkAllow(p, "cluster.allow", c.Cluster.Allow)
	c.checkAllow(p, "cluster.admins", c.Cluster.Admins)
	listed := c.Cluster.Admission == "allowlist"
	switch {
	case listed && len(c.Cluster.Allow) == 0:
		p.addKey("cluster.allow", "is empty, so no other node could be a member; list NodeIDs or names of cluster.nodes")
	case !listed && len(c.Cluster.Allow) > 0:
		p.addKey("cluster.allow", "has no effect without admission: allowlist; add that, or remove the list")
	}
}

// checkAllow checks the list at key.
func (c *Config) checkAllow(p *places, key string, allow []string) {
	for i, word := range allow {
		if _, named := c.Cluster.Nodes[word]; named {
			continue // a wrong NodeID is told at its own place
		}
		if _, err := c.Cluster.Member(word); err != nil {
			p.addKey(fmt.Sprintf("%s[%d]", key, i), "%v", err)
		}
	}
}

func (c *Config) checkControl(p *places) {
	if err := CheckSocket(c.Control.Socket); err != nil {
		p.addKey("control.socket", "%v", err)
	}
	for i, dir := range c.Control.LinkDirs {
		if !filepath.IsAbs(dir) {
			p.addKey(fmt.Sprintf("control.link_dirs[%d]", i), "%q must be an absolute path", dir)
		}
	}
}

// asker is the user on whose behalf attachments of the configuration are made:
// the owner of the file.
func (c *Config) asker() int {
	if c.File != "" {
		if info, err := os.Stat(c.File); err == nil {
			return owner(info)
		}
	}
	return os.Geteuid()
}
