// Package client talks to the local agent: it lists members, devices,
// attachments and sessions, makes and removes attachments, and opens a device
// by name: as a serial port that satisfies the interface of go.bug.st/serial
// (OpenPort), or as a stream of bytes (OpenRaw). It also declares the types of the
// control API, which the agent's server and the commands share.
//
// It never speaks to another machine, does not know where a device is plugged
// in, opens no tty, and starts no goroutine that outlives a call but for one of
// each open Port, which Close joins.
//
// # The control API, version serialspan/v1
//
// HTTP/1.1 with JSON on a unix socket. Every answer is an object that has
// "api": "serialspan/v1"; lists stand in it under their own key. Within a
// version keys are only added: a reader ignores those it does not know.
//
//	GET    /v1/status                          Status
//	GET    /v1/nodes                           {"nodes": [Node…]}
//	GET    /v1/devices                         {"devices": [Device…]}
//	GET    /v1/attachments                     {"attachments": [Attachment…]}
//	GET    /v1/sessions                        {"sessions": [Session…]}
//	GET    /v1/resolve?name=NAME[@NODE]        Resolution
//	POST   /v1/ping?node=NAME                  Pong
//	POST   /v1/sizes                           {"paths": [PathSize…]}; takes up to 8 s
//	POST   /v1/signal                          SignalRequest → {}
//	POST   /v1/secret/rotate                   RotateRequest → {"number": …}; then see key of Status
//	POST   /v1/nodes/remove?node=NAME          Removal
//	POST   /v1/attachments                     AttachRequest → Attachment
//	DELETE /v1/attachments/{id}                Attachment; id, link path, address or device
//	POST   /v1/console?device=NAME&take=TAKE   Upgrade: serialspan-raw → 101, then bytes
//	POST   /v1/monitor?device=NAME             Upgrade: serialspan-monitor → 101, then records of bridge/capture
//	POST   /v1/ports?device=NAME&…             Upgrade: serialspan-port → 101, then frames of bridge/portwire
//	GET    /v1/console/{id}                    why a console ended; id from the 101's Serialspan-Console
//
// The first five take ?watch=1: then the answer is one JSON object per line
// (application/x-ndjson), the first at once and another after each change, until
// the client closes the connection or the agent ends. Ages (uptime_s, since_s,
// heard_s), the round trips of sessions and the noise of skew_s alone are no
// change.
//
// Rotating the secret and removing nodes are for root and the agent's own user.
//
// An error is an HTTP status ≥ 400 with {"error": {"code": …, "text": …,
// "next": …}}; Code lists the codes. After the 101 of a console nothing but the
// device's bytes is on the connection, both ways; either side closes it to end.
//
// A port takes take=TAKE, line=SETTINGS to begin with (without flow control: that
// of the device), kind=KIND for the listings, and read_only=1.
package client
