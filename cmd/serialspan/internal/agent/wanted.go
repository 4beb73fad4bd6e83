package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/serialspan/serialspan/bridge/attach"
	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/configs"
)

// keptFile holds the attachments that were made by command and shall be there
// after a restart. It is written when they change.
const keptFile = "attachments.json"

// kept is the form of keptFile.
type kept struct {
	Version     int       `json:"version"` // 1
	Attachments []keptRow `json:"attachments"`
}

// keptRow is an attachment and the user who asked for it.
type keptRow struct {
	client.AttachRequest
	User int `json:"user"`
}

// wantedSet are the attachments that this node shall have: those of the
// configuration and those made by command. Two cannot have one place. What
// cannot be made now stays wanted and is tried again.
//
// It is safe for concurrent use.
type wantedSet struct {
	attacher *attach.Attacher
	dir      string // the state directory
	links    configs.LinkRule
	log      *slog.Logger

	mu      sync.Mutex
	all     []*wanted // in the order of their making
	unsaved error     // why those made by command are not on disk; nil: they are
}

// wanted is one of them.
type wanted struct {
	request client.AttachRequest
	user    int    // who asked, for keptFile
	owner   string // of the PTY's node, as the file says
	origin  client.Origin
	key     string // "attachments[1]", for those of the file
	place   string // key with file and line
	id      string // of the attacher's; empty: it is not made
	err     error  // why not
	off     bool   // of the file, and detached by command: until it changes
}

// where is the link or address: what only one attachment can have.
func (w *wanted) where() string { return whereOf(w.request) }

func whereOf(r client.AttachRequest) string {
	if r.PTY != nil {
		return filepath.Clean(r.PTY.Link)
	}
	return cmp.Or(r.TCP, r.RFC2217)
}

// anyPort reports whether a request leaves the port to the system: then it is
// another place each time.
func anyPort(r client.AttachRequest) bool { return r.PTY == nil && strings.HasSuffix(whereOf(r), ":0") }

// same reports whether two requests ask for the same attachment.
func same(a, b client.AttachRequest) bool {
	if (a.PTY == nil) != (b.PTY == nil) || a.PTY != nil && *a.PTY != *b.PTY {
		return false
	}
	return a.Device == b.Device && a.TCP == b.TCP && a.RFC2217 == b.RFC2217 && a.Line == b.Line
}

// setFile replaces the attachments of the configuration: what is as before is
// not touched.
func (s *wantedSet) setFile(list []configs.Attachment, place func(key string) string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var left []*wanted // of the file before
	s.all = slices.DeleteFunc(s.all, func(w *wanted) bool {
		if w.origin == client.OriginFile {
			left = append(left, w)
			return true
		}
		return false
	})
	var next []*wanted
	for i, a := range list {
		key := fmt.Sprintf("attachments[%d]", i)
		request := requestOf(a)
		j := slices.IndexFunc(left, func(w *wanted) bool { return same(w.request, request) && w.owner == a.PTY.Owner })
		w := &wanted{request: request, owner: a.PTY.Owner, origin: client.OriginFile}
		if j >= 0 {
			w = left[j]
			left = slices.Delete(left, j, j+1)
		}
		w.key, w.place = key, place(key)
		next = append(next, w)
	}
	for _, gone := range left {
		s.unmake(gone)
	}
	s.all = append(next, s.all...)
	s.makeMissing()
}

func requestOf(a configs.Attachment) client.AttachRequest {
	r := client.AttachRequest{Device: a.Device, TCP: a.TCP, RFC2217: a.RFC2217, Expose: a.Expose, Line: a.Line}
	if a.PTY.Link != "" {
		r.PTY = &client.PTYSpec{Link: a.PTY.Link, Mode: uint32(a.PTY.Mode), Group: a.PTY.Group}
	}
	return r
}

// makeMissing makes what is wanted and not there. mu is held.
func (s *wantedSet) makeMissing() {
	for _, w := range s.all {
		if w.id != "" || w.off {
			continue
		}
		if err := s.make(w); err != nil {
			if w.err == nil || w.err.Error() != err.Error() {
				s.log.Warn("attachment cannot be made, retrying", "attachment", w.where(), "err", err)
			}
			w.err = err
		}
	}
}

// make hands w to the attacher. mu is held.
func (s *wantedSet) make(w *wanted) error {
	spec := attach.Spec{Device: w.request.Device, TCP: w.request.TCP, RFC2217: w.request.RFC2217, Take: take(w.request.Take)}
	if w.request.Line != "" {
		settings, err := line.Parse(w.request.Line)
		if err != nil {
			return err
		}
		spec.Line = settings
	}
	if p := w.request.PTY; p != nil {
		spec.PTY = &attach.PTYSpec{Link: filepath.Clean(p.Link), Mode: fs.FileMode(p.Mode), Owner: w.nodeOwner(), Group: p.Group}
		if s.links.Allowed(spec.PTY.Link) {
			// control.link_dirs need not be there yet; below /run they never are after a boot.
			if err := os.MkdirAll(filepath.Dir(spec.PTY.Link), 0o755); err != nil {
				return fmt.Errorf("make directory of link: %w", err)
			}
		}
	}
	if other := s.at(w); other != nil {
		return fmt.Errorf("attach %q at %s: %w, of %s", w.request.Device, w.where(), attach.ErrPlaceTaken, other.said())
	}
	status, err := s.attacher.Attach(spec)
	if err != nil {
		return err
	}
	w.id, w.err = status.ID, nil
	return nil
}

// nodeOwner is whose the PTY's node shall be: what an agent of root makes for
// another user is that user's, who could not open it otherwise.
func (w *wanted) nodeOwner() string {
	if w.origin != client.OriginFile && w.user > 0 && os.Geteuid() == 0 {
		return strconv.Itoa(w.user)
	}
	return w.owner
}

// at returns the made attachment, other than w, that has w's place.
func (s *wantedSet) at(w *wanted) *wanted {
	if anyPort(w.request) {
		return nil
	}
	for _, other := range s.all {
		if other != w && other.id != "" && other.where() == w.where() {
			return other
		}
	}
	return nil
}

// said names an attachment for people.
func (w *wanted) said() string {
	if w.origin == client.OriginFile {
		return w.place
	}
	return fmt.Sprintf("%q, made by command", w.request.Device)
}

// unmake takes w from the attacher. mu is held.
func (s *wantedSet) unmake(w *wanted) {
	if w.id == "" {
		return
	}
	if err := s.attacher.Detach(w.id); err != nil && !errors.Is(err, attach.ErrNoAttachment) {
		s.log.Warn("attachment cannot be removed", "attachment", w.id, "err", err)
	}
	w.id = ""
}

// attach makes an attachment by command of user. It fails if it cannot be made
// now.
func (s *wantedSet) attach(_ context.Context, request client.AttachRequest, user int) (client.Attachment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.find(request)
	fresh := w == nil
	if fresh {
		w = &wanted{request: request, user: user, origin: client.OriginCommand}
		if request.Ephemeral {
			w.origin = client.OriginEphemeral
		}
	} else {
		if w.origin == client.OriginEphemeral && !request.Ephemeral {
			w.origin, w.user = client.OriginCommand, user
		}
		if request.Line != "" && request.Line != w.request.Line {
			return client.Attachment{}, client.Errorf(client.Exists, "detach it first", "attach %q at %s: it is there with other line settings", request.Device, w.where())
		}
		if request.Take == client.TakeForce && s.idle(w) {
			s.unmake(w)
		}
		w.request.Take, w.off = request.Take, false
	}
	if w.id == "" {
		if err := s.make(w); err != nil {
			return client.Attachment{}, controlError(err)
		}
	}
	status := s.status(w)
	if fresh {
		switch { // the same port after a restart
		case !anyPort(request):
		case request.TCP != "":
			w.request.TCP = status.Where
		default:
			w.request.RFC2217 = status.Where
		}
		s.all = append(s.all, w)
	}
	s.save()
	if s.unsaved != nil && w.origin == client.OriginCommand {
		status.Error = "it will not be there after a restart of the agent: " + s.unsaved.Error()
	}
	return status, nil
}

// find returns the wanted attachment that a request means again.
func (s *wantedSet) find(request client.AttachRequest) *wanted {
	if anyPort(request) {
		return nil
	}
	for _, w := range s.all {
		if w.where() == whereOf(request) && w.request.Device == request.Device && (w.request.RFC2217 == "") == (request.RFC2217 == "") {
			return w
		}
	}
	return nil
}

// idle reports whether nobody loses anything if w is made anew.
func (s *wantedSet) idle(w *wanted) bool {
	state := s.status(w).State
	return state != client.AttachmentConnected && state != client.AttachmentHolding
}

// detach removes an attachment by the ID that list shows. One of the file stays
// away until its entry changes or the agent starts again.
func (s *wantedSet) detach(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.all, func(w *wanted) bool { return w.shown() == id })
	if i < 0 {
		return fmt.Errorf("detach %q: %w", id, attach.ErrNoAttachment)
	}
	w := s.all[i]
	s.unmake(w)
	w.err = nil
	if w.origin == client.OriginFile {
		w.off = true
	} else {
		s.all = slices.Delete(s.all, i, i+1)
	}
	s.save()
	s.makeMissing() // another may have waited for the place
	return nil
}

// shown is the ID that people see. Where another has the place, it also has
// the ID that is made of the place.
func (w *wanted) shown() string {
	switch {
	case w.id != "":
		return w.id
	case w.origin == client.OriginFile:
		return w.key
	}
	return "waiting:" + w.where()
}

// list returns all attachments, also those that cannot be made.
func (s *wantedSet) list() []client.Attachment {
	s.mu.Lock()
	defer s.mu.Unlock()
	made := map[string]client.Attachment{}
	for _, status := range s.attacher.Statuses() {
		made[status.ID] = attachment(status)
	}
	var all []client.Attachment
	for _, w := range s.all {
		if w.off {
			continue
		}
		a, ok := made[w.id]
		if !ok {
			a = w.failed()
		}
		a.Origin = w.origin
		all = append(all, a)
	}
	return all
}

// status is that of one attachment.
func (s *wantedSet) status(w *wanted) client.Attachment {
	for _, status := range s.attacher.Statuses() {
		if status.ID == w.id {
			a := attachment(status)
			a.Origin = w.origin
			return a
		}
	}
	return w.failed()
}

func (w *wanted) failed() client.Attachment {
	a := client.Attachment{
		ID: w.shown(), Device: w.request.Device, Kind: client.KindTCP, Where: w.where(), State: client.AttachmentFailed, Origin: w.origin,
	}
	switch {
	case w.request.PTY != nil:
		a.Kind = client.KindPTY
	case w.request.RFC2217 != "":
		a.Kind = client.KindRFC2217
	}
	if w.err != nil {
		a.Error = w.err.Error()
	}
	return a
}

// retry makes what could not be made, and writes what could not be written.
func (s *wantedSet) retry() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.makeMissing()
	if s.unsaved != nil {
		s.save()
	}
}
