package configs

import (
	"fmt"
	"strconv"
	"strings"
)

// Starter is what "init" and "join" know when they write a first file.
type Starter struct {
	Name     string   // of the node
	StateDir string   // "": the default, not written
	Join     []string // HOST:PORT of members; empty: the first node
}

// File returns the text of a configuration file with its cluster secret
// beside it.
func (s Starter) File() []byte {
	var b strings.Builder
	b.WriteString("# SerialSpan, this machine's configuration. An unknown key is an error.\n")
	b.WriteString("node:\n  name: " + strconv.Quote(s.Name) + "\n")
	if s.StateDir != "" {
		b.WriteString("  state_dir: " + strconv.Quote(s.StateDir) + "\n")
	}
	b.WriteString("cluster:\n  secret_file: " + SecretFileName + "   # relative to this file; keep its mode at 0600\n")
	if len(s.Join) > 0 {
		b.WriteString("  join:\n")
		for _, host := range s.Join {
			b.WriteString("    - " + strconv.Quote(host) + "\n")
		}
	}
	fmt.Fprintf(&b, "mesh:\n  listen: \":%d\"   # UDP\n", DefaultPort)
	b.WriteString(`devices:
  publish: known      # known | all | listed
  rules: []
  # - match: {path: /dev/ttyS1}
  #   name: "{{.Node}}-meter"
  #   line: 9600e71
attachments: []
# - {device: garage-zwave, pty: {link: /run/serialspan/zwave, mode: "0660", group: dialout}}
# - {device: garage-zwave, tcp: "127.0.0.1:6639"}
`)
	return []byte(b.String())
}
