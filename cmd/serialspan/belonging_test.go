package main

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/control/controltest"
)

// rotating is an agent whose rotation gets further each time that it is asked.
type rotating struct {
	controltest.Agent
	end string // its last phase

	mu    sync.Mutex
	asked int
}

func (r *rotating) Status() client.Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	rotation := client.Rotation{Number: 2, Phase: "hand-out", Has: []string{}, Missing: []client.Missing{{Node: "shed", ID: controltest.ID(3), Why: "away"}}}
	key := client.Key{Number: 1, Next: 2, Rotation: &rotation}
	if r.asked > 1 {
		rotation.Has = []string{"garage"}
	}
	if r.asked > 2 {
		rotation.Phase, key.Number, key.Next = r.end, 2, 0
	}
	s := r.Agent.Status()
	s.Key = &key
	return s
}

func (r *rotating) RotateSecret(_ context.Context, request client.RotateRequest) (uint32, error) {
	if request.DropOld {
		return 0, client.Errorf(client.Refused, "do it elsewhere", "rotate: not here")
	}
	return 2, nil
}

func TestSecretRotateTells(t *testing.T) {
	for _, row := range []struct {
		name, end string
		args      []string
		code      int
		out, err  string
	}{
		{"done", "done", nil, 0, "key 2 is handed out\ngarage has it\nshed does not have it: away\nkey 2 is in use on 2 members, keys from 0 on let former members in\n", ""},
		{"overtaken", "overtaken", nil, 0, "another member rotated at the same time, its key counts: key 2 is in use\n", ""},
		{"for programs", "done", []string{"--json"}, 0, `"phase": "done"`, ""},
		{"refused", "done", []string{"--drop-old"}, 4, "", "not here"},
	} {
		t.Run(row.name, func(t *testing.T) {
			socket := serve(t, &rotating{end: row.end})
			r := command(t, "", append([]string{"secret", "rotate", "--socket", socket}, row.args...)...)
			if r.code != row.code || !strings.Contains(r.out, row.out) || !strings.Contains(r.err, row.err) {
				t.Errorf("exit code %d\n%s\n%s\nwant %d, %q, %q", r.code, r.out, r.err, row.code, row.out, row.err)
			}
		})
	}
}

func TestNodesRemoveTells(t *testing.T) {
	socket := serve(t, &controltest.Agent{})
	r := command(t, "", "nodes", "remove", "garage", "--socket", socket)
	if r.code != 0 || !strings.Contains(r.out, "removed garage ("+controltest.ID(2).String()+")") || !strings.Contains(r.err, "rotate the secret") {
		t.Errorf("%+v", r)
	}
	if r = command(t, "", "nodes", "remove", "garage", "--json", "--socket", socket); r.code != 0 || !strings.Contains(r.out, `"everywhere": false`) {
		t.Errorf("%+v", r)
	}
	if r = command(t, "", "nodes", "remove", "nobody", "--socket", socket); r.code != 3 {
		t.Errorf("%+v", r)
	}
	if r = command(t, "", "nodes", "remove", "--socket", socket); r.code != 2 {
		t.Errorf("%+v", r)
	}
}

func TestKeyText(t *testing.T) {
	for want, key := range map[string]client.Key{
		"1 in use":                     {Number: 1},
		"5 in use, accepted from 3 on": {Number: 5, Oldest: 3},
		"5 in use, 6 is handed out, behind: garage, not yet given to: shed": {
			Number: 5, Oldest: 5, Next: 6, Behind: []string{"garage"},
			Rotation: &client.Rotation{Missing: []client.Missing{{Node: "shed"}}},
		},
	} {
		if have := keyText(key); have != want {
			t.Errorf("have %q, want %q", have, want)
		}
	}
	p := patient{status: client.Status{Key: &client.Key{Number: 5, Behind: []string{"garage"}, Rotation: &client.Rotation{Number: 5, Missing: []client.Missing{{Node: "shed", Why: "away"}}}}}}
	if all := checkKey(p); len(all) != 2 || !all[0].Hint || !strings.Contains(all[1].Evidence, "key 5 was not given to it: away") {
		t.Errorf("doctor: %+v", all)
	}
}
