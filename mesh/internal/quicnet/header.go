package quicnet

import "fmt"

const (
	headerSize   = 32
	maxNameBytes = headerSize - 1
)

// appendHeader appends the 32-byte stream header of a protocol.
func appendHeader(b []byte, protocol string) ([]byte, error) {
	if err := checkProtocol(protocol); err != nil {
		return b, err
	}
	var h [headerSize]byte
	h[0] = byte(len(protocol))
	copy(h[1:], protocol)
	return append(b, h[:]...), nil
}

// parseHeader returns the protocol of a stream header. Bytes after the name
// are ignored: room for growth.
func parseHeader(h [headerSize]byte) (string, error) {
	if int(h[0]) > maxNameBytes {
		return "", fmt.Errorf("parse stream header: name of %d bytes", h[0])
	}
	name := string(h[1 : 1+h[0]])
	return name, checkProtocol(name)
}

// checkProtocol accepts 1 to 31 printable ASCII characters without space.
func checkProtocol(name string) error {
	if len(name) == 0 || len(name) > maxNameBytes {
		return fmt.Errorf("check protocol %q: want 1 to %d bytes", name, maxNameBytes)
	}
	for i := range len(name) {
		if name[i] <= ' ' || name[i] > '~' {
			return fmt.Errorf("check protocol %q: only printable ASCII", name)
		}
	}
	return nil
}
