// Package port finds and opens the serial ports of this machine: the owner's
// side of a device.
//
// It is not a session: it hands bytes over and decides nothing about them. It
// is the only package that imports go.bug.st/serial.
//
// # Discovery
//
// Discover reads sysfs and opens nothing: opening a tty raises its DTR and RTS
// lines and may reset what hangs on it, or wreck a console.
//
// # Two descriptors
//
// A Port has the tty open twice. Our own descriptor is non-blocking, so that
// reads and writes wait in the runtime's poller and Close unblocks them; all
// bytes and our ioctls go through it. The other is go.bug.st/serial's, which
// sets baud rate, data bits, parity and stop bits. Its order in Open matters:
//
//  1. a look at who has it open, since each open raises DTR and RTS; our open
//     (EBUSY: someone else's TIOCEXCL), flock, a look at TIOCGEXCL, which root's
//     open ignores
//  2. the library's open; it sets raw mode and TIOCEXCL
//  3. what the library cannot do, by TCSETS2: HUPCL off, flow control, 1.5 stop
//     bits, INPCK off, VMIN and VTIME
//  4. DTR and RTS, once: Linux raises both at every open, so not before
//  5. RS-485 mode, if wanted
//  6. low latency: ASYNC_LOW_LATENCY, else the FTDI driver's timer in sysfs
//
// DTR and RTS change together, by one TIOCMSET, which the USB drivers pass on as
// one control transfer. Where a board crosses the two lines to make reset and boot
// pin of them (ESP boards; Sonoff's Dongle-P, where both alike means run), one
// after the other would go through a state that is a reset: from both on, as
// Linux leaves them, to both off there is no order without one. A board that
// wants an order has a reset recipe.
//
// The library clears its own descriptor's O_NONBLOCK and nothing reads from it,
// so its unsafe way to end readers does not matter. Its Break sleeps through a
// close; ours does not.
//
// # Pseudoterminals
//
// Any tty can be a port, a PTY slave too. It has no modem lines, framing or low
// latency: those ioctls say ENOTTY or do nothing, and Open goes on. TIOCEXCL is
// taken back there and flock alone excludes others: the mark lives as long as
// the master, so an agent that was killed could never open the PTY again.
//
// # Goroutines
//
// One goroutine may Read and others write; Close ends them. WatchModem has one
// more for as long as it runs, on a thread of its own that waits in TIOCMIWAIT.
// Nothing but a signal ends that wait while the tty is open: not a close, which
// waits for it, and under Go no ordinary signal, since Go lets the kernel begin
// interrupted calls again. So one real-time signal is taken from that rule
// (interrupt_linux.go) and sent to the thread when the watch ends. Where that is
// not possible the lines are read every 100 ms.
//
// References: ioctl_tty(2), termios(3), Documentation/ABI/testing/sysfs-tty,
// drivers/tty/tty_port.c (tty_port_block_til_ready raises DTR and RTS).
package port
