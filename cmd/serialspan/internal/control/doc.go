// Package control serves the control API (bridge/client describes it) on a
// unix socket, over the Agent interface. It checks requests, turns errors into
// answers, and carries the bytes of consoles; it knows nothing of how the
// agent does its work.
//
// Who may speak to it is a matter of the socket's mode and group: by default
// 0660, so the agent's user and group. An agent of root makes links for other
// users only below LinkDirs or in directories that the caller owns, and
// terminals only for groups that the caller is in, as told by SO_PEERCRED and
// SO_PEERGROUPS (unix(7)).
//
// Run owns all goroutines: one that accepts, one per connection, and one more
// per console that copies towards the device. They have ended when it returns.
package control
