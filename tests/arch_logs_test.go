package tests

import (
	"cmp"
	"go/ast"
	"go/constant"
	"go/types"
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// logKeys are the keys of log attributes, one meaning each, for whoever greps a
// log or counts in it. A new one goes here first; look whether an old one fits.
var logKeys = map[string]string{
	"err":  "the cause, an error",
	"node": "a member: its NodeID, short or whole; its name where that is what the event is about",
	"id":   "this node's NodeID, next to its name, at the start",

	"device":     "a device's name",
	"attachment": "an attachment: its ID, or where it is",
	"session":    "a session's ID",
	"kind":       "kind of attachment at the consumer's end",
	"path":       "a file: a tty, a link, the configuration; in package mesh the way to a member",
	"line":       "line settings",
	"profile":    "a profile's name",
	"recipe":     "a reset recipe's name",
	"steps":      "steps of a signal, a count",
	"users":      "the other users of a device",
	"hold":       "how long something is held, a duration",
	"offset":     "byte of a session where it goes on",
	"resumed":    "what a resume sent again",
	"lost":       "bytes lost at most, a count",
	"unknown":    "whether nobody can count what was lost",
	"bytes":      "bytes, a count",
	"sent":       "bytes sent, a count",
	"received":   "bytes received, a count",

	"address":  "an address that is no endpoint of a member: a mesh address, a listener, a client",
	"endpoint": "UDP address of a member",
	"listen":   "UDP address of this node",
	"link":     "a network link's name",
	"links":    "network links' names",
	"down":     "whether a path was lost and none took its place",
	"epoch":    "epoch of a node record",
	"was":      "the epoch before it changed",
	"sequence": "sequence of a node record",
	"kept":     "how many of a damaged list were kept",
	"limit":    "the most there may be",
	"unused":   "how many were over the limit",
	"protocol": "a stream protocol's name",
	"round":    "which connection between two members it is",
	"dialed":   "whether this node dialed it",
	"present":  "whether there is a KubeSpan",
	"mtu":      "bytes that fit a packet",
	"peers":    "KubeSpan's peers, a count",

	"key":         "key number of a cluster secret",
	"fingerprint": "fingerprint of a cluster secret",
	"members":     "members that have it, a count",
	"missing":     "members that do not, a count",
	"user":        "user ID of who asked for it",

	"action":  "what the kernel says happened",
	"detail":  "a library's own words",
	"reason":  "why, in words, where it is no error",
	"request": "method and path of a control request",
	"version": "a software version",
}

func TestArchLogs(t *testing.T) {
	var findings []finding
	used := map[string]bool{}
	for _, p := range program(t) {
		keys, found := logAttributes(p)
		findings = append(findings, found...)
		for _, k := range keys {
			used[k] = true
		}
	}
	report(t, unexcused(findings, nil))
	for _, key := range slices.Sorted(maps.Keys(logKeys)) {
		if !used[key] {
			t.Errorf("log key %q: nothing uses it any more, take it from logKeys", key)
		}
	}
}

// firstAttribute is the index of the first key in the arguments of slog's
// methods and functions.
var firstAttribute = map[string]int{
	"Debug": 1, "Info": 1, "Warn": 1, "Error": 1, "With": 0, "Log": 3, "Group": 1,
	"DebugContext": 2, "InfoContext": 2, "WarnContext": 2, "ErrorContext": 2, "LogAttrs": 3,
}

// makesAttribute are the functions of slog whose first argument is a key.
var makesAttribute = []string{"Any", "Bool", "Duration", "Float64", "Group", "Int", "Int64", "String", "Time", "Uint64"}

// logAttributes returns the keys of all log calls, and what is wrong with them:
// a key that is in no list or no constant, an event that begins like a sentence.
func logAttributes(p *typed) (keys []string, found []finding) {
	key := func(e ast.Expr) {
		v := p.info.Types[e].Value
		if v == nil || v.Kind() != constant.String {
			found = append(found, p.find(e, "key", "log key is no constant"))
			return
		}
		k := constant.StringVal(v)
		if keys = append(keys, k); logKeys[k] == "" {
			found = append(found, p.find(e, "key "+k, "log key %q is not in logKeys of arch_logs_test.go", k))
		}
	}
	pairs := func(args []ast.Expr) {
		for i := 0; i < len(args); i++ {
			if !p.isA(args[i], "log/slog.Attr") {
				key(args[i])
				i++ // its value
			}
		}
	}
	p.each(func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		name, ok := p.slogCall(call)
		if !ok {
			return true
		}
		if slices.Contains(makesAttribute, name) {
			key(call.Args[0])
		}
		first, ok := firstAttribute[name]
		if !ok || len(call.Args) < first {
			return true
		}
		if first > 0 && name != "Group" {
			v := p.info.Types[call.Args[first-1]].Value
			if v != nil && strings.IndexFunc(constant.StringVal(v), unicode.IsUpper) == 0 {
				found = append(found, p.find(call, "event", "log event %s begins with a capital", v))
			}
		}
		args := call.Args[first:]
		if call.Ellipsis.IsValid() {
			list, ok := p.attributeList(args[len(args)-1])
			if !ok {
				found = append(found, p.find(call, "list", "log attributes come from where this check cannot follow: write them out"))
			}
			args = slices.Concat(args[:len(args)-1], list)
		}
		pairs(args)
		return true
	})
	return keys, found
}

// slogCall returns the name of the function or method of package slog that is
// called.
func (p *typed) slogCall(call *ast.CallExpr) (name string, ok bool) {
	s, ok := ast.Unparen(call.Fun).(*ast.SelectorExpr)
	if !ok {
		return "", false
	}
	f, ok := p.info.Uses[s.Sel].(*types.Func)
	if !ok || f.Pkg() == nil || f.Pkg().Path() != "log/slog" {
		return "", false
	}
	if r := f.Signature().Recv(); r != nil && r.Type().String() != "*log/slog.Logger" {
		return "", false
	}
	return f.Name(), true
}

// isA tells whether the expression has the named type.
func (p *typed) isA(e ast.Expr, name string) bool {
	t := p.info.TypeOf(e)
	return t != nil && t.String() == name
}

// attributeList returns the elements of a list of attributes: a literal, a local
// variable that is assigned literals, an append to such.
func (p *typed) attributeList(e ast.Expr) (elements []ast.Expr, ok bool) {
	switch e := ast.Unparen(e).(type) {
	case *ast.CompositeLit:
		return e.Elts, true
	case *ast.CallExpr:
		if f, isName := e.Fun.(*ast.Ident); isName && f.Name == "append" && !e.Ellipsis.IsValid() {
			elements, ok = p.attributeList(e.Args[0])
			return slices.Concat(elements, e.Args[1:]), ok
		}
	case *ast.Ident:
		variable := p.info.ObjectOf(e)
		p.each(func(n ast.Node) bool {
			assign, isAssign := n.(*ast.AssignStmt)
			if !isAssign || len(assign.Lhs) != 1 || len(assign.Rhs) != 1 {
				return true
			}
			to, isName := assign.Lhs[0].(*ast.Ident)
			if !isName || p.info.ObjectOf(to) != variable {
				return true
			}
			if literal, isLiteral := assign.Rhs[0].(*ast.CompositeLit); isLiteral {
				elements, ok = append(elements, literal.Elts...), true
			}
			return true
		})
		return elements, ok
	}
	return nil, false
}

func TestArchLogsBites(t *testing.T) {
	keys, found := logAttributes(fixture(t, `package fixture

import (
	"context"
	"log/slog"
)

func fine(log *slog.Logger, err error) {
	log.With("node", "x").Info("member came", "endpoint", "y", slog.Any("err", err))
	log.Log(context.Background(), slog.LevelDebug, "event")
	attributes := []any{"device", 1}
	log.Warn("event", append(attributes, "lost", 7)...)
}

func wrong(log *slog.Logger, key string, list []any) {
	log.Info("event", "nodeid", "x")
	log.Info("event", key, "x")
	log.Info("event", list...)
	log.Info("Event.")
	log.Info("event", slog.Int("colour", 3))
	slog.Info("event", "err", 1, "flavour", 2)
}
`))
	wantFindings(t, found, "key nodeid", "key", "list", "event", "key colour", "key flavour")
	slices.SortFunc(keys, cmp.Compare)
	if want := []string{"colour", "device", "endpoint", "err", "err", "flavour", "lost", "node", "nodeid"}; !slices.Equal(keys, want) {
		t.Errorf("keys are %q, want %q", keys, want)
	}
}
