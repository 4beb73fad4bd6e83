package configs

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/registry/naming"
)

// kubeSpanPort is Talos's: an agent on it would take KubeSpan's packets.
const kubeSpanPort = 51820

// maxAdvertise is what a node record has room for.
const maxAdvertise = 8

// Validate checks a configuration that was made by code, as Load does for
// files, and returns every Problem.
func (c Config) Validate() error {
	where := newPlaces()
	where.at[""] = place{source: c.File}
	c.check(where)
	return where.err()
}

// fill sets what depends on other keys: defaults inside lists, ports, and
// paths relative to the file.
func (c *Config) fill() {
	dir := DefaultDir()
	if c.File != "" {
		dir = filepath.Dir(c.File)
	}
	if c.Node.Labels == nil {
		c.Node.Labels = map[string]string{}
	}
	if c.Control.Mode == 0 {
		c.Control.Mode = 0o660
	}
	c.Node.StateDir = under(dir, c.Node.StateDir)
	c.Cluster.SecretFile = under(dir, c.Cluster.SecretFile)
	c.Control.Socket = under(dir, c.Control.Socket)
	c.Devices.ProfilesDir = under(dir, c.Devices.ProfilesDir)
	for i, host := range c.Cluster.Join {
		if withPort, err := JoinAddress(host); err == nil {
			c.Cluster.Join[i] = withPort
		}
	}
	for i := range c.Devices.Rules {
		r := &c.Devices.Rules[i]
		for _, hex := range []*string{&r.Match.VID, &r.Match.PID, &r.Match.Interface} {
			*hex = strings.ToLower(*hex)
		}
	}
}

func under(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// JoinAddress completes HOST[:PORT] with the default port and checks it.
func JoinAddress(s string) (string, error) {
	host, port := s, strconv.Itoa(DefaultPort)
	if addr, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		host = addr.String() // an IPv6 address has colons but no port
	} else if strings.Contains(s, ":") {
		var err error
		if host, port, err = net.SplitHostPort(s); err != nil {
			return "", fmt.Errorf("parse address %q: write HOST or HOST:PORT, an IPv6 address in brackets", s)
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || host == "" || strings.ContainsAny(host, "/@[] \t\n") {
		return "", fmt.Errorf("parse address %q: write HOST or HOST:PORT", s)
	}
	if n == kubeSpanPort {
		return "", fmt.Errorf("parse address %q: port %d is KubeSpan's; SerialSpan's is %d unless changed", s, kubeSpanPort, DefaultPort)
	}
	return net.JoinHostPort(host, port), nil
}

func (c *Config) check(p *places) {
	if !naming.Valid(c.Node.Name) {
		p.addKey("node.name", "%q is no name; write 1 to 63 letters, digits, '.', '_' or '-'", c.Node.Name)
	}
	for key, value := range c.Node.Labels {
		if !labelPattern.MatchString(key) {
			p.addKey("node.labels."+key, "write the key with lower-case letters, digits and . _ / - only, at most 63")
		}
		if len(value) > maxLabelValue {
			p.addKey("node.labels."+key, "%d bytes long; at most %d fit", len(value), maxLabelValue)
		}
	}
	if len(c.Node.Labels) > maxLabels {
		p.addKey("node.labels", "%d labels; at most %d fit", len(c.Node.Labels), maxLabels)
	}
	required(p, "node.state_dir", c.Node.StateDir)
	required(p, "cluster.secret_file", c.Cluster.SecretFile)
	required(p, "control.socket", c.Control.Socket)
	c.checkMesh(p)
	c.checkNodes(p)
	c.checkAdmission(p)
	for i := range c.Devices.Rules {
		c.checkRule(p, i)
	}
	c.checkAttachments(p)
	c.checkControl(p)
}

// What an entry of the registry has room for.
const (
	maxLabels     = 16
	maxLabelValue = 63 // bytes
)

var labelPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?$`)

func required(p *places, key, value string) {
	if value == "" {
		p.addKey(key, "is empty; write a path, or remove the key for the default")
	}
}

func (c *Config) checkMesh(p *places) {
	for i, host := range c.Cluster.Join {
		if _, err := JoinAddress(host); err != nil {
			p.addKey(fmt.Sprintf("cluster.join[%d]", i), "%v", err)
		}
	}
	host, port, err := net.SplitHostPort(c.Mesh.Listen)
	n, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || host != "" && !isIP(host) {
		p.addKey("mesh.listen", "%q is no UDP address; write \":%d\" or \"IP:PORT\"", c.Mesh.Listen, DefaultPort)
	} else if n == kubeSpanPort {
		p.addKey("mesh.listen", "port %d is KubeSpan's; write another, \":%d\" is the default", n, DefaultPort)
	}
	for i, addr := range c.Mesh.Advertise {
		key := fmt.Sprintf("mesh.advertise[%d]", i)
		switch {
		case addr.Port() == kubeSpanPort:
			p.addKey(key, "port %d is KubeSpan's; advertise the port that reaches this agent", kubeSpanPort)
		case addr.Port() == 0 || !addr.Addr().IsValid() || addr.Addr().IsUnspecified() || addr.Addr().IsMulticast():
			p.addKey(key, "%s cannot be reached; write the IP:PORT that others send to", addr)
		case i >= maxAdvertise:
			p.addKey(key, "one too many; at most %d fit", maxAdvertise)
		}
	}
}

func isIP(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

var (
	usbID         = regexp.MustCompile(`^[0-9a-f]{4}$`)
	usbInterface  = regexp.MustCompile(`^[0-9a-f]{2}$`)
	usbPortPath   = regexp.MustCompile(`^[0-9]+-[0-9]+(\.[0-9]+)*$`)
	deviceOrQuery = regexp.MustCompile(`^[^@]+(@[^@]+)?$`)
	labelQuery    = regexp.MustCompile(`^[^=,]+=[^=,]*(,[^=,]+=[^=,]*)*$`)
)

func (c *Config) checkRule(p *places, i int) {
	rule := c.Devices.Rules[i]
	key := fmt.Sprintf("devices.rules[%d]", i)
	if rule.Match == (Match{}) {
		p.addKey(key+".match", "matches nothing; write at least one of vid, pid, serial, interface, port, path")
	} else if j := slices.IndexFunc(c.Devices.Rules[:i], func(r Rule) bool { return r.Match == rule.Match }); j >= 0 {
		p.addKey(key+".match", "the same as in devices.rules[%d], which is tried first; remove one", j)
	}
	for _, field := range []struct {
		key, value string
		pattern    *regexp.Regexp
		want       string
	}{
		{"vid", rule.Match.VID, usbID, `4 hexadecimal digits such as "0658"`},
		{"pid", rule.Match.PID, usbID, `4 hexadecimal digits such as "0200"`},
		{"interface", rule.Match.Interface, usbInterface, `2 hexadecimal digits such as "00"`},
		{"port", rule.Match.Port, usbPortPath, `a USB port path such as "1-1.2"`},
	} {
		if field.value != "" && !field.pattern.MatchString(field.value) {
			p.addKey(key+".match."+field.key, "%q: write %s", field.value, field.want)
		}
	}
	if path := rule.Match.Path; path != "" && !filepath.IsAbs(path) {
		p.addKey(key+".match.path", "%q must be an absolute path such as /dev/ttyS1", path)
	}
	if rule.Name != "" {
		if device, err := naming.Expand(rule.Name, c.Node.Name, "serial"); err != nil {
			p.addKey(key+".name", "%v; write for example \"{{.Node}}-zwave\"", err)
		} else if !naming.Valid(device) && naming.Valid(c.Node.Name) {
			p.addKey(key+".name", "%q is no name; write 1 to 63 letters, digits, '.', '_' or '-'", device)
		}
	}
	if rule.Line != "" {
		if _, err := line.Parse(rule.Line); err != nil {
			p.addKey(key+".line", "%v", err)
		}
	}
	checkName(p, key+".kind", rule.Kind)
	checkName(p, key+".profile", rule.Profile)
	c.checkAllow(p, key+".allow", rule.Allow)
	c.checkAllow(p, key+".allow_read", rule.AllowRead)
	if len(rule.AllowRead) > 0 && len(rule.Allow) == 0 {
		p.addKey(key+".allow_read", "has no effect without allow, since then every member may open the device; add allow, or remove it")
	}
	checkRS485(p, key+".rs485", rule.RS485)
}

// checkName checks an optional word.
func checkName(p *places, key, word string) {
	if word != "" && !naming.Valid(word) {
		p.addKey(key, "%q is no name; write 1 to 63 letters, digits, '.', '_' or '-'", word)
	}
}

func checkRS485(p *places, key string, r RS485) {
	if !r.On && r != (RS485{}) {
		p.addKey(key, "has no effect without on: true; add it, or remove the rest")
	}
	for _, wait := range []struct {
		key   string
		value time.Duration
	}{{"before_send", r.BeforeSend}, {"after_send", r.AfterSend}} {
		if wait.value%time.Millisecond != 0 || wait.value > maxRS485 {
			p.addKey(key+"."+wait.key, "%v: write whole milliseconds, at most %v", wait.value, maxRS485)
		}
	}
}

// maxRS485 is what the kernel takes, include/uapi/linux/serial.h and
// RS485_MAX_RTS_DELAY.
const maxRS485 = 100 * time.Millisecond
