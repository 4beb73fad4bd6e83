package client

// The answers of the control API. They are exported for the server and for
// programs that read --json.

// StatusAnswer is the answer to GET /v1/status.
type StatusAnswer struct {
	API string `json:"api"`
	Status
}

// NodesAnswer is the answer to GET /v1/nodes, by name.
type NodesAnswer struct {
	API   string `json:"api"`
	Nodes []Node `json:"nodes"`
}

// DevicesAnswer is the answer to GET /v1/devices, by name and node.
type DevicesAnswer struct {
	API       string      `json:"api"`
	Devices   []Device    `json:"devices"`
	LeftAlone []LeftAlone `json:"left_alone,omitempty"` // of this machine
}

// LeftAlone is a tty that the agent does not touch, whatever devices.publish
// says, unless a rule names it by its path.
type LeftAlone struct {
	Path   string `json:"path"`
	Reason string `json:"reason"` // "console": the kernel writes there; "no hardware": a placeholder
}

// AttachmentsAnswer is the answer to GET /v1/attachments, by ID.
type AttachmentsAnswer struct {
	API         string       `json:"api"`
	Attachments []Attachment `json:"attachments"`
}

// SessionsAnswer is the answer to GET /v1/sessions, by ID.
type SessionsAnswer struct {
	API      string    `json:"api"`
	Sessions []Session `json:"sessions"`
}

// ResolveAnswer is the answer to GET /v1/resolve.
type ResolveAnswer struct {
	API string `json:"api"`
	Resolution
}

// PingAnswer is the answer to POST /v1/ping.
type PingAnswer struct {
	API string `json:"api"`
	Pong
}

// PathSizesAnswer is the answer to POST /v1/sizes, by node.
type PathSizesAnswer struct {
	API   string     `json:"api"`
	Paths []PathSize `json:"paths"`
}

// RotateAnswer is the answer to POST /v1/secret/rotate.
type RotateAnswer struct {
	API    string `json:"api"`
	Number uint32 `json:"number"` // of the new key
}

// KeyAnswer is what "secret rotate --json" prints.
type KeyAnswer struct {
	API string `json:"api"`
	Key
}

// RemovalAnswer is the answer to POST /v1/nodes/remove.
type RemovalAnswer struct {
	API string `json:"api"`
	Removal
}

// AttachmentAnswer is the answer to POST and DELETE of attachments.
type AttachmentAnswer struct {
	API string `json:"api"`
	Attachment
}

// SignalAnswer is the answer to POST /v1/signal.
type SignalAnswer struct {
	API string `json:"api"`
}

// ErrorAnswer is every answer with an HTTP status of 400 and above, and the
// answer to GET /v1/console/{id}, where a nil Error means a plain end.
type ErrorAnswer struct {
	API   string `json:"api"`
	Error *Error `json:"error"`
}
