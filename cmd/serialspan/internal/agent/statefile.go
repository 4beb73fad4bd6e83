package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// readState reads a JSON file of the state directory into out; a file that is
// not there leaves out as it is.
func readState(dir, name string, out any) error {
	path := filepath.Join(dir, name)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read state: %w", err)
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("read state %q: %w", path, err)
	}
	return nil
}

// writeState replaces a JSON file of the state directory whole, or leaves it as
// it was: a node that loses power keeps the old or the new one.
func writeState(dir, name string, value any) error {
	path := filepath.Join(dir, name)
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("write state %q: %w", path, err)
	}
	tmp, err := os.CreateTemp(dir, "."+name+".*")
	if err != nil {
		return fmt.Errorf("write state %q: %w", path, err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(append(data, '\n'))
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write state %q: %w", path, err)
	}
	return nil
}
