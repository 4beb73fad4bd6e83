package publish_test

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/synctest"

	"github.com/serialspan/serialspan/bridge/internal/bridgetest"
	"github.com/serialspan/serialspan/bridge/publish"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/registry"
)

func TestServeRefusesJunk(t *testing.T) {
	open, err := session.AppendOpen(nil, session.Open{
		Protocol: session.Protocol, Device: "garage-zwave", ID: session.ID{1}, Take: session.TakeNormal, Window: 1000,
	})
	if err != nil {
		t.Fatal(err)
	}
	hole := append([]byte{byte(session.TypeData), 0, 9}, 0, 0, 0, 0, 0, 0, 0, 77, 'x')
	tests := []struct {
		name  string
		bytes []byte
		want  session.Code
	}{
		{"no frame", []byte("GET / HTTP/1.1\r\n"), session.CodeProtocol},
		{"DATA first", hole, session.CodeProtocol},
		{"an unknown device", bytes.Replace(open, []byte("zwave"), []byte("zwavf"), 1), session.CodeNotFound},
		{"a hole in the data", append(bytes.Clone(open), hole...), session.CodeProtocol},
		{"a second OPEN", append(bytes.Clone(open), open...), session.CodeProtocol},
		{"nothing", nil, session.CodeProtocol},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := bridgetest.NewWorld(t, publish.Config{}, bridgetest.Zwave)
				defer w.Close()
				port := w.Port(bridgetest.Zwave.Path)
				a, b := bridgetest.NewStreams(65536)
				served := make(chan error, 1)
				w.Running.Go(func() { served <- w.Publisher.Serve(w.OwnerCtx, b, identity.NodeID{1}) })
				if _, err := a.Write(test.bytes); err != nil {
					t.Fatal(err)
				}
				if err := <-served; err == nil {
					t.Error("served without an error")
				}
				all, _ := io.ReadAll(a)
				var closed *session.CloseError
				for len(all) > 0 {
					f, n, err := session.Decode(all)
					if err != nil || n == 0 {
						t.Fatalf("%x, %v", all, err)
					}
					if all = all[n:]; f.Type == session.TypeClose {
						if closed, err = session.ParseClose(f.Payload); err != nil {
							t.Fatal(err)
						}
					}
				}
				if !errors.Is(closed, test.want) {
					t.Errorf("told %v, want %v", closed, test.want)
				}
				if n := port.ToDevice.Len(); n != 0 {
					t.Errorf("%d bytes reached the device", n)
				}
				if d := w.Device("garage-zwave"); d.State != registry.StateAvailable {
					t.Errorf("the device is %v", d.State)
				}
			})
		})
	}
}
