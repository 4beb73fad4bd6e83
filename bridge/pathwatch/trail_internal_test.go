package pathwatch

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// TestTrail: every name on the way to a file is watched, whatever links do.
func TestTrail(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	err = errors.Join(os.Mkdir(in("real"), 0o700), os.Symlink("real", in("relative")), os.Symlink(in("relative"), in("absolute")),
		os.Symlink("../absolute/x", in("real/up")), os.Symlink("loop", in("loop")))
	if err != nil {
		t.Fatal(err)
	}
	type steps = map[string][]string
	for path, want := range map[string]steps{
		"real/x":     {"": {"real"}, "real": {"x"}, "real/x": {end}},
		"relative/x": {"": {"real", "relative"}, "real": {"x"}, "real/x": {end}},
		"absolute/x": {"": {"absolute", "real", "relative"}, "real": {"x"}, "real/x": {end}},
		"real/up":    {"": {"absolute", "real", "relative"}, "real": {"up", "x"}, "real/x": {end}},
		"missing/x":  {"": {"missing"}, "missing": {"x"}, "missing/x": {end}},
		"loop/x":     {"": {"loop"}},
	} {
		have := trail(in(path))
		for below, names := range want {
			all := map[string]bool{}
			for _, name := range names {
				all[name] = true
			}
			if !reflect.DeepEqual(have[filepath.Join(dir, below)], all) {
				t.Errorf("%s: in %q have %v, want %v", path, below, have[filepath.Join(dir, below)], all)
			}
		}
	}
}
