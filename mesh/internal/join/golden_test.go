package join_test

import (
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestGolden pins the three datagrams: a change of one byte breaks the join
// with every agent in the field.
func TestGolden(t *testing.T) {
	joiner, member := newPeer(t, secret, 1, 2), newPeer(t, secret, 2, 1)
	member.held[joiner.id.ID()] = joiner.sign(t, secret.Cluster, wireGuard(t, 1, 1), 1, 7)
	first := joiner.begin(t, 0, memberAddr)
	second := member.answer(t, 0, joinerAddr, first)
	third := joiner.answer(t, 0, memberAddr, second)
	var text strings.Builder
	for _, datagram := range [][]byte{first, second, third} {
		text.WriteString(hex.EncodeToString(datagram) + "\n")
	}
	path := filepath.Join("testdata", "datagrams.hex")
	if *update {
		if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text.String() != string(want) {
		t.Errorf("datagrams\n%s, golden\n%s", text.String(), want)
	}
}
