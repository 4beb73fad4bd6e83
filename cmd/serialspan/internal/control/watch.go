package control

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/serialspan/serialspan/bridge/client"
)

const (
	// watchPause is between two answers of a watch, so that a burst of changes
	// is told at once.
	watchPause = 100 * time.Millisecond
	// watchPoll is how often is looked for what is not signalled: numbers of
	// bytes, states of attachments.
	watchPoll = time.Second
)

// watch writes what get returns, one JSON object per line, whenever it changed,
// until the client goes or the server stops.
func (s *server) watch(w http.ResponseWriter, r *http.Request, get func() any) {
	changes, stop := s.config.Agent.Watch()
	defer stop()
	poll := time.NewTicker(watchPoll)
	defer poll.Stop()
	flush := http.NewResponseController(w).Flush
	w.Header().Set("Content-Type", "application/x-ndjson")
	var told []byte
	for {
		value := get()
		now, err := json.Marshal(ageless(value))
		if err != nil {
			return // the types of the API can be encoded
		}
		if !bytes.Equal(now, told) {
			line, err := json.Marshal(value)
			if err != nil {
				return
			}
			if _, err := w.Write(append(line, '\n')); err != nil || flush() != nil {
				return
			}
			told = now
		}
		select {
		case <-r.Context().Done():
			return
		case <-time.After(watchPause):
		}
		select {
		case <-r.Context().Done():
			return
		case <-changes:
		case <-poll.C:
		}
	}
}

// ageless returns an answer without what changes by itself as time goes by.
func ageless(value any) any {
	switch v := value.(type) {
	case client.StatusAnswer:
		v.Uptime = 0
		return v
	case client.NodesAnswer:
		v.Nodes = slices.Clone(v.Nodes)
		for i := range v.Nodes {
			v.Nodes[i].Heard = nil
			if skew := v.Nodes[i].Skew; skew != nil { // what a measurement is off by is no change
				v.Nodes[i].Skew = new(client.Seconds(time.Duration(*skew).Round(time.Second)))
			}
		}
		return v
	case client.AttachmentsAnswer:
		v.Attachments = slices.Clone(v.Attachments)
		for i := range v.Attachments {
			v.Attachments[i].Since, v.Attachments[i].RTT = 0, 0
		}
		return v
	case client.SessionsAnswer:
		v.Sessions = slices.Clone(v.Sessions)
		for i := range v.Sessions {
			v.Sessions[i].Since, v.Sessions[i].RTT = 0, 0
		}
		return v
	}
	return value
}
