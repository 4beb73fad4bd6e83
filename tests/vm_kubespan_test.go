package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/serialspan/serialspan/tests/internal/vm"
)

// TestKubeSpanDevice reads a kernel WireGuard device as Talos makes it, in a
// guest: this machine's kernel need not have WireGuard.
func TestKubeSpanDevice(t *testing.T) {
	program := filepath.Join(t.TempDir(), "kubespan.test")
	build := exec.Command("go", "test", "-c", "-o", program, "../mesh/kubespan")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // the guest has no libraries
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the test of package kubespan: %v\n%s", err, out)
	}
	v := vm.Start(t, vm.Config{
		Files:    map[string]string{"/bin/kubespan.test": program},
		Modules:  []string{"wireguard", "veth", "tun"},
		Programs: []string{"ip"},
	})
	v.MustRun("/bin/ip", "link", "set", "lo", "up")
	out, err := v.Run("/bin/kubespan.test", "-test.v", "-test.run", "TestKernelWireGuard", "-test.timeout", "60s", "-kernel")
	if err != nil || !strings.Contains(out, "--- PASS: TestKernelWireGuard") {
		t.Errorf("in the guest: %v\n%s", err, out)
	}
}
