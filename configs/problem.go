package configs

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Problem is one mistake in a configuration. Load and Validate return all of
// them at once, joined by errors.Join; errors.As finds the first.
type Problem struct {
	Source string // the file, or "environment" and the variable; "" if unknown
	Line   int    // from 1; 0 if the source has no lines
	Key    string // "devices.rules[1].line"; "" for the file as a whole
	Text   string // what is wrong and what to write instead
}

// Error returns one line: source:line: key: text.
func (p *Problem) Error() string {
	var b strings.Builder
	if p.Source != "" {
		b.WriteString(p.Source)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d", p.Line)
		}
		b.WriteString(": ")
	}
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	b.WriteString(p.Text)
	return b.String()
}

// place is where a key was written.
type place struct {
	source string
	line   int
}

// places collects where keys were written and what is wrong with them.
type places struct {
	at       map[string]place
	problems []*Problem
}

// String returns "FILE:LINE", the source alone where it has no lines.
func (p place) String() string {
	if p.line == 0 {
		return p.source
	}
	return fmt.Sprintf("%s:%d", p.source, p.line)
}

func newPlaces() *places { return &places{at: map[string]place{}} }

func (p *places) add(where place, key, format string, args ...any) {
	p.problems = append(p.problems, &Problem{Source: where.source, Line: where.line, Key: key, Text: fmt.Sprintf(format, args...)})
}

// addKey adds a problem at the place of key, or of the nearest key around it
// that was written.
func (p *places) addKey(key, format string, args ...any) {
	p.add(p.find(key), key, format, args...)
}

func (p *places) find(key string) place {
	for key != "" {
		if where, ok := p.at[key]; ok {
			return where
		}
		key = key[:max(0, strings.LastIndexAny(key, ".["))]
	}
	return p.at[""]
}

// texts returns the places for Config.At.
func (p *places) texts() map[string]string {
	all := make(map[string]string, len(p.at))
	for key, where := range p.at {
		all[key] = where.String()
	}
	return all
}

// err returns the problems in the order of their lines, nil if there are none.
func (p *places) err() error {
	slices.SortStableFunc(p.problems, func(a, b *Problem) int {
		return cmp.Or(strings.Compare(a.Source, b.Source), a.Line-b.Line)
	})
	var all []error
	for _, problem := range p.problems {
		all = append(all, problem)
	}
	return errors.Join(all...)
}

// nearest returns the candidate with the smallest edit distance to word, ""
// if none is near enough to be meant: a third of the letters, at least 2.
func nearest(word string, candidates []string) string {
	best, bestDistance := "", max(2, len(word)/3)+1
	for _, c := range candidates {
		if d := distance(strings.ToLower(word), c); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance is Levenshtein's: inserted, removed and replaced bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
