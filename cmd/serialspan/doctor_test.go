package main

import (
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/control/controltest"
)

// healthy is a node of two with a device and nothing wrong.
func healthy() patient {
	return patient{
		status: client.Status{Node: "server", ID: controltest.ID(1), Listen: "0.0.0.0:51821", Counters: map[string]uint64{"join_answered": 1}},
		nodes: []client.Node{
			{Name: "garage", ID: controltest.ID(2), State: client.NodeAlive, Path: "direct", Skew: new(client.Seconds(200 * time.Millisecond)), Heard: new(client.Seconds(0))},
			{Name: "server", ID: controltest.ID(1), State: client.NodeAlive, Path: "self", Self: true},
			{Name: "attic", ID: controltest.ID(3), State: client.NodeLeft},
		},
		paths: []client.PathSize{{
			Node: "garage", ID: controltest.ID(2), Path: "direct", Endpoint: "203.0.113.5:51821",
			Data: 1296, Full: 1408, There: 1408, Back: 1408, Headers: 28, MTU: 1492,
		}},
		devices: []client.Device{{Name: "garage-zwave", Node: "garage", NodeID: controltest.ID(2), State: client.DeviceAvailable}},
		machine: machine{sockets: []udpSocket{{port: 51821}, {port: 68, drops: 3}}},
	}
}

func TestDiagnose(t *testing.T) {
	for _, test := range []struct {
		name string
		sick func(*patient)
		want []string // see wantFindings
	}{
		{"nothing", func(*patient) {}, nil},
		{"configuration", func(p *patient) { p.configErr = errors.New("a.yaml:1: x: wrong\na.yaml:2: y: wrong") }, []string{
			"configuration | a.yaml:1: x: wrong | REFERENCE.md", "configuration | a.yaml:2: y: wrong | REFERENCE.md",
		}},
		{"no agent", func(p *patient) {
			p.agentErr = &client.NoAgentError{Socket: "/s"}
			p.listenErr, p.stateErr, p.secretErr = errors.New("taken"), errors.New("read-only"), errors.New("not there")
		}, []string{
			"agent | no agent at /s | serialspan agent", "UDP port | taken | ss -ulpn",
			"cluster secret | not there | serialspan join", "state directory | read-only | node.state_dir",
		}},
		{"the agent's problems", func(p *patient) {
			p.status.Problems = []string{
				"identity abc: another machine runs with it; remove the copied state directory there or here",
				"join messages from 192.0.2.7/32: 3 did not open; a node there may have another secret (compare `serialspan secret id`)",
				"/etc/s.yaml:4: devices.rules[0].match.path: \"/dev/x\" is not there; plug the device in",
				"/etc/s.yaml: mesh.listen: changed; restart the agent for it",
				"device name \"a\": b and c each have one; name one differently in devices.rules",
				"node name \"b\": both x and y have it; set node.name on one",
				"device a: fault told once, by the check of devices",
				"something else",
			}
		}, []string{
			"identity abc | another machine runs with it | remove the copied",
			"join messages from 192.0.2.7/32 | 3 did not open | another secret",
			"/etc/s.yaml:4: devices.rules[0].match.path | \"/dev/x\" is not there | plug",
			"/etc/s.yaml | mesh.listen: changed | restart",
			"device name \"a\" | b and c | name one",
			"node name \"b\" | both x and y | node.name",
			"agent | something else | ",
		}},
		{"a dead member", func(p *patient) {
			p.nodes[0].State, p.nodes[0].Path, p.nodes[0].Heard = client.NodeDead, "", new(client.Seconds(5*time.Minute))
		}, []string{"node garage | dead without a word, last heard 5m ago | whether it is on"}},
		{"a member not met", func(p *patient) { p.nodes[0].State, p.nodes[0].Path = client.NodeKnown, "" }, []string{"node garage | not met since | start its agent"}},
		{"no path", func(p *patient) { p.nodes[0].Path, p.nodes[0].Heard = "", nil }, []string{
			"node garage | no way to it from here, never heard | mesh.advertise", "UDP port 51821 | none of 1 other members | firewall",
		}},
		{"relayed", func(p *patient) { p.nodes[0].Path = "via cloud" }, []string{
			"UDP port 51821 | none of 1 other members | mesh.advertise", "?node garage | reached via cloud | mesh.advertise",
		}},
		{"one relayed, one straight", func(p *patient) {
			p.nodes = append(p.nodes, client.Node{Name: "shed", State: client.NodeAlive, Path: "via garage"})
		}, []string{"?node shed | reached via garage | straight way"}},
		{"another clock", func(p *patient) { p.nodes[0].Skew = new(client.Seconds(-10 * 365 * 24 * time.Hour)) }, []string{"?clock of garage | off by -10y | set the clock"}},
		{"own clock", func(p *patient) { p.machine.early = 30 * time.Hour }, []string{"clock of this machine | 1d06h before | battery"}},
		{"a device in fault", func(p *patient) {
			p.devices[0].State, p.devices[0].Detail = client.DeviceFault, "open /dev/ttyUSB0: permission denied"
		}, []string{"device garage-zwave | permission denied, on garage | who else"}},
		{"an own device away", func(p *patient) { p.devices[0].State, p.devices[0].NodeID = client.DeviceAway, p.status.ID }, []string{"?device garage-zwave | away | plug it in"}},
		{"a black hole", func(p *patient) { p.paths[0].There, p.paths[0].Back = 1252, 0 }, []string{
			"path to garage | direct 203.0.113.5:51821: datagrams of up to 1252 bytes get there, those of 1296, our largest, do not; an IP packet of more than 1280 bytes | here set the MTU of the interface or route that leads there to 1280",
		}},
		{"one on the way back", func(p *patient) { p.paths[0].Back = 1252 }, []string{
			"path from garage | up to 1252 bytes come back, those of 1296, our largest, do not | on garage set the MTU of the interface or route that leads there to 1280",
		}},
		{"one for what is passed on", func(p *patient) { p.paths[0].There, p.paths[0].Back = 1392, 0 }, []string{
			"?path to garage | up to 1392 bytes get there, those of 1408, the largest that are passed on for others, do not; an IP packet of more than 1420 bytes | MTU",
		}},
		{"one behind a relay", func(p *patient) {
			p.nodes[0].Path = "via cloud"
			p.paths = append(p.paths, client.PathSize{Node: "garage", Path: "via cloud", Data: 1296, Full: 1296, There: 1279})
			p.paths = p.paths[1:]
			p.nodes = append(p.nodes, client.Node{Name: "cloud", State: client.NodeAlive, Path: "direct"})
		}, []string{
			"path to garage | via cloud: datagrams of up to 1279 bytes get there, those of 1296 | on cloud and on garage",
			"?node garage | via cloud | mesh.advertise",
		}},
		{"one in the KubeSpan", func(p *patient) {
			p.paths[0].Path, p.paths[0].Data, p.paths[0].Full, p.paths[0].There, p.paths[0].Headers = "kubespan", 1202, 1314, 1000, 48
		}, []string{"path to garage | kubespan | kubespan mtu in Talos to the uplink's less 80, on both nodes; 1048"}},
		{"a path that nothing passes", func(p *patient) { p.paths[0].There, p.paths[0].Back = 0, 0 }, nil},
		{"fragments", func(p *patient) {
			p.paths[0].MTU = 1420
			for _, name := range []string{"b", "c", "d", "e", "f"} {
				s := p.paths[0]
				s.Node = name
				p.paths = append(p.paths, s)
			}
		}, []string{"?packet size | to garage, b, c, d, e and 1 more packets of up to 1436 bytes leave in two fragments: the MTU on the way is 1420 | nothing"}},
		{"drops", func(p *patient) {
			p.machine.sockets[0].drops = 12
			p.status.Counters = map[string]uint64{"datagrams_dropped": 1, "control_dropped": 2, "send_errors": 3}
		}, []string{
			"UDP port 51821 | dropped 12 datagrams | rmem_max", "?counter datagrams_dropped | 1 datagrams | load",
			"?counter control_dropped | 2 datagrams | load", "?counter send_errors | 3 datagrams | firewall",
		}},
		{"gaps", func(p *patient) {
			p.sessions = []client.Session{{Device: "garage-zwave", Peer: "garage", Gaps: 2, Lost: 1500}}
		}, []string{"?session of garage-zwave | 2 gaps, at most 1.5 kB lost, with garage | log"}},
		{"KubeSpan", func(p *patient) { p.machine.kubeSpan = true }, []string{"?KubeSpan | makes no use of it | 51821"}},
		{"its port", func(p *patient) { p.machine.sockets = append(p.machine.sockets, udpSocket{port: 51820}) }, []string{"?UDP port 51820 | WireGuard | never uses"}},
		{"its port, by whom", func(p *patient) {
			p.machine.sockets = append(p.machine.sockets, udpSocket{port: 51820, holder: "taken by process 7, wg"})
		}, []string{"?UDP port 51820 | taken by process 7, wg | never uses"}},
		{"a firewall of Talos", func(p *patient) {
			p.status.KubeSpan = &client.KubeSpan{Present: true, Rights: "NET_ADMIN", Bypass: "mark", Rule: true, Forced: true}
			p.nodes[0].Path = ""
		}, []string{"node garage | no way to it | mesh.advertise", "UDP port 51821 | none of 1 other | NetworkRuleConfig"}},
		{"one router", func(p *patient) { p.paths = seenAt("a", "198.51.100.7:4711") }, []string{"?router of this machine | a sees it at 198.51.100.7:4711; its kind takes two members | nothing"}},
		{"a cone", func(p *patient) { p.paths = seenAt("a", "198.51.100.7:4711", "b", "198.51.100.7:4711") }, []string{
			"?router of this machine | one for all (endpoint-independent): a sees it at 198.51.100.7:4711, b sees | nothing",
		}},
		{"a symmetric one", func(p *patient) { p.paths = seenAt("a", "198.51.100.7:4711", "b", "198.51.100.7:4712") }, []string{
			"?router of this machine | another for each member (symmetric): a sees it at 198.51.100.7:4711, b sees it at 198.51.100.7:4712 | UDP port 51821",
		}},
		{"no hardware clock", func(p *patient) { p.machine.clock = hardwareClock{known: true} }, []string{"?hardware clock | has none | DHCP option 42"}},
		{"none in a virtual machine", func(p *patient) { p.machine.clock = hardwareClock{known: true, virtual: true} }, nil},
		{"an unreadable one", func(p *patient) { p.machine.clock = hardwareClock{known: true, present: true} }, []string{"?hardware clock | cannot be read | battery"}},
		{"an early one", func(p *patient) {
			p.machine.clock = hardwareClock{known: true, present: true, shows: time.Date(2016, 1, 1, 0, 0, 0, 0, time.UTC), early: time.Hour}
		}, []string{"?hardware clock | it shows 2016-01-01 | battery"}},
		{"a container", func(p *patient) { p.machine.userNamespace, p.machine.noNodes = true, []string{"ttyUSB0", "ttyACM1"} }, []string{
			"device nodes | the kernel has ttyUSB0, ttyACM1, and /dev here has not | privileged", "?user namespace | hot-plug | hostUsers",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := healthy()
			test.sick(&p)
			wantFindings(t, diagnose(p), test.want)
		})
	}
}

// seenAt are paths to members that see this node at addresses of a router:
// name, address, name, address.
func seenAt(pairs ...string) (all []client.PathSize) {
	for i := 0; i < len(pairs); i += 2 {
		all = append(all, client.PathSize{
			Node: pairs[i], Path: "direct", Data: 1296, Full: 1296, There: 1296, Back: 1296, Headers: 28,
			Seen: netip.MustParseAddrPort(pairs[i+1]), Translated: true,
		})
	}
	return all
}

// wantFindings compares findings with "what | part of the evidence | part of
// what to do"; hints begin with ?.
func wantFindings(t *testing.T, have []finding, want []string) {
	t.Helper()
	if len(have) != len(want) {
		t.Fatalf("have %+v, want %q", have, want)
	}
	for i, text := range want {
		text, hint := strings.CutPrefix(text, "?")
		part := strings.Split(text, " | ")
		if have[i].What != part[0] || !strings.Contains(have[i].Evidence, part[1]) || !strings.Contains(have[i].Do, part[2]) || have[i].Hint != hint {
			t.Errorf("have %+v, want %q", have[i], want[i])
		}
	}
}

func TestReadSockets(t *testing.T) {
	have := readSockets(strings.NewReader("   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n" +
		" 1234: 00000000:CA6D 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 25353 2 0000000000000000 17\n" +
		" 1235: 00000000000000000000000000000000:0044 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1 2 0 0\n\nnonsense\n"))
	if want := []udpSocket{{port: 51821, drops: 17, inode: 25353}, {port: 68, inode: 1}}; !reflect.DeepEqual(have, want) {
		t.Errorf("have %v, want %v", have, want)
	}
}

func TestTooEarly(t *testing.T) {
	now := time.Now()
	if have := tooEarly(now); have != 0 {
		t.Errorf("now: %v", have)
	}
	if have := tooEarly(now.AddDate(-10, 0, 0)); have < 9*365*24*time.Hour {
		t.Errorf("ten years ago: %v", have)
	}
}

func TestDoctor(t *testing.T) {
	file := filepath.Join(t.TempDir(), "serialspan.yaml")
	if err := os.WriteFile(file, []byte("node: {name: server, state_dir: state}\nmesh: {listen: '127.0.0.1:0'}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	agent := &controltest.Agent{}
	socket := serve(t, agent)
	args := []string{"doctor", "--config", file, "--socket", socket}
	if r := command(t, "", args...); r.code != 0 || strings.Contains(r.out, "to do") && !strings.Contains(r.out, "(hint)") {
		t.Errorf("healthy: %+v", r)
	}
	agent.AddDevice(client.Device{Name: "meter", Node: "shed", State: client.DeviceFault, Detail: "permission denied"})
	if r := command(t, "", args...); r.code != 1 || !strings.Contains(r.out, "device meter\n  evidence  permission denied, on shed\n  to do     ") {
		t.Errorf("with a fault: %+v", r)
	}
	r := command(t, "", append(args, "--json")...)
	var answer doctorAnswer
	if err := json.Unmarshal([]byte(r.out), &answer); err != nil || r.code != 1 || answer.API != client.Version || answer.Findings[0].What != "device meter" {
		t.Errorf("JSON: %v, %+v", err, r)
	}
	r = command(t, "", "doctor", "--config", file, "--socket", socket+"-none")
	if r.code != 1 || !strings.Contains(r.out, "agent\n  evidence  no agent at ") || !strings.Contains(r.out, "cluster secret\n") {
		t.Errorf("without an agent: %+v", r)
	}
}
