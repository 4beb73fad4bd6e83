package client

import (
	"fmt"
	"os"
	"path/filepath"
)

// SocketVariable names the control socket in the environment.
const SocketVariable = "SERIALSPAN_CONTROL_SOCKET"

const (
	socketFile   = "agent.sock"
	systemSocket = "/run/serialspan/" + socketFile
)

// DefaultSocket returns where an agent of this user makes its control socket:
// /run/serialspan/agent.sock for root, else $XDG_RUNTIME_DIR/serialspan/agent.sock,
// else /tmp/serialspan-UID/agent.sock.
func DefaultSocket() string {
	uid := os.Geteuid()
	if uid == 0 {
		return systemSocket
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "serialspan", socketFile)
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("serialspan-%d", uid), socketFile)
}

// FindSocket returns the control socket to talk to: what
// $SERIALSPAN_CONTROL_SOCKET names, else DefaultSocket, or the socket of
// root's agent where only that one exists.
func FindSocket() string {
	if socket := os.Getenv(SocketVariable); socket != "" {
		return socket
	}
	own := DefaultSocket()
	if _, err := os.Lstat(own); err == nil {
		return own
	}
	if _, err := os.Lstat(systemSocket); err == nil {
		return systemSocket
	}
	return own
}
