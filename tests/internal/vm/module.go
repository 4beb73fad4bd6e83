package vm

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// module is one that a guest loads.
type module struct {
	name, parameters string
	image            []byte
}

// moduleName is a module's name as the kernel compares it.
func moduleName(path string) string {
	name, _, _ := strings.Cut(filepath.Base(path), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// resolve returns the modules asked for, each after those that it needs. An
// entry may have parameters behind the name. What is part of the kernel is left
// out.
func (k *kernel) resolve(wanted []string) ([]module, error) {
	var sorted []module
	done := map[string]bool{}
	var add func(name, parameters string) error
	add = func(name, parameters string) error {
		name = moduleName(name)
		if done[name] || k.builtin[name] {
			return nil
		}
		done[name] = true
		path, known := k.modules[name]
		if !known {
			return fmt.Errorf("the kernel's cache has no module %s", name)
		}
		image, err := readModule(path)
		if err != nil {
			return err
		}
		needs, err := needs(image)
		if err != nil {
			return fmt.Errorf("module %s: %w", name, err)
		}
		for _, other := range needs {
			if err := add(other, ""); err != nil {
				return err
			}
		}
		sorted = append(sorted, module{name: name, parameters: parameters, image: image})
		return nil
	}
	for _, entry := range wanted {
		name, parameters, _ := strings.Cut(entry, " ")
		if err := add(name, parameters); err != nil {
			return nil, err
		}
	}
	return sorted, nil
}

func readModule(path string) ([]byte, error) {
	if !strings.HasSuffix(path, ".xz") {
		return os.ReadFile(path)
	}
	out, err := exec.Command("xz", "-dc", path).Output()
	if err != nil {
		return nil, fmt.Errorf("decompress %s: %w", path, err)
	}
	return out, nil
}

// needs returns the names of the modules whose symbols a module uses. What it
// asks for by an alias when it runs, as ciphers, has to be named in Config.
func needs(image []byte) ([]string, error) {
	file, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return nil, err
	}
	section := file.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("no section .modinfo")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	var names []string
	for entry := range strings.SplitSeq(string(info), "\x00") {
		if list, ok := strings.CutPrefix(entry, "depends="); ok && list != "" {
			names = append(names, strings.Split(list, ",")...)
		}
	}
	return names, nil
}
