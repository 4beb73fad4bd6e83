package vm

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
)

// kernelPackage depends on the newest kernel. The cloud kernel has no USB.
const kernelPackage = "linux-image-amd64"

// cacheName changes with what is kept of the package.
const cacheName = "vm-kernel-1"

// kept are the modules worth the room: 60 of 300 MB.
var kept = regexp.MustCompile(`^lib/modules/[^/]+/(modules\.builtin$|kernel/(net|crypto|lib|arch/x86/crypto|fs/(ext4|jbd2|fuse|9p|netfs|fscache|overlayfs|configfs)|fs/mbcache|drivers/(net/[^/]+\.ko|net/(wireguard|bonding|ethernet/intel/e1000|phy)|usb|virtio|char|block/virtio))/?)`)

// kernel is an unpacked kernel package.
type kernel struct {
	dir     string            // vmlinux and lib/modules
	release string            // "6.1.0-56-amd64"
	modules map[string]string // file of a module by its name with underscores
	builtin map[string]bool   // names of modules that are part of vmlinux
}

// openKernel returns the cached kernel, which it downloads if there is none.
var openKernel = sync.OnceValues(func() (*kernel, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	cache = filepath.Join(cache, "serialspan-tests")
	dir := filepath.Join(cache, cacheName)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		err = os.MkdirAll(cache, 0o755)
		if err == nil {
			err = makeKernel(cache, dir)
		}
		if err != nil {
			return nil, fmt.Errorf("get a kernel: %w", err)
		}
	}
	return readKernel(dir)
})

// makeKernel downloads and unpacks beside dir and renames: what is there under
// the name is whole.
func makeKernel(cache, dir string) error {
	fresh, err := os.MkdirTemp(cache, "installing-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(fresh)
	deb, err := download(fresh)
	if err != nil {
		return err
	}
	if err := unpack(deb, fresh); err != nil {
		return fmt.Errorf("unpack %s: %w", filepath.Base(deb), err)
	}
	if err := os.Remove(deb); err != nil {
		return err
	}
	if err := os.Rename(fresh, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// download gets the kernel's package into dir.
func download(dir string) (deb string, err error) {
	apt := func(program string, args ...string) ([]byte, error) {
		cmd := exec.Command(program, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(out))
		}
		return out, err
	}
	get := func() error {
		out, err := apt("apt-cache", "depends", "--important", kernelPackage)
		if err != nil {
			return err
		}
		name := regexp.MustCompile(`Depends: (linux-image-\S+)`).FindSubmatch(out)
		if name == nil {
			return fmt.Errorf("%s depends on no kernel", kernelPackage)
		}
		_, err = apt("apt-get", "download", "-q", string(name[1]))
		return err
	}
	if err = get(); err != nil && os.Geteuid() == 0 {
		// The lists of packages may be older than the package that they name.
		if _, err = apt("apt-get", "update", "-qq"); err == nil {
			err = get()
		}
	}
	if err != nil {
		return "", err
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("apt-get download left %d packages: %w", len(found), err)
	}
	return found[0], nil
}

// unpack writes vmlinux and the modules worth the room to dir.
func unpack(deb, dir string) error {
	cmd := exec.Command("dpkg-deb", "--fsys-tarfile", deb)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = unpackTar(tar.NewReader(stdout), dir)
	_, _ = io.Copy(io.Discard, stdout)
	return errors.Join(err, cmd.Wait())
}

func unpackTar(files *tar.Reader, dir string) error {
	for {
		h, err := files.Next()
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		name := strings.TrimPrefix(filepath.Clean(h.Name), "usr/") // newer Debian: /usr/lib/modules
		if h.Typeflag != tar.TypeReg || !filepath.IsLocal(name) {
			continue
		}
		switch {
		case strings.HasPrefix(name, "boot/vmlinuz-"):
			image, err := io.ReadAll(files)
			if err == nil {
				err = extract(image, filepath.Join(dir, "vmlinux"))
			}
			if err != nil {
				return err
			}
		case kept.MatchString(name):
			if err := writeFile(filepath.Join(dir, name), files); err != nil {
				return err
			}
		}
	}
}

func writeFile(path string, from io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	return errors.Join(err, f.Close())
}

// extract writes the ELF file in a bzImage: QEMU boots it directly (PVH), which
// saves the emulated CPU 3 s of decompression. Documentation/arch/x86/boot.rst:
// setup_sects, payload_offset and payload_length.
func extract(image []byte, path string) error {
	if len(image) < 0x250 {
		return errors.New("no bzImage")
	}
	start := (int(image[0x1f1]) + 1) * 512
	start += int(binary.LittleEndian.Uint32(image[0x248:]))
	length := int(binary.LittleEndian.Uint32(image[0x24c:]))
	if start+length > len(image) {
		return errors.New("bzImage is cut off")
	}
	return decompress(image[start:start+length], path)
}

// decompress writes what an xz or zstd stream holds to path.
func decompress(packed []byte, path string) error {
	var cmd *exec.Cmd
	switch {
	case bytes.HasPrefix(packed, []byte("\xfd7zXZ\x00")):
		cmd = exec.Command("xz", "-dc", "--single-stream") // the kernel's size follows the stream
	case bytes.HasPrefix(packed, []byte("\x28\xb5\x2f\xfd")):
		cmd = exec.Command("zstd", "-dcq")
	default:
		return fmt.Errorf("decompress %s: unknown compression % x", filepath.Base(path), packed[:min(6, len(packed))])
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(packed), f, &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("decompress %s: %w: %s", filepath.Base(path), err, stderr.Bytes())
	}
	return f.Close()
}

// readKernel lists what is in dir.
func readKernel(dir string) (*kernel, error) {
	k := &kernel{dir: dir, modules: map[string]string{}, builtin: map[string]bool{}}
	releases, err := os.ReadDir(filepath.Join(dir, "lib/modules"))
	if err != nil || len(releases) != 1 {
		return nil, fmt.Errorf("read kernel in %s: %d releases: %w; remove the folder", dir, len(releases), err)
	}
	k.release = releases[0].Name()
	top := filepath.Join(dir, "lib/modules", k.release)
	builtin, err := os.ReadFile(filepath.Join(top, "modules.builtin"))
	if err != nil {
		return nil, fmt.Errorf("read kernel: %w", err)
	}
	for line := range strings.Lines(string(builtin)) {
		k.builtin[moduleName(strings.TrimSpace(line))] = true
	}
	err = filepath.WalkDir(top, func(path string, _ fs.DirEntry, err error) error {
		if strings.Contains(filepath.Base(path), ".ko") {
			k.modules[moduleName(path)] = path
		}
		return err
	})
	return k, err
}

// vmlinux is the kernel's ELF file.
func (k *kernel) vmlinux() string { return filepath.Join(k.dir, "vmlinux") }
