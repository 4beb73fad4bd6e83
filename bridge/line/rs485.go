package line

import "time"

// RS485 makes a port drive the direction of an RS-485 line by RTS
// (Documentation/driver-api/serial/serial-rs485.rst). The zero value is off:
// the port is left as its driver has it.
type RS485 struct {
	On bool
	// RTSOnSend and RTSAfterSend are how RTS stands while sending and
	// otherwise; unchanged: on while sending, off otherwise.
	RTSOnSend, RTSAfterSend Drive
	// BeforeSend and AfterSend are what passes between RTS and data, whole
	// milliseconds.
	BeforeSend, AfterSend time.Duration
	// ReceiveDuringSend lets the port hear what it sends.
	ReceiveDuringSend bool
	// Terminate switches a terminating resistor in, where the board has one.
	Terminate bool
}
