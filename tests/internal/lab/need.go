package lab

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// requireVariable set to 1 turns each skip into a failure, as in CI.
const requireVariable = "SERIALSPAN_TEST_REQUIRE"

// Skip skips the test for the reason given, which should say what would make
// it run. Where SERIALSPAN_TEST_REQUIRE is 1, it fails the test instead.
func Skip(tb testing.TB, reason string) {
	tb.Helper()
	if os.Getenv(requireVariable) == "1" {
		tb.Fatalf("would be skipped, which %s=1 forbids: %s", requireVariable, reason)
	}
	tb.Skip(reason)
}

// NeedRoot skips a test that makes network namespaces where it is not root or
// may not make any.
func NeedRoot(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() != 0 {
		Skip(tb, "needs root for network namespaces: run it with sudo")
	}
	NeedTools(tb, "ip")
	if out, err := exec.Command("unshare", "--net", "true").CombinedOutput(); err != nil {
		Skip(tb, "may not make network namespaces here: "+strings.TrimSpace(string(out)))
	}
}

// NeedTools skips the test if one of the programs is not installed.
func NeedTools(tb testing.TB, programs ...string) {
	tb.Helper()
	var missing []string
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			missing = append(missing, p)
		}
	}
	if len(missing) > 0 {
		Skip(tb, "needs "+strings.Join(missing, ", ")+": tests/install-tools installs it on Debian")
	}
}
