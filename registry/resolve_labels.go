package registry

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// kindLabel is a label that every device has: its kind, unless it has a label of
// that name.
const kindLabel = "kind"

// isLabels tells a query for labels from one for a name, which has no "=".
func isLabels(query string) bool { return strings.Contains(query, "=") }

// resolveLabels finds the one device that has all labels of a query like
// "zone=garage,kind=zwave". Of several the one that is here is meant, if it is
// only one.
func (r *Registry) resolveLabels(now time.Duration, query string) (Status, error) {
	wanted := map[string]string{}
	for term := range strings.SplitSeq(query, ",") {
		key, value, _ := strings.Cut(term, "=")
		wanted[strings.TrimSpace(key)] = strings.TrimSpace(value)
	}
	var here, away []Status
	for name, owners := range r.names {
		holder := r.holder(now, name)
		for _, h := range owners {
			if !h.device.hasLabels(wanted) {
				continue
			}
			if s := r.status(now, h, holder); s.Device.State == StateAway {
				away = append(away, s)
			} else {
				here = append(here, s)
			}
		}
	}
	switch {
	case len(here) == 1:
		return here[0], nil
	case len(here) == 0 && len(away) == 0:
		return Status{}, &NotFoundError{Query: query}
	case len(here) == 0 && len(away) == 1:
		return Status{}, &AwayError{Query: query, Device: away[0]}
	}
	e := &AmbiguousError{Query: query}
	for _, s := range slices.SortedFunc(slices.Values(slices.Concat(here, away)), func(a, b Status) int {
		return cmp.Or(cmp.Compare(a.Device.Name, b.Device.Name), a.Owner.Compare(b.Owner))
	}) {
		text := s.Device.Name
		if !s.Holder {
			text += "@" + s.Owner.String()
		}
		e.Candidates = append(e.Candidates, text)
	}
	return Status{}, e
}

// hasLabels reports whether the device has all that are wanted.
func (d *Device) hasLabels(wanted map[string]string) bool {
	for key, value := range wanted {
		have, ok := d.Labels[key]
		if !ok && key == kindLabel {
			have, ok = d.Kind, true
		}
		if !ok || have != value {
			return false
		}
	}
	return true
}
