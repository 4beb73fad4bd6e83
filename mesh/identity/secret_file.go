package identity

import "fmt"

// ReadSecretFile reads a cluster secret from a file that only its owner can
// read; the error wraps ErrExposed where others can.
func ReadSecretFile(path string) (Secret, error) {
	data, err := readPrivate(path)
	if err != nil {
		return Secret{}, fmt.Errorf("read cluster secret %q: %w", path, err)
	}
	s, err := ParseSecret(string(data))
	if err != nil {
		return Secret{}, fmt.Errorf("read cluster secret %q: %w", path, err)
	}
	return s, nil
}

// WriteSecretFile writes a cluster secret to a new file of mode 0600. It never
// replaces a file: the error then wraps fs.ErrExist.
func WriteSecretFile(path string, s Secret) error {
	if err := writePrivate(path, []byte(s.Text()+"\n")); err != nil {
		return fmt.Errorf("write cluster secret %q: %w", path, err)
	}
	return nil
}
