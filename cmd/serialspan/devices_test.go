package main

import (
	"strings"
	"testing"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/control/controltest"
)

// What the agent leaves alone is shown with the reason, a line for each.
func TestDevicesLeftAlone(t *testing.T) {
	agent := &controltest.Agent{Alone: []client.LeftAlone{
		{Path: "/dev/ttyS0", Reason: "console"},
		{Path: "/dev/ttyS1", Reason: "no hardware"}, {Path: "/dev/ttyS2", Reason: "no hardware"},
		{Path: "/dev/ttyS3", Reason: "no hardware"}, {Path: "/dev/ttyS4", Reason: "no hardware"},
	}}
	socket := serve(t, agent)
	r := command(t, "", "devices", "--socket", socket)
	for _, want := range []string{
		"left alone on this machine (console): /dev/ttyS0; ",
		"left alone on this machine (no hardware): /dev/ttyS1, /dev/ttyS2, /dev/ttyS3 and 1 more; ",
		"match.path",
	} {
		if r.code != 0 || !strings.Contains(r.out+r.err, want) {
			t.Errorf("want %q in\n%s%s", want, r.out, r.err)
		}
	}
	if r := command(t, "", "devices", "--json", "--socket", socket); !strings.Contains(r.out, `{"path":"/dev/ttyS0","reason":"console"}`) && !strings.Contains(r.out, `"reason": "console"`) {
		t.Errorf("--json: %s", r.out)
	}
}
