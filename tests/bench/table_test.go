package bench

import (
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// show writes a value with its unit for people.
func show(value float64, unit string) string {
	switch unit {
	case "s":
		return time.Duration(value * 1e9).Round(roundTo(value)).String()
	case "B":
		return fmt.Sprintf("%.1f MB", value/1e6)
	case "cores":
		return fmt.Sprintf("%.2f %% of a core", value*100)
	case "B/s":
		return fmt.Sprintf("%.1f MB/s", value/1e6)
	}
	return fmt.Sprintf("%.3g %s", value, unit)
}

// roundTo keeps three digits of a time in seconds.
func roundTo(seconds float64) time.Duration {
	to := time.Nanosecond
	for ; math.Abs(seconds)*1e9 >= 1000*float64(to); to *= 10 {
	}
	return to
}

// column is one of the table of chains: the median over rounds of each measure
// in it.
type column struct {
	title    string
	measures []string
}

var columns = []column{
	{"1 B p50/p90/p99", []string{"rt1_p50", "rt1_p90", "rt1_p99"}},
	{"16 B p50/p90/p99", []string{"rt16_p50", "rt16_p90", "rt16_p99"}},
	{"256 B p50/p90/p99", []string{"rt256_p50", "rt256_p90", "rt256_p99"}},
	{"echo", []string{"echo"}},
	{"one way", []string{"stream"}},
	{"CPU/MB one way", []string{"cpu_per_MB_stream"}},
	{"CPU/1000 of 16 B", []string{"cpu_per_1000_rt_16"}},
	{"RSS idle all/largest", []string{"rss_idle", "rss_idle_largest"}},
	{"RSS after all/largest", []string{"rss_after", "rss_after_largest"}},
}

// chainTable writes a line for each chain: medians over rounds, and how many
// times another chain's round trip its own is (the median of the rounds'
// ratios).
func chainTable(w io.Writer, s *samples, kinds []chainKind, missing map[string]string) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(table, "chain")
	for _, c := range columns {
		fmt.Fprint(table, "\t"+c.title)
	}
	fmt.Fprintln(table, "\t16 B p50 × installed, plain, wireguard")
	for _, kind := range kinds {
		fmt.Fprint(table, kind.title)
		if reason := missing[kind.name]; reason != "" {
			fmt.Fprintln(table, "\t"+reason)
			continue
		}
		for _, c := range columns {
			fmt.Fprint(table, "\t"+cell(s, kind.name, c))
		}
		var times []string
		for _, to := range []string{chainInstalled, chainPlain, chainWireGuard} {
			text := "–"
			if r, ok := s.ratio(kind.name, to, "rt16_p50"); ok {
				text = fmt.Sprintf("%.2f", r)
			}
			times = append(times, text)
		}
		fmt.Fprintln(table, "\t"+strings.Join(times, ", "))
	}
	_ = table.Flush()
}

func cell(s *samples, chain string, c column) string {
	var parts []string
	for _, m := range c.measures {
		text := "–"
		if v, ok := s.median(chain, m); ok {
			text = show(v, s.unit(m))
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, " ")
}

// listTable writes a line for each measure of each chain.
func listTable(w io.Writer, s *samples) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "chain\tmeasure\tmedian\tlowest\thighest")
	for _, chain := range s.chains() {
		for _, m := range s.measures() {
			if values := s.of(chain, m); len(values) > 0 {
				unit := s.unit(m)
				fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", chain, m, show(median(values), unit), show(quantile(values, 0), unit), show(quantile(values, 1), unit))
			}
		}
	}
	_ = table.Flush()
}

// target is a bound on the median of the rounds' ratios of two chains, or,
// where to is "", on the median itself.
type target struct {
	what      string
	chain, to string
	measure   string
	bound     float64
	atLeast   bool
}

// targets are those of the chains; DESIGN section 8 has their origin.
var targets = []target{
	{what: "16 B median, own tunnel × plain ser2net", chain: chainTunnel, to: chainPlain, measure: "rt16_p50", bound: 1.5},
	{what: "16 B median, own tunnel × wireguard-go", chain: chainTunnel, to: chainWireGuard, measure: "rt16_p50", bound: 0.75},
	{what: "16 B median, own tunnel × as installed", chain: chainTunnel, to: chainInstalled, measure: "rt16_p50", bound: 0.12},
	{what: "16 B median, trusted link × plain ser2net", chain: chainTrusted, to: chainPlain, measure: "rt16_p50", bound: 1},
	{what: "16 B p99, own tunnel × plain ser2net", chain: chainTunnel, to: chainPlain, measure: "rt16_p99", bound: 1.6},
	{what: "16 B p99, own tunnel × wireguard-go", chain: chainTunnel, to: chainWireGuard, measure: "rt16_p99", bound: 0.9},
	{what: "16 B p99, own tunnel × as installed", chain: chainTunnel, to: chainInstalled, measure: "rt16_p99", bound: 0.15},
	{what: "16 B p99, trusted link × plain ser2net", chain: chainTrusted, to: chainPlain, measure: "rt16_p99", bound: 1.1},
	{what: "echo, own tunnel × plain ser2net", chain: chainTunnel, to: chainPlain, measure: "echo", bound: 2.5, atLeast: true},
	{what: "CPU per 1,000 of 16 B, own tunnel × wireguard-go", chain: chainTunnel, to: chainWireGuard, measure: "cpu_per_1000_rt_16", bound: 1},
	{what: "RSS of the larger agent, idle", chain: chainTunnel, measure: "rss_idle_largest", bound: 20e6},
	{what: "RSS of the larger agent, after the load", chain: chainTunnel, measure: "rss_after_largest", bound: 28e6},
	{what: "CPU of the busiest of 3 idle agents", chain: chainEvents, measure: "idle_cpu", bound: 0.003},
	{what: "start of the consumer to the first echo", chain: chainEvents, measure: "start_consumer", bound: 1},
	{what: "start of the edge to a device usable elsewhere", chain: chainEvents, measure: "start_edge", bound: 1},
	{what: "resume after the path is back", chain: chainEvents, measure: "resume", bound: 0.2},
	{what: "direct path lost to data by relay", chain: chainEvents, measure: "direct_to_relay", bound: 1},
	{what: "replug to the next echo", chain: chainEvents, measure: "replug", bound: 1},
}

// targetTable writes which targets are reached, of those that were measured.
func targetTable(w io.Writer, s *samples) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\ntarget\tis\twanted\t\trounds, lowest to highest")
	lines := 0
	for _, t := range targets {
		values, format := s.of(t.chain, t.measure), "%.3f"
		if t.to != "" {
			values = ratios(values, s.of(t.to, t.measure))
		}
		if len(values) == 0 {
			continue
		}
		lines++
		text := func(v float64) string {
			if t.to != "" {
				return fmt.Sprintf(format, v)
			}
			return show(v, s.unit(t.measure))
		}
		is, sign, verdict := median(values), "≤", "reached"
		if t.atLeast {
			sign = "≥"
		}
		if t.atLeast == (is < t.bound) && is != t.bound {
			verdict = "NOT reached"
		}
		fmt.Fprintf(table, "%s\t%s\t%s %s\t%s\t%s … %s\n", t.what, text(is), sign, text(t.bound), verdict, text(quantile(values, 0)), text(quantile(values, 1)))
	}
	if lines > 0 {
		_ = table.Flush()
	}
}

func TestTargetTable(t *testing.T) {
	s := &samples{}
	for round, v := range []float64{1.4, 1.6, 1.5} { // the median is just reached
		s.add(chainTunnel, "rt16_p50", round, v*1e-4, "s")
		s.add(chainPlain, "rt16_p50", round, 1e-4, "s")
		s.add(chainTunnel, "echo", round, 2, "B/s")
		s.add(chainPlain, "echo", round, 1, "B/s")
	}
	s.add(chainTunnel, "rss_idle_largest", 0, 21e6, "B")
	var text strings.Builder
	targetTable(&text, s)
	got := strings.Join(strings.Fields(text.String()), " ")
	for _, want := range []string{
		"plain ser2net 1.500 ≤ 1.500 reached 1.400 … 1.600",
		"plain ser2net 2.000 ≥ 2.500 NOT reached 2.000 … 2.000",
		"idle 21.0 MB ≤ 20.0 MB NOT reached",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, text.String())
		}
	}
	if lines := strings.Count(text.String(), "\n"); lines != 2+3 {
		t.Errorf("%d lines:\n%s", lines, text.String())
	}
}

func TestShow(t *testing.T) {
	for want, is := range map[string]struct {
		value float64
		unit  string
	}{
		"314µs": {0.00031449, "s"}, "3.29ms": {0.0032912, "s"}, "1.23s": {1.2349, "s"}, "850ns": {8.5e-7, "s"}, "-4.7ms": {-0.004697181, "s"},
		"14.2 MB": {14.23e6, "B"}, "6.1 MB/s": {6.12e6, "B/s"}, "0.25 % of a core": {0.0025, "cores"},
	} {
		if got := show(is.value, is.unit); got != want {
			t.Errorf("%v %s is shown as %s, want %s", is.value, is.unit, got, want)
		}
	}
}
