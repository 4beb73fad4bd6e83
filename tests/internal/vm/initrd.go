package vm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"github.com/serialspan/serialspan/tests/internal/vm/wire"
)

// initPackage is the guest's init.
const initPackage = "github.com/serialspan/serialspan/tests/internal/vm/guest"

// buildInit builds it, once in each test process.
var buildInit = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "serialspan-vm")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "init")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", out, initPackage)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the guest's init: %w\n%s", err, text)
	}
	return os.ReadFile(out)
})

// archive writes a cpio archive of format "newc", which the kernel unpacks.
// Folders are made as they are needed. The first error is kept.
type archive struct {
	out  io.Writer
	err  error
	made map[string]bool
	node uint32
}

// Modes of inodes, inode(7).
const (
	modeFolder = 0o040000
	modeFile   = 0o100000
)

func (a *archive) add(name string, mode uint32, data []byte) {
	name = strings.TrimPrefix(path.Clean(name), "/")
	if a.made[name] {
		return
	}
	if parent := path.Dir(name); parent != "." {
		a.add(parent, modeFolder|0o755, nil)
	}
	a.made[name] = true
	a.write(name, mode, data)
}

func (a *archive) write(name string, mode uint32, data []byte) {
	a.node++
	head := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		a.node, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0, name)
	for _, part := range [][]byte{[]byte(head), data} {
		if pad := len(part) % 4; pad > 0 {
			part = append(part[:len(part):len(part)], make([]byte, 4-pad)...)
		}
		if a.err == nil {
			_, a.err = a.out.Write(part)
		}
	}
}

func (a *archive) addFile(name, from string) {
	info, err := os.Stat(from)
	var data []byte
	if err == nil {
		data, err = os.ReadFile(from)
	}
	if err != nil {
		if a.err == nil {
			a.err = err
		}
		return
	}
	a.add(name, modeFile|uint32(info.Mode().Perm()), data)
}

// addProgram adds a program of this machine at the same path, with the shared
// libraries that ldd(1) names and below /bin its name.
func (a *archive) addProgram(name string) {
	found, err := exec.LookPath(name)
	if err == nil {
		found, err = filepath.EvalSymlinks(found)
	}
	if err != nil {
		if a.err == nil {
			a.err = err
		}
		return
	}
	a.addFile(path.Join("/bin", filepath.Base(name)), found)
	out, err := exec.Command("ldd", found).Output()
	if err != nil {
		return // a static program
	}
	for _, library := range regexp.MustCompile(`/\S+`).FindAllString(string(out), -1) {
		if resolved, err := filepath.EvalSymlinks(library); err == nil {
			a.addFile(library, resolved)
		}
	}
}

// writeInitrd writes what the guest boots with.
func writeInitrd(out io.Writer, c Config, boot wire.Boot, modules []module) error {
	guest, err := buildInit()
	if err != nil {
		return err
	}
	a := &archive{out: out, made: map[string]bool{}}
	a.add("/dev", modeFolder|0o755, nil)
	a.add("/init", modeFile|0o755, guest)
	a.add("/root", modeFolder|0o700, nil)
	for _, m := range modules {
		name := "/modules/" + m.name + ".ko"
		a.add(name, modeFile|0o644, m.image)
		boot.Modules = append(boot.Modules, wire.Module{Path: name, Parameters: m.parameters})
	}
	for name, from := range c.Files {
		a.addFile(name, from)
	}
	for _, name := range c.Programs {
		a.addProgram(name)
	}
	text, err := json.Marshal(boot)
	if err != nil {
		return err
	}
	a.add(wire.BootFile, modeFile|0o644, text)
	a.write("TRAILER!!!", 0, nil)
	return a.err
}

// emptyDisk makes the image of a disk with an ext4 file system.
func emptyDisk(path string, size int64) error {
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(path, size); err != nil {
		return err
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", path).CombinedOutput(); err != nil {
		return fmt.Errorf("mkfs.ext4: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}
