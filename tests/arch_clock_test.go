package tests

import (
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"slices"
	"testing"
)

// wallReads are the only places where a reading of the wall clock may come out
// of a time.Time, or go in: law 1 of DESIGN section 4. Everything else measures
// with time.Now and time.Since, which compare monotonic readings as long as
// nothing strips them.
var wallReads = []exception{
	{"bridge/use/rest.go", []string{"unix.ClockGettime"}, "CLOCK_MONOTONIC, whose readings two processes can compare: the age of bytes goes on over a restart"},
	{"cmd/serialspan/doctor_machine.go", []string{"time.Parse"}, "doctor tells a person that the clock stands before the program was made"},
	{"cmd/serialspan/doctor_hardware.go", []string{"Time.UTC", "time.Unix", "Time.Format"}, "doctor tells a person the same of the hardware clock"},
	{"mesh/config.go", []string{"time.Now as a value"}, "the default of Config.Wall, which the uses below share"},
	{"mesh/control.go", []string{"call of Wall", "Time.UnixNano"}, "skew for people: each answer to a probe tells our clock"},
	{"mesh/ping.go", []string{"call of Wall", "Time.UnixNano"}, "skew for people: an answer to a ping tells our clock"},
	{"mesh/internal/gossip/repair.go", []string{"== of times"}, "is a copy still what it was copied from; both monotonic"},
	{"mesh/internal/gossip/transport.go", []string{"struct field Timestamp"}, "memberlist measures a round trip from it; monotonic"},
	{"mesh/kubespan/peers.go", []string{"struct field LastHandshakeTime", "Time.UnixNano"}, "has the kernel's value changed; no age is computed from it"},
	{"mesh/internal/tunnel/tunnel.go", []string{"time.Now as a value"}, "the default of Config.Wall"},
	{"mesh/internal/tunnel/bind.go", []string{"call of Wall", "Time.Round"}, "did our own clock go back since our last handshake (DESIGN section 6)"},
	{"mesh/internal/quicnet/tls.go", []string{"time.Unix", "time.Date", "Time.UTC", "struct field NotBefore", "struct field NotAfter"}, "fixed dates of a certificate that nobody checks, and TLS's clock, which stands still"},
}

// monotonic are the functions of package time that give no wall reading away.
var monotonic = []string{"Now", "Since", "Until", "After", "AfterFunc", "Sleep", "NewTimer", "NewTicker", "Tick", "ParseDuration"}

// monotonicMethods are those of time.Time.
var monotonicMethods = []string{"Add", "Sub", "Before", "After", "Compare", "Equal", "IsZero"}

func TestArchClock(t *testing.T) {
	var findings []finding
	for _, p := range program(t) {
		findings = append(findings, wallClock(p)...)
	}
	report(t, unexcused(findings, wallReads))
}

// wallClock finds what could let the wall clock decide something: a time made
// from a wall reading (time.Unix, a file's date, a field of a message), a
// reading taken out of a time (Format, UnixNano, ==), a clock passed as a
// function, and the system's clock itself.
func wallClock(p *typed) []finding {
	var found []finding
	note := func(at ast.Node, what string) {
		found = append(found, p.find(at, what, "%s: no decision reads the wall clock; if this one makes none, add it to wallReads", what))
	}
	called, past := map[ast.Expr]bool{}, map[ast.Expr]bool{}
	p.each(func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			fun := ast.Unparen(n.Fun)
			called[fun] = true
			if s, ok := fun.(*ast.SelectorExpr); ok && len(n.Args) == 1 && slices.Contains([]string{"SetDeadline", "SetReadDeadline", "SetWriteDeadline"}, s.Sel.Name) {
				// A deadline long ago: time.Unix(1, 0).
				if when, ok := n.Args[0].(*ast.CallExpr); ok && len(when.Args) == 2 && p.isOne(when.Args[0]) {
					past[ast.Unparen(when.Fun)] = true
				}
			}
			if name, ok := p.clockVariable(fun); ok {
				note(n, "call of "+name)
			}
		case *ast.SelectorExpr:
			if what := p.wallSelector(n, called[n]); what != "" && !past[n] {
				note(n, what)
			}
		case *ast.BinaryExpr:
			if (n.Op == token.EQL || n.Op == token.NEQ) && isTime(p.info.TypeOf(n.X)) {
				note(n, "== of times")
			}
		case *ast.KeyValueExpr:
			if key, ok := n.Key.(*ast.Ident); ok {
				if v, ok := p.info.Uses[key].(*types.Var); ok && v.IsField() && isTime(v.Type()) && !p.isOurs(v) {
					note(n, "struct field "+v.Name())
				}
			}
		case *ast.StructType:
			for _, f := range n.Fields.List {
				if f.Tag != nil && holdsTime(p.info.TypeOf(f.Type)) {
					note(f, "time in a message")
				}
			}
		}
		return true
	})
	return found
}

// isOne tells whether the expression is the constant 1.
func (p *typed) isOne(e ast.Expr) bool {
	v := p.info.Types[e].Value
	return v != nil && constant.Compare(v, token.EQL, constant.MakeInt64(1))
}

// isOurs tells whether the object is declared in this module.
func (p *typed) isOurs(o types.Object) bool {
	return o.Pkg() != nil && below(module, o.Pkg().Path())
}

// clockVariable tells whether a called expression is a variable of type
// func() time.Time: a clock that was handed in.
func (p *typed) clockVariable(fun ast.Expr) (name string, ok bool) {
	var id *ast.Ident
	switch fun := fun.(type) {
	case *ast.Ident:
		id = fun
	case *ast.SelectorExpr:
		id = fun.Sel
	default:
		return "", false
	}
	v, ok := p.info.Uses[id].(*types.Var)
	if !ok {
		return "", false
	}
	s, ok := v.Type().Underlying().(*types.Signature)
	return id.Name, ok && s.Params().Len() == 0 && s.Results().Len() == 1 && isTime(s.Results().At(0).Type())
}

// wallSelector names what a selector takes from a wall clock, "" for nothing.
func (p *typed) wallSelector(s *ast.SelectorExpr, called bool) string {
	switch o := p.info.Uses[s.Sel].(type) {
	case *types.Func:
		receiver := o.Signature().Recv()
		switch path := o.Pkg(); {
		case path == nil || p.isOurs(o):
		case path.Path() == "time" && receiver == nil:
			if !slices.Contains(monotonic, o.Name()) {
				return "time." + o.Name()
			}
			if o.Name() == "Now" && !called {
				return "time.Now as a value"
			}
		case path.Path() == "time":
			if isTime(receiver.Type()) && !slices.Contains(monotonicMethods, o.Name()) {
				return "Time." + o.Name()
			}
		case path.Path() == "syscall" || path.Path() == "golang.org/x/sys/unix":
			if slices.Contains([]string{"ClockGettime", "Gettimeofday", "Time", "Adjtimex", "ClockAdjtime"}, o.Name()) {
				return path.Name() + "." + o.Name()
			}
		case o.FullName() != "(context.Context).Deadline":
			for v := range o.Signature().Results().Variables() {
				if holdsTime(v.Type()) {
					return path.Name() + "'s " + o.Name()
				}
			}
		}
	case *types.Var:
		if o.IsField() && !p.isOurs(o) && (holdsTime(o.Type()) && o.Pkg().Path() != "time" || slices.Contains([]string{"Mtim", "Ctim", "Atim", "Btime"}, o.Name())) {
			return "struct field " + o.Name()
		}
	}
	return ""
}

func isTime(t types.Type) bool {
	if t == nil {
		return false
	}
	if pointer, ok := t.(*types.Pointer); ok {
		t = pointer.Elem()
	}
	named, ok := t.(*types.Named)
	return ok && named.Obj().Name() == "Time" && named.Obj().Pkg() != nil && named.Obj().Pkg().Path() == "time"
}

// holdsTime tells whether the type is a time or a list or map of times.
func holdsTime(t types.Type) bool {
	switch u := t.(type) {
	case *types.Slice:
		return holdsTime(u.Elem())
	case *types.Array:
		return holdsTime(u.Elem())
	case *types.Map:
		return holdsTime(u.Elem()) || holdsTime(u.Key())
	}
	return isTime(t)
}

func TestArchClockBites(t *testing.T) {
	wantFindings(t, wallClock(fixture(t, `package fixture

import (
	"crypto/x509"
	"net"
	"os"
	"syscall"
	"time"
)

type message struct {
	At   time.Time `+"`json:\"at\"`"+`
	Took time.Duration `+"`json:\"took\"`"+`
}

var clock = time.Now

func fine(conn net.Conn, began time.Time) bool {
	conn.SetDeadline(time.Unix(1, 0))
	conn.SetDeadline(time.Now().Add(time.Second))
	return time.Since(began) > time.Minute || began.Before(time.Now()) || began.IsZero()
}

func wrong(c *x509.Certificate, began time.Time, info os.FileInfo) {
	_ = time.Now().Unix()
	_ = time.Now().Round(0)
	_ = began.Format(time.Kitchen)
	_ = time.Unix(2, 0)
	_ = clock()
	_ = began == c.NotAfter
	_ = info.ModTime()
	_ = syscall.Gettimeofday(nil)
	_ = x509.Certificate{NotBefore: began}
}
`)), "time in a message", "time.Now as a value", "Time.Unix", "Time.Round", "Time.Format", "time.Unix", "call of clock",
		"== of times", "struct field NotAfter", "fs's ModTime", "syscall.Gettimeofday", "struct field NotBefore")

	findings := []finding{{file: "a/b.go", line: 7, what: "x", text: "x is wrong"}}
	if got := unexcused(findings, nil); len(got) != 1 || got[0] != "a/b.go:7: x is wrong" {
		t.Errorf("without an exception: %q", got)
	}
	if got := unexcused(findings, []exception{{"a/b.go", []string{"x"}, "why"}}); len(got) != 0 {
		t.Errorf("with its exception: %q", got)
	}
	if got := unexcused(findings, []exception{{"a/b.go", []string{"x", "y"}, "why"}}); len(got) != 1 {
		t.Errorf("an exception that nothing needs: %q", got)
	}
}
