package control

import (
	"net/http"
	"os"

	"github.com/serialspan/serialspan/bridge/client"
)

// mayGovern reports whether a caller may change who belongs to the cluster: the
// group of the socket may use devices, but this is for root and the agent's own
// user.
func (c caller) mayGovern() error {
	if c.uid == 0 || c.uid == os.Geteuid() {
		return nil
	}
	return client.Errorf(client.Refused, "run it as root, or as the agent's user", "user %d may not change who belongs to the cluster", c.uid)
}

func (s *server) rotate(w http.ResponseWriter, r *http.Request) {
	var request client.RotateRequest
	err := callerOf(r.Context()).mayGovern()
	if err == nil {
		if err = read(r, &request); err != nil {
			err = client.Errorf(client.Invalid, "", "read rotate request: %v", err)
		}
	}
	if err != nil {
		refuse(w, err)
		return
	}
	number, err := s.config.Agent.RotateSecret(r.Context(), request)
	if err != nil {
		refuse(w, err)
		return
	}
	answer(w, client.RotateAnswer{API: client.Version, Number: number})
}

func (s *server) remove(w http.ResponseWriter, r *http.Request) {
	node := r.URL.Query().Get("node")
	err := callerOf(r.Context()).mayGovern()
	if err == nil && node == "" {
		err = client.Errorf(client.Invalid, "write ?node=NAME", "remove node: none given")
	}
	var removal client.Removal
	if err == nil {
		removal, err = s.config.Agent.RemoveNode(r.Context(), node)
	}
	if err != nil {
		refuse(w, err)
		return
	}
	removal.Notes = filled(removal.Notes)
	answer(w, client.RemovalAnswer{API: client.Version, Removal: removal})
}
