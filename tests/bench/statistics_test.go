package bench

import (
	"math"
	"slices"
	"testing"
)

// quantile returns the q-th quantile of values by nearest rank; values are not
// empty and need no order.
func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

// median returns the middle, of an even number the mean of the two.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// ratios returns a[i]/b[i]; nil if they do not pair up.
func ratios(a, b []float64) []float64 {
	if len(a) != len(b) {
		return nil
	}
	quotients := make([]float64, len(a))
	for i := range a {
		quotients[i] = a[i] / b[i]
	}
	return quotients
}

// signedRank returns the two-sided p of Wilcoxon's signed-rank test that ratios
// scatter evenly around 1, of which the logarithms are ranked: how likely
// differences as clear as these are without any cause. It is exact: all 2^n
// signs of n ranks are counted, ties at their mean rank. The rounds are paired,
// so the machine's moods cancel out. 5 rounds cannot get below 0.063, 8 reach
// 0.008, 10 reach 0.002.
func signedRank(ratios []float64) float64 {
	var logs []float64
	for _, r := range ratios {
		if l := math.Log(r); l != 0 {
			logs = append(logs, l)
		}
	}
	n := len(logs)
	if n == 0 {
		return 1
	}
	slices.SortFunc(logs, func(a, b float64) int {
		switch {
		case math.Abs(a) < math.Abs(b):
			return -1
		case math.Abs(a) > math.Abs(b):
			return 1
		}
		return 0
	})
	// Twice the ranks, so that those of ties are whole.
	ranks, total, above := make([]int, n), 0, 0
	for i := 0; i < n; {
		j := i
		for j < n && math.Abs(logs[j]) == math.Abs(logs[i]) {
			j++
		}
		for k := i; k < j; k++ {
			ranks[k] = i + j + 1
			total += ranks[k]
			if logs[k] > 0 {
				above += ranks[k]
			}
		}
		i = j
	}
	// ways[w]: in how many of the 2^n signs the positive ranks sum up to w.
	ways := make([]float64, total+1)
	ways[0] = 1
	for _, r := range ranks {
		for w := total; w >= r; w-- {
			ways[w] += ways[w-r]
		}
	}
	extreme := 0.0
	for w := 0; w <= min(above, total-above); w++ {
		extreme += ways[w]
	}
	return min(1, 2*extreme/math.Pow(2, float64(n)))
}

func TestQuantile(t *testing.T) {
	var hundred []float64
	for i := range 100 {
		hundred = append(hundred, float64(100-i))
	}
	for q, want := range map[float64]float64{0: 1, 0.5: 50, 0.9: 90, 0.99: 99, 1: 100} {
		if got := quantile(hundred, q); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	for _, c := range []struct {
		values []float64
		want   float64
	}{{[]float64{3}, 3}, {[]float64{4, 1}, 2.5}, {[]float64{9, 1, 2}, 2}} {
		if got := median(c.values); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.values, got, c.want)
		}
	}
}

// The exact distribution is in any table: of n untied ranks, sums up to w have
// a share that is counted by hand here.
func TestSignedRank(t *testing.T) {
	for _, c := range []struct {
		name   string
		ratios []float64
		want   float64
	}{
		{"nothing", nil, 1},
		{"no difference", []float64{1, 1, 1}, 1},
		{"all slower", []float64{1.1, 1.2, 1.3, 1.4, 1.5}, 2.0 / 32},
		{"all faster", []float64{0.9, 0.8, 0.7, 0.6, 0.5}, 2.0 / 32},
		{"the smallest against", []float64{0.99, 1.2, 1.3, 1.4, 1.5}, 2 * 2.0 / 32}, // sums 0 and 1
		{"balanced", []float64{2, 0.5}, 1},
		{"eight", []float64{2, 3, 4, 5, 6, 7, 8, 9}, 2.0 / 256},
		{"tied", []float64{2, 2, 2, 2}, 2.0 / 16},
	} {
		if got := signedRank(c.ratios); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%s: p is %v, want %v", c.name, got, c.want)
		}
	}
}
