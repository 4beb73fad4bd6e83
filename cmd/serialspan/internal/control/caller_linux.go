package control

import (
	"context"
	"net"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// caller is the process at the other end of the socket, as it was when it
// connected.
type caller struct {
	uid    int   // -1: not known
	groups []int // its group and supplementary groups
}

type callerKey struct{}

// withCaller notes who connected (SO_PEERCRED, SO_PEERGROUPS of unix(7)), in
// the context of its requests.
func withCaller(ctx context.Context, conn net.Conn) context.Context {
	who := caller{uid: -1}
	if unixConn, ok := conn.(*net.UnixConn); ok {
		if rawConn, err := unixConn.SyscallConn(); err == nil {
			rawConn.Control(func(fd uintptr) {
				if credentials, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
					who.uid = int(credentials.Uid)
					who.groups = append(peerGroups(fd), int(credentials.Gid))
				}
			})
		}
	}
	return context.WithValue(ctx, callerKey{}, who)
}

// peerGroups returns the supplementary groups of the process at the other end.
// They are asked of the kernel and not of /etc/group: the process need not be
// in all groups of its user.
func peerGroups(fd uintptr) []int {
	groups := make([]uint32, 32)
	for {
		size := uint32(len(groups) * 4)
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		if errno == unix.ERANGE && int(size) > len(groups)*4 {
			groups = make([]uint32, size/4) // at most NGROUPS_MAX, 65536
			continue
		}
		if errno != 0 {
			return nil
		}
		var all []int
		for _, gid := range groups[:size/4] {
			all = append(all, int(gid))
		}
		return all
	}
}

func callerOf(ctx context.Context) caller {
	if who, ok := ctx.Value(callerKey{}).(caller); ok {
		return who
	}
	return caller{uid: -1}
}

// Caller returns the user ID of who sent the request of this context, -1 if it
// is not known.
func Caller(ctx context.Context) int { return callerOf(ctx).uid }

func (c caller) in(group int) bool { return slices.Contains(c.groups, group) }
