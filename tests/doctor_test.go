package tests

import (
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/tests/internal/lab"
)

// diagnosis is a finding of doctor --json.
type diagnosis struct {
	What, Evidence, Do string
	Hint               bool
}

// doctorOn returns what it finds of these things, hints by themselves.
func doctorOn(t *testing.T, a *lab.Agent, about *regexp.Regexp) (wrong, hints []diagnosis) {
	t.Helper()
	out, err := a.Run("doctor", "--json")
	var answer struct{ Findings []diagnosis }
	if badJSON := json.Unmarshal([]byte(out), &answer); badJSON != nil {
		t.Fatalf("doctor on %s: %v, %v", a.Name, err, badJSON)
	}
	for _, f := range answer.Findings {
		switch {
		case !about.MatchString(f.What):
		case f.Hint:
			hints = append(hints, f)
		default:
			wrong = append(wrong, f)
		}
	}
	if len(wrong) > 0 && err == nil {
		t.Errorf("doctor on %s has no exit code for %+v", a.Name, wrong)
	}
	return wrong, hints
}

// wantOne fails the test unless there is one finding, of this, with these words
// in it.
func wantOne(t *testing.T, where string, have []diagnosis, what string, words ...string) {
	t.Helper()
	if len(have) != 1 || have[0].What != what || slices.ContainsFunc(words, func(w string) bool {
		return !strings.Contains(have[0].Evidence+have[0].Do, w)
	}) {
		t.Errorf("doctor on %s says %+v; want of %q one with %q", where, have, what, words)
	}
}

var (
	sizes  = regexp.MustCompile("^(path |packet size$)")
	router = regexp.MustCompile("^router of this machine$")
)

// TestDoctorPacketSize is a path on which large packets vanish while small ones
// pass, so that it is up and good for nothing: doctor says so at both ends, and
// what it advises helps. A router that says what is wrong needs no advice.
func TestDoctorPacketSize(t *testing.T) {
	const narrow = 1280
	network, secret := lab.NewNetwork(t, "cloud", "edge"), lab.NewSecret(t)
	host := network.Host("cloud")
	cloud := lab.StartAgent(t, host, "cloud", secret, nil)
	edge := lab.StartAgent(t, network.Host("edge"), "edge", secret, lab.Settings{"cluster": lab.Settings{"join": []string{host.Addr.String()}}})
	for _, a := range []*lab.Agent{cloud, edge} {
		lab.WaitFor(t, "a path from "+a.Name, 15*time.Second, func() error {
			nodes, err := a.Client().Nodes(t.Context())
			if err == nil && slices.ContainsFunc(nodes, func(n client.Node) bool { return !n.Self && n.State == client.NodeAlive && n.Path == "direct" }) {
				return nil
			}
			return errors.Join(err, errors.New("there is none"))
		})
	}
	if wrong, hints := doctorOn(t, cloud, sizes); len(wrong)+len(hints) > 0 {
		t.Errorf("with nothing wrong doctor says %+v and %+v", wrong, hints)
	}

	network.BlackHole(t, edge.Host(), narrow)
	began := time.Now()
	wrong, _ := doctorOn(t, cloud, sizes)
	t.Logf("after %v: %+v", time.Since(began).Round(time.Millisecond), wrong)
	endpoint := edge.Host().Addr.String() + ":51821"
	wantOne(t, "cloud", wrong, "path to edge", "direct "+endpoint, "up to 1252 bytes", "more than 1280 bytes is lost", "here set the MTU", "to 1280")
	wrong, _ = doctorOn(t, edge, sizes)
	wantOne(t, "edge", wrong, "path from cloud", "up to 1252 bytes", "on cloud set the MTU", "to 1280")

	route := "route replace default via 10.91.1.1"
	host.IP(route + " mtu 1280")
	wrong, hints := doctorOn(t, cloud, sizes)
	if len(wrong) > 0 {
		t.Errorf("with the MTU that was advised doctor says %+v", wrong)
	}
	wantOne(t, "cloud", hints, "packet size", "to edge", "1324 bytes leave in two fragments", "1280")
	if wrong, _ = doctorOn(t, edge, sizes); len(wrong) > 0 {
		t.Errorf("with the MTU that was advised at the other end doctor says %+v", wrong)
	}

	// A router that says which size fits.
	host.IP(route)
	network.SetMTU(t, "edge", 1270)
	if wrong, hints = doctorOn(t, cloud, sizes); len(wrong) > 0 {
		t.Errorf("behind a router that tells the MTU doctor says %+v", wrong)
	}
	wantOne(t, "cloud", hints, "packet size", "1324 bytes leave in two fragments", "1270")
}
