package naming

import (
	"errors"
	"fmt"
	"strings"
)

// ErrTemplate is wrapped by the errors of Expand.
var ErrTemplate = errors.New("not a name template")

// Expand fills a template of a device name in: {{.Node}} is the node's
// name and {{.Kind}} the device's kind, with or without spaces inside the
// braces; everything else stands for itself. These two are all there is, and
// text/template for them would keep every exported method of every library in
// the binary (3 MB).
func Expand(template, node, kind string) (string, error) {
	var out strings.Builder
	rest := template
	for {
		before, after, found := strings.Cut(rest, "{{")
		out.WriteString(before)
		if !found {
			break
		}
		field, tail, closed := strings.Cut(after, "}}")
		if !closed {
			return "", fmt.Errorf("expand name %q: %w: \"{{\" without \"}}\"", template, ErrTemplate)
		}
		switch strings.TrimSpace(field) {
		case ".Node":
			out.WriteString(node)
		case ".Kind":
			out.WriteString(kind)
		default:
			return "", fmt.Errorf("expand name %q: %w: {{%s}} is neither {{.Node}} nor {{.Kind}}", template, ErrTemplate, field)
		}
		rest = tail
	}
	if out.Len() == 0 {
		return "", fmt.Errorf("expand name %q: %w: the result is empty", template, ErrTemplate)
	}
	return out.String(), nil
}
