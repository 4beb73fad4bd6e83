package pathwatch

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
)

// mostLinks bounds a loop of symbolic links, as the kernel does.
const mostLinks = 40

// end is the name under which trail has the end of a path: inotify's, empty, for
// what happens to a watched thing itself.
const end = ""

// trails returns what trail does, for all paths.
func trails(paths []string) map[string]map[string]bool {
	all := map[string]map[string]bool{}
	for _, path := range paths {
		for dir, names := range trail(path) {
			if all[dir] == nil {
				all[dir] = names
			} else {
				maps.Copy(all[dir], names)
			}
		}
	}
	return all
}

// trail returns the directories that the kernel goes through for an absolute
// path, each with the names that it looks up there, and where the path ends.
func trail(path string) map[string]map[string]bool {
	steps := map[string]map[string]bool{}
	dir, left, links := "/", strings.Split(path, "/"), 0
	for len(left) > 0 {
		name := left[0]
		left = left[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			dir = filepath.Dir(dir)
			continue
		}
		if steps[dir] == nil {
			steps[dir] = map[string]bool{}
		}
		steps[dir][name] = true
		target, err := os.Readlink(filepath.Join(dir, name))
		if err != nil {
			dir = filepath.Join(dir, name)
			continue
		}
		if links++; links > mostLinks {
			return steps
		}
		if filepath.IsAbs(target) {
			dir = "/"
		}
		left = append(strings.Split(target, "/"), left...)
	}
	if steps[dir] == nil {
		steps[dir] = map[string]bool{}
	}
	steps[dir][end] = true
	return steps
}
