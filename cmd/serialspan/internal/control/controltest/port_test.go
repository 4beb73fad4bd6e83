package controltest_test

import (
	"io"
	"testing"

	"go.uber.org/goleak"

	"github.com/serialspan/serialspan/bridge/portwire"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/control"
	"github.com/serialspan/serialspan/cmd/serialspan/internal/control/controltest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestPort: the double does what control.Port says.
func TestPort(t *testing.T) {
	agent := &controltest.Agent{}
	port, err := agent.OpenPort(t.Context(), "stick", control.PortOptions{})
	if err != nil {
		t.Fatal(err)
	}
	agent.Ports()[0].Gap(7)
	if piece, err := port.Next(make([]byte, 10)); err != nil || piece.N != 0 || piece.Gap.Lost != 7 {
		t.Errorf("%+v, %v", piece, err)
	}
	go port.Write([]byte("x"))
	if piece, err := port.Next(make([]byte, 10)); err != nil || piece.N != 1 || piece.End != 1 {
		t.Errorf("%+v, %v", piece, err)
	}
	if err := port.Do(t.Context(), portwire.Frame{Op: portwire.OpLine, Line: "9600n81"}); err != nil || port.State().Line != "9600n81" {
		t.Errorf("%+v, %v", port.State(), err)
	}
	port.Close()
	if _, err := port.Next(make([]byte, 10)); err == nil || err == io.EOF {
		t.Errorf("after Close: %v", err)
	}
}
