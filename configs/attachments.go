package configs

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/serialspan/serialspan/bridge/line"
	"github.com/serialspan/serialspan/registry/naming"
)

func (c *Config) checkAttachments(p *places) {
	links, asker := NewLinkRule(c.Control.LinkDirs), c.asker()
	first := map[string]int{}
	once := func(i int, key, where string) {
		if j, twice := first[where]; twice {
			p.addKey(key, "%s is also where attachments[%d] is; remove one", where, j)
			return
		}
		first[where] = i
	}
	for i, a := range c.Attachments {
		key := fmt.Sprintf("attachments[%d]", i)
		name, node, at := strings.Cut(a.Device, "@")
		named := deviceOrQuery.MatchString(a.Device) && naming.Valid(name) && (!at || naming.Valid(node))
		if !named && !labelQuery.MatchString(a.Device) {
			p.addKey(key+".device", "%q is no device; write NAME, NAME@NODE or LABEL=VALUE,...", a.Device)
		}
		if a.Line != "" {
			if _, err := line.Parse(a.Line); err != nil {
				p.addKey(key+".line", "%v", err)
			}
		}
		places := 0
		for _, given := range []bool{a.PTY != PTY{}, a.TCP != "", a.RFC2217 != ""} {
			if given {
				places++
			}
		}
		address, kind := cmp.Or(a.TCP, a.RFC2217), "tcp"
		if a.RFC2217 != "" {
			kind = "rfc2217"
		}
		switch {
		case places != 1:
			p.addKey(key, "write one of pty: {link: PATH}, tcp: ADDRESS and rfc2217: ADDRESS")
		case address != "":
			checkListen(p, key+"."+kind, address, a.Expose)
			if !strings.HasSuffix(address, ":0") {
				once(i, key+"."+kind, address)
			}
		case !filepath.IsAbs(a.PTY.Link):
			p.addKey(key+".pty.link", "%q must be an absolute path such as /run/serialspan/zwave", a.PTY.Link)
		default:
			if err := links.Check(asker, a.PTY.Link); err != nil {
				p.addKey(key+".pty.link", "%v", err)
			}
			once(i, key+".pty.link", filepath.Clean(a.PTY.Link))
		}
	}
}

// checkListen checks the address of an attachment.
func checkListen(p *places, key, address string, expose bool) {
	if err := CheckTCP(address); err != nil {
		p.addKey(key, "%v", err)
	} else if !IsLoopback(address) && !expose {
		p.addKey(key, "%s can be reached from other machines, without a password; write a loopback address such as 127.0.0.1:6639, or add expose: true", address)
	}
}

// CheckTCP checks an address to listen on: [IP]:PORT or localhost:PORT.
func CheckTCP(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil || host != "" && host != "localhost" && !isIP(host) {
		return fmt.Errorf("parse TCP address %q: write IP:PORT such as 127.0.0.1:6639", address)
	}
	return nil
}

// IsLoopback reports whether a TCP address to listen on can be reached from
// this machine only.
func IsLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
