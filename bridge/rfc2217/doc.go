// Package rfc2217 is the server side of Telnet (RFC 854, 855, 856, 857, 858,
// 1143) with the COM-PORT-OPTION (RFC 2217): how programs reach a serial port
// over TCP together with its settings, modem lines and break. It is a pure
// machine: bytes in; application data and requests out; bytes out. It has no
// socket, goroutine, clock or log. It neither opens nor drives a device: its
// caller does what the requests say, in their order with the data.
//
//	            Next ┌─────────┐ Request: data, line, outputs, break, purge …
//	from client ────▶│ Machine │──────────────────────────────▶ to the device
//	            ◀────│         │◀── Modem, LineState, Correct ─ from the device
//	          Output └─────────┘
//	            ◀─── AppendData ◀───────────────────────── data of the device
//
// # Wire
//
//	IAC IAC                        one byte 255 of data
//	IAC WILL|WONT|DO|DONT option   negotiation
//	IAC SB 44 command value IAC SE a COM-PORT command; 255 in value is doubled
//	IAC BRK                        a break of the usual length
//
// The server opens with WILL SGA, DO SGA, WILL ECHO, DO BINARY, WILL BINARY,
// DO COM-PORT. It never answers a state that is already agreed (RFC 1143), so
// there are no loops, and refuses every other option. WILL ECHO turns off the
// echo that a terminal client makes by itself; the server echoes nothing, the
// device may. Until BINARY is agreed for a direction, CR stands as CR NUL or
// CR LF there (RFC 854). COM-PORT is active as soon as either side of it is
// agreed; at that moment NOTIFY-MODEMSTATE is sent unasked, for pyserial fails
// on reading a modem line of a server that never sent one.
//
// # Answers
//
// Every SET and every query (value 0) is answered at once: with the value
// asked for if Config.Grant allows it, else with the value in force; pyserial
// takes any other answer for a refusal, and none for a failure after 3 s. What
// turns out later, at the device, is told unasked (Machine.Correct).
//
//	command                client  server  value
//	SIGNATURE                   0     100  text; empty asks for the server's
//	SET-BAUDRATE                1     101  4 bytes, or the one-byte code of Cisco IOS
//	SET-DATASIZE                2     102  5 to 8
//	SET-PARITY                  3     103  none 1, odd 2, even 3, mark 4, space 5
//	SET-STOPSIZE                4     104  one 1, two 2, one and a half 3
//	SET-CONTROL                 5     105  flow, break, DTR, RTS; see control
//	NOTIFY-LINESTATE            6     106  poll, LineState
//	NOTIFY-MODEMSTATE           7     107  poll, ModemState
//	FLOWCONTROL-SUSPEND/RESUME  8, 9  108, 109
//	SET-LINESTATE-MASK         10     110  LineState, 0 at first
//	SET-MODEMSTATE-MASK        11     111  ModemState, 255 at first
//	PURGE-DATA                 12     112  Purge
//
// A missing value counts as 0; superfluous bytes are ignored; values outside
// of the tables change nothing and are answered with the value in force.
// Flow control is one setting for both directions, so an inbound one that
// differs from it is answered with what is in force, as are DCD, DSR and DTR
// flow control. With 5 data bits the longer stop bit is 1.5, with more it is
// 2: SET-DATASIZE turns the one into the other without telling, since an
// unasked 104 between the answers to a client's own SETs reads as a refusal.
package rfc2217
