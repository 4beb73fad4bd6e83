// Package pty makes the pseudoterminal that stands for a remote serial device
// on a consumer: a path that stays the same, whose opens, closes, line
// settings and flushes are seen, and which passes every byte as it is.
//
// It is not a session: it keeps no bytes, and it decides nothing about the
// device behind it.
//
// # How an app's doings are seen
//
// The package holds the master (non-blocking, in packet mode) and no slave.
//
//	app opens first    inotify IN_OPEN on /dev/pts/N, proved by poll(2): no POLLHUP    Opened
//	app writes         master: 0x00 and the bytes                                      n > 0
//	app sets termios   master: 0x40; read back by TCGETS2                              LineChanged
//	app flushes        master: 0x01, 0x02                                              PurgeInput, PurgeOutput
//	last app closes    master: EIO, after everything else was read                     Closed
//
// Since the kernel says EIO only when the master's queue is empty, Closed comes
// after the last byte, and no opens are counted (inotify merges equal events,
// so a count would go wrong). An app that closes, and another that opens before
// Read has run, are seen as one opening.
//
// EXTPROC keeps the kernel from acting on XON, XOFF and other bytes and makes
// it report every tcsetattr. Some programs clear it (c_lflag = 0). That is
// reported one last time; the bit is set again then, and the settings are read
// in the same step, so that none is missed. (Locking the bit by TIOCSLCKTRMIOS
// would be safer, but takes CAP_SYS_ADMIN and makes "stty sane" fail.)
//
// # Order
//
// The kernel hands a report over before bytes that were written earlier, and
// does not say which bytes those are. So there are three rules:
//
//   - What was queued when a change of settings was reported counts as written
//     before it, since apps write, drain and then set: LineChanged comes after
//     those bytes.
//   - Except for the first bytes after Opened: apps open, set and then write, so
//     that LineChanged comes before them.
//   - A purge comes before queued bytes: what was written after a flush must not
//     fall to it.
//
// # Goroutines
//
// None. One goroutine of the caller calls Read in a loop; any may write. Close
// ends both.
//
// References: ioctl_tty(2) (TIOCPKT, TCGETS2, TIOCGPTPEER),
// termios(3) (EXTPROC), pty(7), inotify(7).
package pty
