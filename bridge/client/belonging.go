package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/serialspan/serialspan/mesh/identity"
)

// Key is the state of the cluster secret on a node.
type Key struct {
	Number uint32 `json:"number"`         // of the key in use; counts rotations, from 1
	Oldest uint32 `json:"oldest"`         // smallest number with which a former member is let in
	Next   uint32 `json:"next,omitempty"` // handed out and not in use yet; 0: none
	// Behind are members that are alive and use another key, by name, as far
	// as this node knows.
	Behind []string `json:"behind,omitempty"`
	// Rotation is the last one that this node began since it started; nil: none.
	Rotation *Rotation `json:"rotation,omitempty"`
}

// Rotation is how far a rotation is.
type Rotation struct {
	Number uint32 `json:"number"` // of the new key
	// Phase is "hand-out" (members are given the new secret), "switch" (it is
	// in use), "done", or "overtaken" (another member's rotation counts).
	Phase   string    `json:"phase"`
	Has     []string  `json:"has"`     // members that have it, without this node
	Missing []Missing `json:"missing"` // members that do not
}

// Missing is a member that does not have the new secret.
type Missing struct {
	Node string          `json:"node"`
	ID   identity.NodeID `json:"id"`
	Why  string          `json:"why"`
}

// RotateRequest asks for a new cluster secret.
type RotateRequest struct {
	// DropOld: older secrets are not accepted any more, at once; members that
	// are away must be given the new one by hand.
	DropOld bool `json:"drop_old,omitempty"`
}

// Removal is a node that was removed.
type Removal struct {
	Node string          `json:"node"` // its name
	ID   identity.NodeID `json:"id"`
	// Everywhere: members that have this node in cluster.admins part with it
	// too; else this node alone does.
	Everywhere bool `json:"everywhere"`
	// RotateSecret: it still holds the cluster secret, which alone admits.
	RotateSecret bool `json:"rotate_secret"`
	// Notes are what there is to do here, for people.
	Notes []string `json:"notes"`
}

// RotateSecret begins to rotate the cluster secret and returns the new key
// number; the agent carries on by itself, and Status tells how far it is. The
// error is Refused where the caller or this node may not.
func (c *Client) RotateSecret(ctx context.Context, request RotateRequest) (uint32, error) {
	var answer RotateAnswer
	err := c.call(ctx, http.MethodPost, "/v1/secret/rotate", request, &answer)
	return answer.Number, err
}

// RemoveNode removes a node from the cluster, for good, by name, alias or
// NodeID. The error is NotFound, Ambiguous, Refused or Invalid.
func (c *Client) RemoveNode(ctx context.Context, node string) (Removal, error) {
	var answer RemovalAnswer
	err := c.call(ctx, http.MethodPost, "/v1/nodes/remove?node="+url.QueryEscape(node), nil, &answer)
	return answer.Removal, err
}
