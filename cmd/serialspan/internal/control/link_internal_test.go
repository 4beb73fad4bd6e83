package control

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/configs"
)

// TestCheckPTY is in the package since a test cannot be two users. What links
// are for whom is tested with configs.LinkRule.
func TestCheckPTY(t *testing.T) {
	for _, test := range []struct {
		name  string
		agent int
		who   caller
		pty   client.PTYSpec
		want  error
	}{
		{"no group", 0, caller{uid: 1000}, client.PTYSpec{Link: "/run/serialspan/x"}, nil},
		{"foreign directory", 0, caller{uid: 1000}, client.PTYSpec{Link: "/etc/x"}, client.Refused},
		{"a group of the caller", 0, caller{uid: 1000, groups: []int{20, 1000}}, client.PTYSpec{Link: "/run/serialspan/x", Group: "20"}, nil},
		{"another group", 0, caller{uid: 1000, groups: []int{1000}}, client.PTYSpec{Link: "/run/serialspan/x", Group: "20"}, client.Refused},
		{"root's group", 0, caller{uid: 1000, groups: []int{1000}}, client.PTYSpec{Link: "/run/serialspan/x", Group: "root"}, client.Refused},
		{"no such group", 0, caller{uid: 1000}, client.PTYSpec{Link: "/run/serialspan/x", Group: "no-such-group"}, client.Invalid},
		{"root names any group", 0, caller{}, client.PTYSpec{Link: "/run/serialspan/x", Group: "20"}, nil},
		{"the kernel decides for a user's agent", 1000, caller{uid: 1000}, client.PTYSpec{Link: "/x", Group: "20"}, nil},
		{"unknown caller", 0, caller{uid: -1}, client.PTYSpec{Link: "/etc/x"}, client.Refused},
	} {
		rule := configs.LinkRule{Agent: test.agent, Dirs: []string{"/run/serialspan/"}}
		if err := checkPTY(rule, test.who, &test.pty); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
	if err := checkPTY(configs.LinkRule{}, caller{uid: 1000}, nil); err != nil {
		t.Errorf("no PTY: %v", err)
	}
}

// TestCaller: who connects is known with all groups.
func TestCaller(t *testing.T) {
	listener, err := listen(filepath.Join(t.TempDir(), "s"), 0, "")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.remove()
	client, server := connect(t, listener)
	defer client.Close()
	defer server.Close()
	who := callerOf(withCaller(t.Context(), server))
	groups, err := os.Getgroups()
	if err != nil || who.uid != os.Geteuid() || !who.in(os.Getegid()) {
		t.Fatalf("have %+v, %v", who, err)
	}
	for _, gid := range groups {
		if !slices.Contains(who.groups, gid) {
			t.Errorf("group %d is missing in %v", gid, who.groups)
		}
	}
}

func connect(t *testing.T, listener *socketListener) (client, server net.Conn) {
	t.Helper()
	client, err := net.Dial("unix", listener.path)
	if err != nil {
		t.Fatal(err)
	}
	server, err = listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return client, server
}
