package control

import (
	"errors"
	"os"
	"testing"

	"github.com/serialspan/serialspan/bridge/client"
)

// Who may use the socket may use devices, but only root and the agent's user
// change who belongs to the cluster.
func TestMayGovern(t *testing.T) {
	for uid, allowed := range map[int]bool{0: true, os.Geteuid(): true, os.Geteuid() + 4711: false, -1: false} {
		if err := (caller{uid: uid}).mayGovern(); (err == nil) != allowed || err != nil && !errors.Is(err, client.Refused) {
			t.Errorf("user %d: %v", uid, err)
		}
	}
}
