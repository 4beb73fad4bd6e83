package agent

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/mesh"
)

// sizesAtOnce bounds the paths that are tried at the same time: with each, some
// datagrams of full size leave at once.
const sizesAtOnce = 8

// PathSizes implements control.Agent.
func (a *Agent) PathSizes(ctx context.Context) []client.PathSize {
	all := []client.PathSize{}
	var mu sync.Mutex // guards all
	var trying sync.WaitGroup
	room := make(chan struct{}, sizesAtOnce)
	for _, m := range a.mesh.Members() {
		if m.Self || m.State != mesh.Alive || m.Path == "" {
			continue
		}
		trying.Go(func() {
			select {
			case room <- struct{}{}:
				defer func() { <-room }()
			case <-ctx.Done():
				return
			}
			s, err := a.mesh.TryPathSize(ctx, m.ID)
			if err != nil {
				return // its path has just gone
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, client.PathSize{
				Node: m.Name, ID: m.ID, Path: s.Path, Endpoint: s.Endpoint,
				Data: s.Data, Full: s.Full, There: s.There, Back: s.Back, Headers: s.Headers, MTU: s.MTU, Seen: s.Seen, Translated: s.Translated,
			})
		})
	}
	trying.Wait()
	slices.SortFunc(all, func(x, y client.PathSize) int { return cmp.Or(strings.Compare(x.Node, y.Node), x.ID.Compare(y.ID)) })
	return all
}
