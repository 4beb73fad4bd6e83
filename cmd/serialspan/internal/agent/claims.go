package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// claimsFile keeps which number this node drew for each device name. It is
// written only when a number changes.
const claimsFile = "claims.json"

func readClaims(dir string) (map[string]uint32, error) {
	path := filepath.Join(dir, claimsFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read claims: %w", err)
	}
	var claims map[string]uint32
	if err := json.Unmarshal(data, &claims); err != nil {
		return nil, fmt.Errorf("read claims %q: %w", path, err)
	}
	return claims, nil
}

// writeClaims replaces the file whole, or leaves it as it was.
func writeClaims(dir string, claims map[string]uint32) error {
	data, err := json.MarshalIndent(claims, "", "  ")
	if err != nil {
		return fmt.Errorf("write claims: %w", err)
	}
	tmp, err := os.CreateTemp(dir, "."+claimsFile+".*")
	if err != nil {
		return fmt.Errorf("write claims: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(append(data, '\n'))
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), filepath.Join(dir, claimsFile))
	}
	if err != nil {
		return fmt.Errorf("write claims: %w", err)
	}
	return nil
}
