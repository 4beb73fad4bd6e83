package session

// Capabilities of a device, as its registry entry and ACCEPT have them. Those
// that begin with CapabilityReset go on with the name of a reset recipe.
const (
	CapabilityModem = "modem" // DTR, RTS and break can be set, and CTS, DSR, DCD and RI are told
	CapabilityReset = "reset:"
)
