package main

import (
	"reflect"
	"testing"
	"time"
)

func TestSignal(t *testing.T) {
	agent := newAgentWithDevices()
	socket := serve(t, agent)
	if r := command(t, "", "signal", "garage-zwave", "dtr=off", "rts=on", "break=250ms", "--socket", socket); r.code != 0 || r.out != "signalled garage-zwave: dtr=off rts=on break=250ms\n" {
		t.Errorf("have %+v", r)
	}
	if have, want := agent.Signals(), [][]string{{"garage-zwave", "dtr=off", "rts=on", "break=250ms"}}; !reflect.DeepEqual(have, want) {
		t.Errorf("asked for %q", have)
	}
	for _, test := range []struct {
		name string
		args []string
		code int
	}{
		{"no words", []string{"signal", "garage-zwave"}, 2},
		{"no such device", []string{"signal", "nothing", "dtr=on"}, 3},
		{"no such recipe", []string{"signal", "garage-zwave", "reset=none"}, 3},
	} {
		if r := command(t, "", append(test.args, "--socket", socket)...); r.code != test.code || r.err == "" {
			t.Errorf("%s: %+v", test.name, r)
		}
	}
}

func TestSignedSkew(t *testing.T) {
	for want, skew := range map[string]time.Duration{
		"0.0s": -49 * time.Millisecond, "+0.2s": 200 * time.Millisecond, "-9.9s": -9900 * time.Millisecond, "+100s": 100 * time.Second, "-60m": -time.Hour,
		"+3h": 3 * time.Hour, "-40d": -40 * 24 * time.Hour, "-10y": -10 * 365 * 24 * time.Hour, "+1y": 366 * 24 * time.Hour,
	} {
		if have := signedSkew(skew); have != want {
			t.Errorf("%v: have %s, want %s", skew, have, want)
		}
	}
}
