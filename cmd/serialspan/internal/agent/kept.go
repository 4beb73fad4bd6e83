package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/serialspan/serialspan/bridge/client"
)

// load makes the attachments that were made by command in earlier runs. What a
// link is allowed for is asked again: the directory may have another owner now.
func (s *wantedSet) load() {
	s.mu.Lock()
	defer s.mu.Unlock()
	var file kept
	err := readState(s.dir, keptFile, &file)
	if err == nil && file.Version > 1 {
		err = fmt.Errorf("read state %q: version %d is of a newer agent", keptFile, file.Version)
	}
	if err != nil {
		// It is moved away, so that the next one made does not overwrite it.
		path := filepath.Join(s.dir, keptFile)
		s.log.Warn("attachments made by command are lost; the file is kept as "+keptFile+".broken", "path", path, "err", errors.Join(err, os.Rename(path, path+".broken")))
		return
	}
	for _, row := range file.Attachments {
		w := &wanted{request: row.AttachRequest, user: row.User, origin: client.OriginCommand}
		if p := row.PTY; p != nil {
			if err := s.links.Check(row.User, p.Link); err != nil {
				s.log.Warn("attachment made by command is not allowed any more and forgotten", "attachment", p.Link, "err", err)
				continue
			}
		}
		s.all = append(s.all, w)
	}
	s.makeMissing()
}

// save writes the attachments made by command, if they have changed. mu is held.
func (s *wantedSet) save() {
	file := kept{Version: 1, Attachments: []keptRow{}}
	for _, w := range s.all {
		if w.origin == client.OriginCommand {
			row := keptRow{AttachRequest: w.request, User: w.user}
			row.Take = client.TakeNormal // force was meant once
			if w.request.Take == client.TakePolite {
				row.Take = client.TakePolite
			}
			file.Attachments = append(file.Attachments, row)
		}
	}
	if !s.changed(file) {
		s.unsaved = nil
		return
	}
	err := writeState(s.dir, keptFile, file)
	if err != nil && s.unsaved == nil {
		s.log.Warn("attachments made by command cannot be kept", "err", err)
	}
	s.unsaved = err
}

// changed reports whether file is not what is on disk.
func (s *wantedSet) changed(file kept) bool {
	data, err := os.ReadFile(filepath.Join(s.dir, keptFile))
	if err != nil {
		return len(file.Attachments) > 0 || !errors.Is(err, os.ErrNotExist)
	}
	want, err := json.MarshalIndent(file, "", "  ")
	return err != nil || !bytes.Equal(bytes.TrimSpace(data), want)
}

// problems says which attachments cannot be made, and whether those made by
// command will be there after a restart.
func (s *wantedSet) problems() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, w := range s.all {
		status := s.status(w)
		if w.off || status.State != client.AttachmentFailed {
			continue
		}
		name := "attachment " + w.where()
		if w.origin == client.OriginFile {
			name = w.place
		}
		all = append(all, name+": "+status.Error)
	}
	if s.unsaved != nil {
		all = append(all, "state directory: attachments made by command will be lost at a restart: "+s.unsaved.Error()+"; free or repair the disk")
	}
	return all
}
