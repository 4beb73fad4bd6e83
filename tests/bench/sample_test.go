package bench

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
)

// sample is one figure, a line of the file of results.
type sample struct {
	Chain   string  `json:"chain"`
	Measure string  `json:"measure"`
	Round   int     `json:"round"`
	Value   float64 `json:"value"`
	Unit    string  `json:"unit"` // "s", "B", "B/s", "cores"
}

// samples are the figures of a run, in the order in which they were taken. They
// are written as they come, so that an interrupted run leaves what it had. It
// is safe for concurrent use.
type samples struct {
	mu  sync.Mutex
	all []sample
	out io.Writer // JSON lines; nil: nowhere
	err error     // the first of out
}

func (s *samples) add(chain, measure string, round int, value float64, unit string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := sample{Chain: chain, Measure: measure, Round: round, Value: value, Unit: unit}
	s.all = append(s.all, one)
	s.write(one)
}

// write writes a line of the file.
func (s *samples) write(line any) {
	if s.out == nil || s.err != nil {
		return
	}
	text, err := json.Marshal(line)
	if err == nil {
		_, err = s.out.Write(append(text, '\n'))
	}
	if err != nil {
		s.err = fmt.Errorf("write results: %w", err)
	}
}

// of returns the values of a chain's measure by round.
func (s *samples) of(chain, measure string) []float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []sample
	for _, one := range s.all {
		if one.Chain == chain && one.Measure == measure {
			found = append(found, one)
		}
	}
	slices.SortStableFunc(found, func(a, b sample) int { return cmp.Compare(a.Round, b.Round) })
	values := make([]float64, len(found))
	for i, one := range found {
		values[i] = one.Value
	}
	return values
}

// median returns the median of a measure's rounds, and false if there is none.
func (s *samples) median(chain, measure string) (float64, bool) {
	values := s.of(chain, measure)
	if len(values) == 0 {
		return 0, false
	}
	return median(values), true
}

// ratio returns the median of the rounds' ratios of two chains, and false
// unless both have each round.
func (s *samples) ratio(chain, to, measure string) (float64, bool) {
	ratios := ratios(s.of(chain, measure), s.of(to, measure))
	if len(ratios) == 0 {
		return 0, false
	}
	return median(ratios), true
}

// measures returns the names of what was measured, in the order of the first.
func (s *samples) measures() (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.all {
		if !slices.Contains(names, one.Measure) {
			names = append(names, one.Measure)
		}
	}
	return names
}

// chains returns the names of the chains, in the order of the first sample.
func (s *samples) chains() (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.all {
		if !slices.Contains(names, one.Chain) {
			names = append(names, one.Chain)
		}
	}
	return names
}

// unit returns the unit of a measure.
func (s *samples) unit(measure string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.all {
		if one.Measure == measure {
			return one.Unit
		}
	}
	return ""
}
