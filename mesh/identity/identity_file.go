package identity

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// identityFile is the name of the key file in the state directory.
const identityFile = "identity"

// Origin says where an identity came from.
type Origin int

const (
	// Kept: read from the state directory of this machine.
	Kept Origin = iota
	// Created: the state directory had none.
	Created
	// Replaced: the state directory was made on another machine, so the copy
	// got an identity of its own; the old key file is kept beside it.
	Replaced
)

// Load reads the identity kept in dir, an existing directory, or makes one.
//
// machineID is the machine's own identifier (machine-id(5)); its hash is kept
// with the key. A state directory that was copied to another machine would put
// two members under one NodeID, so there the old key file is set aside as
// "identity.from-another-machine" and a new key made. An empty machineID means
// that the machine has none; then copies are not noticed.
func Load(dir, machineID string) (*Identity, Origin, error) {
	machineID = strings.TrimSpace(machineID)
	path := filepath.Join(dir, identityFile)
	data, err := readPrivate(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return create(path, machineID, Created)
	case err != nil:
		return nil, 0, fmt.Errorf("read identity %q: %w", path, err)
	}
	id, machine, err := parseIdentityFile(string(data))
	if err != nil {
		return nil, 0, fmt.Errorf("read identity %q: %w; restore the file, or remove it to make this machine a new member", path, err)
	}
	if machineID == "" || machine == "" || machine == machineHash(machineID) {
		return id, Kept, nil
	}
	if err := os.Rename(path, path+".from-another-machine"); err != nil {
		return nil, 0, fmt.Errorf("set aside copied identity %q: %w", path, err)
	}
	return create(path, machineID, Replaced)
}

func create(path, machineID string, origin Origin) (*Identity, Origin, error) {
	id, err := Generate()
	if err != nil {
		return nil, 0, err
	}
	text := "# SerialSpan identity key. Whoever reads this file can speak as this node.\n" +
		"seed " + hex.EncodeToString(id.Private().Seed()) + "\n"
	if machineID != "" {
		text += "machine " + machineHash(machineID) + "\n"
	}
	if err := writePrivate(path, []byte(text)); err != nil {
		return nil, 0, fmt.Errorf("write identity %q: %w", path, err)
	}
	return id, origin, nil
}

// parseIdentityFile reads lines of "word value"; '#' begins a comment line.
func parseIdentityFile(text string) (id *Identity, machine string, err error) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		word, value, _ := strings.Cut(line, " ")
		switch word {
		case "seed":
			seed, err := hex.DecodeString(value)
			if err != nil || len(seed) != ed25519.SeedSize {
				return nil, "", fmt.Errorf("the seed is not %d hexadecimal digits", 2*ed25519.SeedSize)
			}
			id = FromSeed([ed25519.SeedSize]byte(seed))
		case "machine":
			machine = value
		default:
			// Not quoted: it may be the seed.
			return nil, "", errors.New("a line in it is neither \"seed\" nor \"machine\"")
		}
	}
	if id == nil {
		return nil, "", errors.New("no seed in it")
	}
	return id, machine, nil
}

// machineHash hides the machine id, which machine-id(5) wants kept private.
func machineHash(machineID string) string {
	sum := labelled("serialspan machine v1", []byte(machineID))
	return hex.EncodeToString(sum[:16])
}
