package kubespan

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// TalosHints is what tells that this host runs Talos Linux, also from within a
// container, where /etc/os-release is the container's own.
type TalosHints struct {
	Kernel   string // uname -r
	Talos    bool   // the kernel or its command line is Talos's
	Platform string // talos.platform of the command line: "metal", "aws", …; empty: not said
}

// ReadTalosHints asks the kernel. It needs no privilege and never fails: what
// cannot be read is no hint.
func ReadTalosHints() TalosHints {
	var release string
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		release = unix.ByteSliceToString(name.Release[:])
	}
	cmdline, _ := os.ReadFile("/proc/cmdline") // no hint
	return hintsFrom(release, string(cmdline))
}

// hintsFrom: Talos builds its kernel with CONFIG_LOCALVERSION="-talos".
func hintsFrom(release, cmdline string) TalosHints {
	h := TalosHints{Kernel: release, Talos: strings.HasSuffix(release, "-talos")}
	for _, word := range strings.Fields(cmdline) {
		if platform, ok := strings.CutPrefix(word, "talos.platform="); ok {
			h.Platform, h.Talos = platform, true
		}
	}
	return h
}
