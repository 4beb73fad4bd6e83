//go:build unix

package configs

import (
	"io/fs"
	"os"
	"syscall"
)

// trusted reports whether a file belongs to this user or to root.
func trusted(info fs.FileInfo) bool {
	uid := owner(info)
	return uid == 0 || uid >= 0 && uid == os.Geteuid()
}

// owner returns the user ID of a file's owner, -1 if it has none.
func owner(info fs.FileInfo) int {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Uid)
	}
	return -1
}
