package client

import "net/netip"

// KubeSpan is what an agent says of its machine's KubeSpan, the WireGuard mesh
// between the nodes of a Talos cluster. Only the agent's reading of it stands
// here; nothing of it is the agent's to change.
type KubeSpan struct {
	Present bool       `json:"present"` // members in it are reached through it
	Address netip.Addr `json:"address,omitzero"`
	Link    int        `json:"link"` // interface index
	MTU     int        `json:"mtu"`  // bytes of an IP packet
	// Rights is "NET_ADMIN", or "address only": then its peers are not known.
	Rights string `json:"rights"`
	// Bypass is how members on nodes of a dead KubeSpan are reached, into which
	// Talos forces the packets for them all the same: "mark" (the agent's packets
	// carry Talos's mark 0x20 and stay out) or "relay" (it may not set marks; a
	// member outside the KubeSpan has to pass them on).
	Bypass string         `json:"bypass"`
	Rule   bool           `json:"rule"`             // Talos's routing rule is in force
	Forced bool           `json:"forced"`           // and leads into the link
	Detail string         `json:"detail,omitempty"` // why it is not present, or its peers are not known
	Peers  []KubeSpanPeer `json:"peers,omitempty"`
}

// KubeSpanPeer is another node of the KubeSpan, a member or not.
type KubeSpanPeer struct {
	Address  netip.Addr `json:"address,omitzero"`
	Node     string     `json:"node,omitempty"`     // the member that says it is there
	Endpoint string     `json:"endpoint,omitempty"` // where WireGuard sends to, IP:PORT
	Class    string     `json:"class,omitempty"`    // of the endpoint, as in Node
	State    string     `json:"state"`              // alive, silent or unknown, judged from changes of the counters
	Received uint64     `json:"received"`           // bytes
	Sent     uint64     `json:"sent"`               // bytes
	Tunnel   string     `json:"tunnel,omitempty"`   // the tunnel by which the endpoint is reached, if it is one
	// Mesh says that mesh addresses are among those that the peer claims.
	Mesh bool `json:"mesh,omitempty"`
}
