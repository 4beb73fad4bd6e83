package agent

import (
	"errors"

	"github.com/serialspan/serialspan/bridge/attach"
	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/bridge/profile"
	"github.com/serialspan/serialspan/bridge/remote"
	"github.com/serialspan/serialspan/bridge/session"
	"github.com/serialspan/serialspan/registry"
)

// controlError gives an error the code that the control API has for it; nil
// stays nil.
func controlError(err error) error {
	if err == nil {
		return nil
	}
	if told, ok := errors.AsType[*client.Error](err); ok {
		return told
	}
	for _, row := range []struct {
		is   error
		code client.Code
		next string
	}{
		{registry.ErrNotFound, client.NotFound, ""}, // its text says what next
		{registry.ErrAway, client.Away, "\"serialspan devices\" shows its state, \"serialspan nodes\" that of its node"},
		{registry.ErrAmbiguous, client.Ambiguous, "write NAME@NODE"},
		{attach.ErrNoAttachment, client.NotFound, "see `serialspan attachments`"},
		{attach.ErrPlaceTaken, client.Exists, "see `serialspan attachments`"},
		{attach.ErrNotRunning, client.Stopping, ""},
		{profile.ErrNoRecipe, client.NotFound, "\"serialspan resolve NAME\" lists those that it has"},
		{line.ErrNoSignals, client.Unsupported, ""},
		{remote.ErrReadOnly, client.Refused, "open it without reading along only"},
		{profile.ErrProfile, client.Invalid, ""},
		{session.CodeNotFound, client.NotFound, ""},
		{session.CodeBusy, client.Busy, "take it with --take"},
		{session.CodeKicked, client.Kicked, "take it back with --take"},
		{session.CodeRefused, client.Refused, "its node decides that: allow and allow_read of the device's rule"},
		{session.CodeGone, client.Away, ""},
		{session.CodeRemoved, client.Refused, ""},
		{session.CodeWithdrawn, client.NotFound, "its node decides that: publish and the rules in its configuration"},
		{session.CodeShuttingDown, client.Stopping, ""},
	} {
		if errors.Is(err, row.is) {
			return client.Errorf(row.code, row.next, "%v", err)
		}
	}
	return client.AsError(err)
}
