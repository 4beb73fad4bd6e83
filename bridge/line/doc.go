// Package line holds the values that describe a serial line: its settings
// (baud rate, data bits, parity, stop bits, flow control) and its modem lines.
//
// It is values and their text forms; it opens no device and knows no ioctl.
//
// The text form of Settings is the one used in the configuration, in the
// registry and on the wire:
//
//	115200n81            baud rate, parity letter, data bits, stop bits
//	9600e71
//	50o51.5              1.5 stop bits
//	57600n81/rtscts      with flow control: rtscts or xonxoff
//
// Parity letters are n (none), o (odd), e (even), m (mark) and s (space).
package line
