package configs_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/serialspan/serialspan/configs"
	"github.com/serialspan/serialspan/mesh/identity"
)

func TestSettingsAreStrongest(t *testing.T) {
	t.Setenv("SERIALSPAN_NODE_NAME", "fromenv")
	file := filepath.Join(t.TempDir(), "serialspan.yaml")
	if err := os.WriteFile(file, []byte("node: {name: fromfile}"), 0o644); err != nil {
		t.Fatal(err)
	}
	config, err := configs.Load(file, configs.Setting{Source: "flag --set", Key: "node.name", Value: "fromflag"},
		configs.Setting{Source: "flag --set", Key: "cluster.join", Value: "a,b"})
	if err != nil || config.Node.Name != "fromflag" || len(config.Cluster.Join) != 2 {
		t.Errorf("have %+v, %v", config, err)
	}
	_, err = configs.Load(file, configs.Setting{Source: "flag --set", Key: "node.nam", Value: "x"},
		configs.Setting{Source: "flag --set", Key: "log.level", Value: "loud"}, configs.Setting{Source: "flag --socket", Key: "control.socket", Value: strings.Repeat("x", 200)})
	want := []string{
		`flag --set: node.nam: unknown key; did you mean "node.name"?`,
		`flag --set: log.level: "loud" is not supported; write debug or info or warn or error`,
	}
	have := problems(err)
	if len(have) != 3 || !reflect.DeepEqual(have[:2], want) || !strings.HasPrefix(have[2], "flag --socket: control.socket: ") {
		t.Errorf("have\n  %s", strings.Join(have, "\n  "))
	}
}

func TestPlace(t *testing.T) {
	t.Setenv("SERIALSPAN_LOG_LEVEL", "warn")
	config, err := load(t, "# one\ndevices:\n  rules:\n    - match: {path: /dev/a}\n      name: b\n")
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"devices.rules[0].match.path": config.File + ":4: devices.rules[0].match.path",
		"devices.rules[0].hold":       config.File + ":4: devices.rules[0].hold",
		"devices.rules[0].name":       config.File + ":5: devices.rules[0].name",
		"log.level":                   "environment SERIALSPAN_LOG_LEVEL: log.level",
		"mesh.listen":                 "mesh.listen",
	} {
		if have := config.Place(key); have != want {
			t.Errorf("%s: have %q, want %q", key, have, want)
		}
	}
}

func TestDifferences(t *testing.T) {
	before, err := load(t, "node: {labels: {}}\nmesh: {listen: ':1'}")
	if err != nil {
		t.Fatal(err)
	}
	after, err := load(t, "attachments: [{device: a, tcp: '127.0.0.1:1'}]\nlog: {level: warn}\nnode: {labels: {a: b}}\nmesh: {listen: ':1'}")
	if err != nil {
		t.Fatal(err)
	}
	after.Cluster.SecretFile = before.Cluster.SecretFile
	if have := before.Differences(before); have != nil {
		t.Errorf("from itself: %v", have)
	}
	if have, want := before.Differences(after), []string{"node.labels", "attachments", "log.level"}; !reflect.DeepEqual(have, want) {
		t.Errorf("have %v, want %v", have, want)
	}
}

func TestMember(t *testing.T) {
	server := identity.FromSeed([32]byte{1}).ID()
	cluster := configs.Cluster{Nodes: map[string]string{"server": server.String()}}
	for _, word := range []string{"server", server.String()} {
		if have, err := cluster.Member(word); err != nil || have != server {
			t.Errorf("%s: %v, %v", word, have, err)
		}
	}
	if _, err := cluster.Member("attic"); err == nil {
		t.Error("a name that is not listed is a member")
	}
}

func TestAdmission(t *testing.T) {
	server := identity.FromSeed([32]byte{1}).ID()
	t.Setenv("SERIALSPAN_CLUSTER_ADMISSION", "allowlist")
	t.Setenv("SERIALSPAN_CLUSTER_ALLOW", "server")
	config, err := load(t, "cluster: {nodes: {server: "+server.String()+"}}")
	if err != nil {
		t.Fatal(err)
	}
	have, err := config.Cluster.Members(config.Cluster.Allow)
	if err != nil || len(have) != 1 || have[0] != server {
		t.Errorf("have %v, %v", have, err)
	}
	if _, err := config.Cluster.Members([]string{"server", "attic"}); err == nil {
		t.Error("a name that is not listed is a member")
	}
}

func TestAge(t *testing.T) {
	for text, want := range map[string]configs.Age{"off": configs.AgeOff, "1.5s": configs.Age(1500 * time.Millisecond)} {
		var have configs.Age
		if err := have.UnmarshalText([]byte(text)); err != nil || have != want || have.String() != text {
			t.Errorf("%s: %v, %v", text, have, err)
		}
	}
	for _, text := range []string{"", "0", "-1s", "25h", "on"} {
		if err := new(configs.Age).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is an age", text)
		}
	}
}

func TestLinkRule(t *testing.T) {
	own := t.TempDir()
	uid := os.Geteuid()
	for _, test := range []struct {
		name        string
		agent, user int
		link        string
		refused     bool
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
		{"unknown user", 0, -1, "/etc/x", true},
		{"own directory", 0, uid, filepath.Join(own, "x"), false},
		{"the kernel's", 0, 0, "/proc/self/x", true},
		{"the kernel's terminals", 1000, 1000, "/dev/pts/x", true},
	} {
		rule := configs.LinkRule{Agent: test.agent, Dirs: []string{"/run/serialspan/"}}
		if err := rule.Check(test.user, test.link); (err != nil) != test.refused {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// TestFileOfUser: what a user's file asks an agent of root for is what the
// user may ask for.
func TestFileOfUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to make a file of another user")
	}
	file := filepath.Join(t.TempDir(), "serialspan.yaml")
	text := "attachments:\n  - {device: a, pty: {link: /etc/zwave}}\n  - {device: b, pty: {link: /run/serialspan/zwave}}\n"
	if err := errors.Join(os.WriteFile(file, []byte(text), 0o644), os.Chown(file, 12345, 12345)); err != nil {
		t.Fatal(err)
	}
	_, err := configs.Load(file)
	have := problems(err)
	want := []string{`2: attachments[0].pty.link: "/etc/zwave" is in a directory that does not belong to user 12345; use a directory of yours, or one of control.link_dirs: /dev/serialspan, /run/serialspan`}
	if !reflect.DeepEqual(have, want) {
		t.Errorf("have %q", have)
	}
}
