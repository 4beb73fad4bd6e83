// Package uevent hears from the kernel when devices come and go.
//
// It is not discovery: an event says only that it is time to look again at
// sysfs (package port), because events may be lost. It needs no privileges.
//
// # Messages
//
// A datagram of NETLINK_KOBJECT_UEVENT, group 1, as the kernel sends it
// (lib/kobject_uevent.c):
//
//	ACTION @ DEVPATH NUL            "add@/devices/.../tty/ttyUSB0"
//	KEY = VALUE NUL ...             ACTION, DEVPATH, SUBSYSTEM, DEVNAME, SEQNUM, ...
//
// What udevd passes on is in group 2 and begins with "libudev"; it is not
// listened to. A message of a sender that is not the kernel is dropped.
//
// # Goroutines
//
// Watcher.Run blocks on its caller's goroutine and starts none.
//
// References: netlink(7), Documentation/ABI/testing/sysfs-uevent.
package uevent
