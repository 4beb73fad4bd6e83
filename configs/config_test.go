package configs_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/serialspan/serialspan/configs"
	"github.com/serialspan/serialspan/mesh/identity"
)

// load writes text to a file of its own and loads that.
func load(t *testing.T, text string) (configs.Config, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "serialspan.yaml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return configs.Load(file)
}

// plain returns a configuration without where it came from.
func plain(c configs.Config) configs.Config {
	c.File, c.At = "", nil
	return c
}

// problems returns the lines of err, each without the folder in front.
func problems(err error) []string {
	if err == nil {
		return nil
	}
	var out []string
	for line := range strings.Lines(err.Error()) {
		line = strings.TrimSpace(line)
		if _, rest, ok := strings.Cut(line, "/serialspan.yaml:"); ok {
			line = rest
		}
		out = append(out, line)
	}
	return out
}

func TestExamplesLoad(t *testing.T) {
	files, err := filepath.Glob("examples/*.yaml")
	if err != nil || len(files) < 4 {
		t.Fatalf("found %d examples, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			config, err := configs.Load(file)
			if err != nil {
				t.Fatal(err)
			}
			dir, _ := filepath.Abs("examples")
			if want := filepath.Join(dir, "cluster.secret"); config.Cluster.SecretFile != want {
				t.Errorf("secret file %q, want %q", config.Cluster.SecretFile, want)
			}
		})
	}
}

func TestLoadFills(t *testing.T) {
	config, err := configs.Load("examples/edge.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := []configs.Rule{
		{
			Match: configs.Match{VID: "0658", PID: "0200"}, Name: "{{.Node}}-zwave", Line: "115200n81",
			DTR: "off", RTS: "off", Busy: "kick", Hold: 15 * time.Second,
		},
		{Match: configs.Match{Path: "/dev/ttyS1"}, Name: "{{.Node}}-generator", Line: "9600e71", Busy: "refuse"},
	}
	if !reflect.DeepEqual(config.Devices.Rules, want) {
		t.Errorf("rules\n have %+v\n want %+v", config.Devices.Rules, want)
	}
	if config.Node.Labels["zone"] != "garage" || config.Log.Level != "info" || config.Devices.Publish != "known" {
		t.Errorf("have %+v", config)
	}
	config, err = configs.Load("examples/server.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"garage.lan:51821", "cloud.example.net:51821"}; !reflect.DeepEqual(config.Cluster.Join, want) {
		t.Errorf("join %q, want %q", config.Cluster.Join, want)
	}
	if have := config.Attachments[0].PTY; have != (configs.PTY{Link: "/run/serialspan/zwave", Mode: 0o660, Group: "dialout"}) {
		t.Errorf("pty %+v", have)
	}
	config, err = configs.Load("examples/cloud.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if want := []netip.AddrPort{netip.MustParseAddrPort("203.0.113.7:51821")}; !reflect.DeepEqual(config.Mesh.Advertise, want) {
		t.Errorf("advertise %v, want %v", config.Mesh.Advertise, want)
	}
}

func TestEmptyFileIsDefault(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "node:\nmesh:\nattachments:\n", "---\n"} {
		config, err := load(t, text)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		want := configs.Default()
		want.Cluster.SecretFile = filepath.Join(filepath.Dir(config.File), "cluster.secret")
		if !reflect.DeepEqual(plain(config), want) {
			t.Errorf("%q\n have %+v\n want %+v", text, config, want)
		}
	}
}

// TestScalarsAsWritten: what YAML takes for numbers and booleans is text here.
func TestScalarsAsWritten(t *testing.T) {
	config, err := load(t, `
node: {name: 007, labels: {app.kubernetes.io/name: yes}}
devices:
  rules:
    - match: {vid: 0658, pid: 10e4, interface: 00}
      dtr: off
      rts: on
attachments:
  - {device: a, pty: {link: /a, mode: 0660, group: 20}}
`)
	if err != nil {
		t.Fatal(err)
	}
	rule := config.Devices.Rules[0]
	if rule.Match.VID != "0658" || rule.Match.PID != "10e4" || rule.Match.Interface != "00" || rule.DTR != "off" || rule.RTS != "on" {
		t.Errorf("rule %+v", rule)
	}
	if config.Node.Name != "007" || config.Node.Labels["app.kubernetes.io/name"] != "yes" {
		t.Errorf("node %+v", config.Node)
	}
	if pty := config.Attachments[0].PTY; pty.Mode.Perm() != 0o660 || pty.Group != "20" {
		t.Errorf("pty %+v", pty)
	}
}

func TestRefused(t *testing.T) {
	someNode := identity.FromSeed([32]byte{2}).ID().String()
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"unknown key", "node: {nmae: x}", []string{`1: node.nmae: unknown key; did you mean "name"?`}},
		{"unknown section", "\nmash:\n  listen: x\n", []string{`2: mash: unknown key; did you mean "mesh"?`}},
		{"nothing near", "mesh: {quantum: auto}", []string{"1: mesh.quantum: unknown key; known here: listen, advertise, relay, kubespan, lan"}},
		{"upper case", "Node: {}", []string{`1: Node: unknown key; did you mean "node"?`}},
		{"key in a list", "devices:\n  rules:\n    - match: {path: /dev/a}\n      buzy: kick\n", []string{`4: devices.rules[0].buzy: unknown key; did you mean "busy"?`}},
		{"twice", "node:\n  name: a\n  name: b\n", []string{"3: node.name: written twice, first in line 2; keep one"}},
		{"label twice", "node: {labels: {a: b, a: c}}", []string{"1: node.labels.a: written twice; keep one"}},
		{"word for keys", "mesh: yes", []string{`1: mesh: want keys with values, have "yes"`}},
		{"word for list", "cluster: {join: a}", []string{`1: cluster.join: want a list, have "a"; write [ … ] or lines that begin with "- "`}},
		{"list for word", "node: {name: [a]}", []string{"1: node.name: want one value, have a list"}},
		{"empty item", "cluster:\n  join:\n    -\n", []string{"3: cluster.join[0]: is empty; remove it"}},
		{"no truth", "attachments: [{device: a, tcp: ':1', expose: 1}]", []string{
			`1: attachments[0].expose: "1" is neither true nor false`,
			`1: attachments[0].tcp: :1 can be reached from other machines, without a password; write a loopback address such as 127.0.0.1:6639, or add expose: true`,
		}},
		{"allowlist of nobody", "cluster: {admission: allowlist}", []string{`1: cluster.allow: is empty, so no other node could be a member; list NodeIDs or names of cluster.nodes`}},
		{"allow without allowlist", "cluster:\n  allow: [nobody]", []string{
			`2: cluster.allow[0]: "nobody" is neither a NodeID nor a name of cluster.nodes; "serialspan nodes --json" shows NodeIDs`,
			`2: cluster.allow: has no effect without admission: allowlist; add that, or remove the list`,
		}},
		{"max_stale", "devices: {rules: [{match: {vid: '0001'}, max_stale: never}]}", []string{`1: devices.rules[0].max_stale: "never" is neither off nor a duration between 0 and 24h; write for example 1500ms`}},
		{"words of rules", "devices:\n  rules:\n    - match: {vid: '0001'}\n      kind: a b\n      profile: a/b\n      allow_read: [x]\n      rs485: {before_send: 1500us, after_send: 1s}", []string{
			`4: devices.rules[0].kind: "a b" is no name; write 1 to 63 letters, digits, '.', '_' or '-'`,
			`5: devices.rules[0].profile: "a/b" is no name; write 1 to 63 letters, digits, '.', '_' or '-'`,
			`6: devices.rules[0].allow_read[0]: "x" is neither a NodeID nor a name of cluster.nodes; "serialspan nodes --json" shows NodeIDs`,
			`6: devices.rules[0].allow_read: has no effect without allow, since then every member may open the device; add allow, or remove it`,
			`7: devices.rules[0].rs485: has no effect without on: true; add it, or remove the rest`,
			`7: devices.rules[0].rs485.before_send: 1.5ms: write whole milliseconds, at most 100ms`,
			`7: devices.rules[0].rs485.after_send: 1s: write whole milliseconds, at most 100ms`,
		}},
		{"rfc2217", "attachments:\n  - {device: a, rfc2217: '0.0.0.0:1'}\n  - {device: a, rfc2217: '127.0.0.1:2', tcp: '127.0.0.1:3'}\n  - {device: a, rfc2217: x, line: 1}\n  - {device: a, rfc2217: '127.0.0.1:4'}\n  - {device: b, tcp: '127.0.0.1:4'}", []string{
			`2: attachments[0].rfc2217: 0.0.0.0:1 can be reached from other machines, without a password; write a loopback address such as 127.0.0.1:6639, or add expose: true`,
			`3: attachments[1]: write one of pty: {link: PATH}, tcp: ADDRESS and rfc2217: ADDRESS`,
			`4: attachments[2].line: parse line settings "1": not line settings: want a form like "115200n81"`,
			`4: attachments[2].rfc2217: parse TCP address "x": write IP:PORT such as 127.0.0.1:6639`,
			`6: attachments[4].tcp: 127.0.0.1:4 is also where attachments[3] is; remove one`,
		}},
		{"unknown busy", "devices: {rules: [{match: {vid: '0001'}, busy: queue}]}", []string{`1: devices.rules[0].busy: "queue" is not supported; write kick or refuse or wait or share`}},
		{"KubeSpan's port", "mesh: {listen: ':51820', advertise: ['192.0.2.1:51820']}\ncluster: {join: ['a:51820']}", []string{
			`1: mesh.listen: port 51820 is KubeSpan's; write another, ":51821" is the default`,
			`1: mesh.advertise[0]: port 51820 is KubeSpan's; advertise the port that reaches this agent`,
			`2: cluster.join[0]: parse address "a:51820": port 51820 is KubeSpan's; SerialSpan's is 51821 unless changed`,
		}},
		{"listen", "mesh: {listen: foo}", []string{`1: mesh.listen: "foo" is no UDP address; write ":51821" or "IP:PORT"`}},
		{"advertise", "mesh: {advertise: ['0.0.0.0:1', '192.0.2.1:0']}", []string{
			"1: mesh.advertise[0]: 0.0.0.0:1 cannot be reached; write the IP:PORT that others send to",
			"1: mesh.advertise[1]: 192.0.2.1:0 cannot be reached; write the IP:PORT that others send to",
		}},
		{"advertise text", "mesh: {advertise: [garage.lan, '192.0.2.1:0']}", []string{`1: mesh.advertise[0]: "garage.lan" is no IP:PORT; write for example 203.0.113.7:51821`}},
		{"hold", "devices: {rules: [{match: {path: /dev/a}, hold: 15}]}", []string{`1: devices.rules[0].hold: "15" is no duration between 0 and 24h; write for example 15s or 500ms`}},
		{"match", "devices:\n  rules:\n    - name: a\n    - match: {vid: 12345, pid: xyz0, interface: 1, port: a, path: b}\n", []string{
			"3: devices.rules[0].match: matches nothing; write at least one of vid, pid, serial, interface, port, path",
			`4: devices.rules[1].match.vid: "12345": write 4 hexadecimal digits such as "0658"`,
			`4: devices.rules[1].match.pid: "xyz0": write 4 hexadecimal digits such as "0200"`,
			`4: devices.rules[1].match.interface: "1": write 2 hexadecimal digits such as "00"`,
			`4: devices.rules[1].match.port: "a": write a USB port path such as "1-1.2"`,
			`4: devices.rules[1].match.path: "b" must be an absolute path such as /dev/ttyS1`,
		}},
		{"rule twice", "devices:\n  rules:\n    - match: {path: /dev/a}\n    - match: {path: /dev/a}\n", []string{
			"4: devices.rules[1].match: the same as in devices.rules[0], which is tried first; remove one",
		}},
		{"rule name", "node: {name: n}\ndevices:\n  rules:\n    - {match: {path: /dev/a}, name: 'a b'}\n    - {match: {path: /dev/b}, name: '{{.Node}}/x'}\n", []string{
			`4: devices.rules[0].name: "a b" is no name; write 1 to 63 letters, digits, '.', '_' or '-'`,
			`5: devices.rules[1].name: "n/x" is no name; write 1 to 63 letters, digits, '.', '_' or '-'`,
		}},
		{"attachments", "attachments:\n  - {device: a}\n  - {device: a@b@c, tcp: '127.0.0.1:1'}\n  - {device: a, tcp: '127.0.0.1:1'}\n  - {device: a, tcp: x}\n" +
			"  - {device: a, pty: {link: a}}\n  - {device: a, pty: {link: /a}}\n  - {device: b, pty: {link: //a/}}\n  - {device: b, pty: {link: /b}, tcp: '127.0.0.1:2'}\n", []string{
			"2: attachments[0]: write one of pty: {link: PATH}, tcp: ADDRESS and rfc2217: ADDRESS",
			`3: attachments[1].device: "a@b@c" is no device; write NAME, NAME@NODE or LABEL=VALUE,...`,
			"4: attachments[2].tcp: 127.0.0.1:1 is also where attachments[1] is; remove one",
			`5: attachments[3].tcp: parse TCP address "x": write IP:PORT such as 127.0.0.1:6639`,
			`6: attachments[4].pty.link: "a" must be an absolute path such as /run/serialspan/zwave`,
			"8: attachments[6].pty.link: /a is also where attachments[5] is; remove one",
			"9: attachments[7]: write one of pty: {link: PATH}, tcp: ADDRESS and rfc2217: ADDRESS",
		}},
		{"labels", "attachments: [{device: 'zone=a,kind=zwave', tcp: '127.0.0.1:1'}, {device: 'zone=a,', tcp: '127.0.0.1:2'}]", []string{`1: attachments[1].device: "zone=a," is no device; write NAME, NAME@NODE or LABEL=VALUE,...`}},
		{"mode", "attachments: [{device: a, pty: {link: /a, mode: 0999}}]", []string{`1: attachments[0].pty.mode: parse file mode "0999": write octal permissions such as "0660"`}},
		{"empty", "node: {state_dir: '', name: ''}", []string{
			"1: node.name: \"\" is no name; write 1 to 63 letters, digits, '.', '_' or '-'",
			"1: node.state_dir: is empty; write a path, or remove the key for the default",
		}},
		{"link in a kernel's place", "attachments:\n  - {device: a, pty: {link: /dev/pts/7}}\n  - {device: b, pty: {link: /run/../proc/zwave}}\n", []string{
			`2: attachments[0].pty.link: "/dev/pts/7" is in /dev/pts, where no link can be made; write a path such as /run/serialspan/zwave`,
			`3: attachments[1].pty.link: "/proc/zwave" is in /proc, where no link can be made; write a path such as /run/serialspan/zwave`,
		}},
		{"socket", "control: {socket: /" + strings.Repeat("x", 100) + ", mode: rw}", []string{
			`1: control.mode: parse file mode "rw": write octal permissions such as "0660"`,
			"1: control.socket: 101 bytes long; the kernel's limit for sockets leaves 96 (sun_path, unix(7)); write a shorter path such as /run/serialspan/agent.sock",
		}},
		{"nodes and allow", "cluster:\n  nodes: {server: abc, 'a b': " + someNode + "}\ndevices:\n  rules:\n    - match: {path: /dev/a}\n      allow: [server, servre, attic, " + someNode + "]\n", []string{
			`2: cluster.nodes.a b: "a b" is no name; write 1 to 63 letters, digits, '.', '_' or '-'`,
			`2: cluster.nodes.server: "abc" is no NodeID; write the 26 characters that "serialspan status" shows as id on that node`,
			`6: devices.rules[0].allow[1]: "servre" is neither a NodeID nor a name of cluster.nodes; did you mean "server"?`,
			`6: devices.rules[0].allow[2]: "attic" is neither a NodeID nor a name of cluster.nodes; "serialspan nodes --json" shows NodeIDs`,
		}},
		{"link dirs", "control: {link_dirs: [dev]}", []string{`1: control.link_dirs[0]: "dev" must be an absolute path`}},
		{"label characters", "node: {labels: {'a b': c}}", []string{"1: node.labels.a b: write the key with lower-case letters, digits and . _ / - only, at most 63"}},
		{"label", "node: {labels: {Zone: a}}", []string{"1: node.labels.Zone: write the key in lower case"}},
		{"not YAML", "node: {\n", []string{"1: not valid YAML: did not find expected node content"}},
		{"two documents", "node: {}\n---\nnode: {}\n", []string{"2: a second document begins here; keep one"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := load(t, test.text)
			if have := problems(err); !reflect.DeepEqual(have, test.want) {
				t.Errorf("have\n  %s\nwant\n  %s", strings.Join(have, "\n  "), strings.Join(test.want, "\n  "))
			}
			if problem, ok := errors.AsType[*configs.Problem](err); !ok || problem.Line == 0 {
				t.Errorf("no *Problem with a line in %v", err)
			}
		})
	}
}

func TestEnvironment(t *testing.T) {
	for variable, value := range map[string]string{
		"SERIALSPAN_NODE_NAME":         "fromenv",
		"SERIALSPAN_NODE_LABELS":       "{zone: attic}",
		"SERIALSPAN_CLUSTER_JOIN":      "a, 10.0.0.7:1234,2001:db8::1",
		"SERIALSPAN_MESH_ADVERTISE":    "[192.0.2.1:1]",
		"SERIALSPAN_ATTACHMENTS":       `[{device: garage-zwave, tcp: "127.0.0.1:6639"}]`,
		"SERIALSPAN_DEVICES_RULES":     "[{match: {path: /dev/a}, hold: 3s}]",
		"SERIALSPAN_CONTROL_SOCKET":    "sock",
		"SERIALSPAN_SERVICE_HOST":      "10.96.0.1", // as Kubernetes makes up
		"SERIALSPAN_LOG_LEVEL":         "debug",
		"SERIALSPAN_CONTROL_LINK_DIRS": "/a,/b",
	} {
		t.Setenv(variable, value)
	}
	config, err := load(t, "node: {name: fromfile, labels: {zone: cellar, rack: one}, state_dir: state}")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(config.File)
	want := configs.Default()
	want.Node = configs.Node{Name: "fromenv", Labels: map[string]string{"zone": "attic", "rack": "one"}, StateDir: filepath.Join(dir, "state")}
	want.Cluster.SecretFile = filepath.Join(dir, "cluster.secret")
	want.Cluster.Join = []string{"a:51821", "10.0.0.7:1234", "[2001:db8::1]:51821"}
	want.Mesh.Advertise = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:1")}
	want.Attachments = []configs.Attachment{{Device: "garage-zwave", TCP: "127.0.0.1:6639"}}
	want.Devices.Rules = []configs.Rule{{Match: configs.Match{Path: "/dev/a"}, Hold: 3 * time.Second}}
	want.Control = configs.Control{Socket: filepath.Join(dir, "sock"), Mode: 0o660, LinkDirs: []string{"/a", "/b"}}
	want.Log.Level = "debug"
	if !reflect.DeepEqual(plain(config), want) {
		t.Errorf("\n have %+v\n want %+v", config, want)
	}
}

func TestEnvironmentRefused(t *testing.T) {
	t.Setenv("SERIALSPAN_MESH_LISTEN", ":51820")
	t.Setenv("SERIALSPAN_ATTACHMENTS", "[{devise: a}]")
	t.Setenv("SERIALSPAN_DEVICES_RULES", "[{")
	t.Setenv("SERIALSPAN_LOG_LEVEL", "loud")
	_, err := load(t, "node: {nam: a}")
	want := []string{
		`1: node.nam: unknown key; did you mean "name"?`,
		`environment SERIALSPAN_ATTACHMENTS:1: attachments[0].devise: unknown key; did you mean "device"?`,
		`environment SERIALSPAN_ATTACHMENTS:1: attachments[0].device: "" is no device; write NAME, NAME@NODE or LABEL=VALUE,...`,
		`environment SERIALSPAN_ATTACHMENTS:1: attachments[0]: write one of pty: {link: PATH}, tcp: ADDRESS and rfc2217: ADDRESS`,
		`environment SERIALSPAN_DEVICES_RULES: devices.rules: not valid YAML; write it in one line: [ … ] or { … }`,
		`environment SERIALSPAN_LOG_LEVEL: log.level: "loud" is not supported; write debug or info or warn or error`,
		`environment SERIALSPAN_MESH_LISTEN: mesh.listen: port 51820 is KubeSpan's; write another, ":51821" is the default`,
	}
	if have := problems(err); !reflect.DeepEqual(have, want) {
		t.Errorf("have\n  %s\nwant\n  %s", strings.Join(have, "\n  "), strings.Join(want, "\n  "))
	}
}

// TestEveryKeyByEnvironment sets each leaf of the schema alone and wants it to
// differ from the default, so that a new key cannot be forgotten.
func TestEveryKeyByEnvironment(t *testing.T) {
	node := identity.FromSeed([32]byte{1}).ID().String()
	values := map[string]string{
		"node.name": "other", "node.labels": "{a: b}", "node.state_dir": "/s", "cluster.secret_file": "/k", "cluster.join": "a",
		"cluster.admins":    "aaaaaaaaaaaaaaaaaaaaaaaaaa",
		"cluster.admission": "", "cluster.allow": "", // go together: TestAdmission
		"mesh.relay": "off", "mesh.kubespan": "off", "mesh.lan": "false", "devices.profiles_dir": "/p", "mesh.listen": ":1", "mesh.advertise": "192.0.2.1:1", "devices.publish": "all",
		"devices.rules": "[{match: {path: /a}}]", "attachments": "[{device: a, tcp: '127.0.0.1:1'}]",
		"control.socket": "/c", "control.link_dirs": "/l", "control.mode": "0600", "control.group": "dialout", "cluster.nodes": "{a: " + node + "}", "log.level": "warn", "log.format": "json",
	}
	var walk func(t *testing.T, v reflect.Type, prefix string)
	walk = func(t *testing.T, v reflect.Type, prefix string) {
		for i := range v.NumField() {
			key := v.Field(i).Tag.Get("mapstructure")
			if key == "" {
				t.Errorf("field %s has no key", v.Field(i).Name)
			}
			if key == "-" {
				continue
			}
			if v.Field(i).Type.Kind() == reflect.Struct {
				walk(t, v.Field(i).Type, prefix+key+".")
				continue
			}
			key = prefix + key
			value, ok := values[key]
			if !ok {
				t.Errorf("%s: no test value", key)
			}
			if value == "" {
				continue
			}
			t.Run(key, func(t *testing.T) {
				before, err := load(t, "")
				if err != nil {
					t.Fatal(err)
				}
				t.Setenv("SERIALSPAN_"+strings.ToUpper(strings.ReplaceAll(key, ".", "_")), value)
				after, err := load(t, "")
				if err != nil {
					t.Fatal(err)
				}
				before, after = plain(before), plain(after)
				if key != "cluster.secret_file" {
					before.Cluster.SecretFile, after.Cluster.SecretFile = "", ""
				}
				if reflect.DeepEqual(before, after) {
					t.Errorf("%s has no effect", key)
				}
			})
		}
	}
	walk(t, reflect.TypeFor[configs.Config](), "")
}

func TestFind(t *testing.T) {
	home := t.TempDir()
	t.Chdir(t.TempDir())
	t.Setenv("XDG_CONFIG_HOME", home)
	t.Setenv("SERIALSPAN_CONFIG", "")
	if os.Geteuid() != 0 {
		if want := filepath.Join(home, "serialspan"); configs.DefaultDir() != want {
			t.Errorf("default dir %q, want %q", configs.DefaultDir(), want)
		}
	}
	if _, err := os.Stat("/etc/serialspan/serialspan.yaml"); err != nil {
		if _, err := configs.Load(""); !errors.Is(err, configs.ErrNoConfig) {
			t.Errorf("without a file: %v", err)
		}
		t.Setenv("SERIALSPAN_CLUSTER_SECRET_FILE", "/k")
		if config, err := configs.Load(""); err != nil || config.Cluster.SecretFile != "/k" {
			t.Errorf("by environment alone: %+v, %v", config, err)
		}
	}
	if err := os.WriteFile("serialspan.yaml", []byte("control: {socket: s, unknown: 1}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if file, err := configs.Find(""); err != nil || file != "serialspan.yaml" {
		t.Errorf("in the current directory: %q, %v", file, err)
	}
	if have := configs.SocketIn(""); have != "s" {
		t.Errorf("socket %q in a file with a mistake", have)
	}
	t.Setenv("SERIALSPAN_CONTROL_SOCKET", "t")
	if have := configs.SocketIn("/x/y.yaml"); have != "/x/t" {
		t.Errorf("socket %q from the environment, beside a file", have)
	}
	t.Setenv("SERIALSPAN_CONFIG", "/nowhere/x.yaml")
	if _, err := configs.Load(""); !errors.Is(err, configs.ErrNoConfig) || !strings.Contains(err.Error(), "/nowhere/x.yaml") {
		t.Errorf("named by the environment: %v", err)
	}
	if file, err := configs.Find("flag.yaml"); err != nil || file != "flag.yaml" {
		t.Errorf("named by flag: %q, %v", file, err)
	}
}

func TestFindRefusesFileOfOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to make a file of another user")
	}
	t.Chdir(t.TempDir())
	t.Setenv("SERIALSPAN_CONFIG", "")
	if err := errors.Join(os.WriteFile("serialspan.yaml", nil, 0o644), os.Chown("serialspan.yaml", 12345, 12345)); err != nil {
		t.Fatal(err)
	}
	if _, err := configs.Find(""); err == nil {
		t.Error("took the file of another user")
	}
}

func TestValidate(t *testing.T) {
	config := configs.Default()
	if err := config.Validate(); err != nil {
		t.Errorf("default: %v", err)
	}
	config.Mesh.Listen = ":51820"
	config.Node.Name = ""
	if have := problems(config.Validate()); len(have) != 2 || !strings.HasPrefix(have[0], "node.name: ") {
		t.Errorf("have %q", have)
	}
}

func TestStarterLoads(t *testing.T) {
	for _, starter := range []configs.Starter{
		{Name: "garage"},
		{Name: "server", StateDir: "state", Join: []string{"garage.lan:51821", "[2001:db8::1]:51821"}},
	} {
		config, err := load(t, string(starter.File()))
		if err != nil {
			t.Fatalf("%+v: %v", starter, err)
		}
		if config.Node.Name != starter.Name || !reflect.DeepEqual(config.Cluster.Join, starter.Join) {
			t.Errorf("%+v gives %+v", starter, config)
		}
	}
}

func TestJoinAddress(t *testing.T) {
	for in, want := range map[string]string{
		"a": "a:51821", "a:1": "a:1", "10.0.0.1": "10.0.0.1:51821", "2001:db8::1": "[2001:db8::1]:51821", "[2001:db8::1]": "[2001:db8::1]:51821",
		"[2001:db8::1]:7": "[2001:db8::1]:7", "": "", ":1": "", "a:": "", "a:0": "", "a:65536": "", "a:b:c": "", "http://a": "", "a b": "", "u@a": "", "a:51820": "",
	} {
		if have, err := configs.JoinAddress(in); have != want || (err == nil) != (want != "") {
			t.Errorf("%q: have %q, %v, want %q", in, have, err, want)
		}
	}
}

func FuzzLoad(f *testing.F) {
	files, _ := filepath.Glob("examples/*.yaml")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("node: &a {name: *a}"))
	f.Add([]byte("mesh: !!binary aGk=\n? [a]\n: b"))
	file := filepath.Join(f.TempDir(), "serialspan.yaml") // each worker has its own
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		config, err := configs.Load(file)
		if err == nil {
			if err := config.Validate(); err != nil {
				t.Errorf("loaded, but not valid: %v", err)
			}
		}
	})
}
