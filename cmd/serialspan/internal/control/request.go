package control

import (
	"cmp"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/bridge/line"
)

// checkAttach refuses requests that make no sense whatever devices there are.
func checkAttach(r client.AttachRequest) error {
	switch {
	case r.Device == "":
		return client.Errorf(client.Invalid, "write NAME or NAME@NODE", "attach: no device given")
	case places(r) != 1:
		return client.Errorf(client.Invalid, "ask for one of a PTY, a TCP and an RFC 2217 address", "attach %q: %d places given", r.Device, places(r))
	case r.PTY != nil && !filepath.IsAbs(r.PTY.Link):
		return client.Errorf(client.Invalid, "write an absolute path", "attach %q: link path %q", r.Device, r.PTY.Link)
	case r.PTY != nil && r.PTY.Mode > 0o777:
		return client.Errorf(client.Invalid, "write permissions such as 0660", "attach %q: mode %#o", r.Device, r.PTY.Mode)
	case r.PTY == nil:
		if err := checkListen(r); err != nil {
			return err
		}
	}
	if _, err := line.Parse(r.Line); r.Line != "" && err != nil {
		return client.Errorf(client.Invalid, "write settings such as 9600e71", "attach %q: %v", r.Device, err)
	}
	return nil
}

// places is how many places a request names.
func places(r client.AttachRequest) int {
	n := 0
	for _, given := range []bool{r.PTY != nil, r.TCP != "", r.RFC2217 != ""} {
		if given {
			n++
		}
	}
	return n
}

func checkListen(r client.AttachRequest) error {
	address := cmp.Or(r.TCP, r.RFC2217)
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	addr, addrErr := netip.ParseAddr(host)
	if err != nil || host != "" && host != "localhost" && addrErr != nil {
		return client.Errorf(client.Invalid, "write IP:PORT such as 127.0.0.1:6639", "attach %q: address %q", r.Device, address)
	}
	if host != "localhost" && !addr.Unmap().IsLoopback() && !r.Expose {
		return client.Errorf(client.Refused, "use a loopback address, or say --expose", "attach %q: %s can be reached from other machines, without a password", r.Device, address)
	}
	return nil
}

// pick returns the attachment that which means: an ID, else a link path or
// address, else a device with a single attachment.
func pick(all []client.Attachment, which string) (client.Attachment, error) {
	var byWhere, byDevice []client.Attachment
	for _, a := range all {
		if a.ID == which {
			return a, nil
		}
		if a.Where == which {
			byWhere = append(byWhere, a)
		}
		if a.Device == which {
			byDevice = append(byDevice, a)
		}
	}
	for _, found := range [][]client.Attachment{byWhere, byDevice} {
		switch len(found) {
		case 0:
		case 1:
			return found[0], nil
		default:
			var ids []string
			for _, a := range found {
				ids = append(ids, a.ID)
			}
			return client.Attachment{}, client.Errorf(client.Ambiguous, "detach one of the IDs "+strings.Join(ids, ", "), "detach %q: %d attachments fit", which, len(found))
		}
	}
	return client.Attachment{}, client.Errorf(client.NotFound, "\"serialspan attachments\" lists what is there", "detach %q: no such attachment", which)
}
