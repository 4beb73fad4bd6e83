package main

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// columnGap is what stands between two columns.
const columnGap = "  "

// table is lines of columns for people. On a terminal that is too narrow the
// widest columns are cut; into a pipe nothing is.
type table struct {
	header []string
	rows   [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// write adds the table to a page. States have a colour there.
func (t *table) write(p *page) {
	all := append([][]string{t.header}, t.rows...)
	widths := make([]int, len(t.header))
	for _, row := range all {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	if p.columns > 0 {
		shrink(widths, p.columns)
	}
	for n, row := range all {
		var line strings.Builder
		for i, cell := range row {
			shown := cut(printable(cell), widths[i])
			blank := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(shown)) + columnGap
			if n > 0 && t.header[i] == stateColumn {
				shown = p.paint(cell, shown)
			}
			line.WriteString(shown + blank)
		}
		fmt.Fprintln(&p.out, strings.TrimRight(line.String(), " "))
	}
}

// stateColumn is the column whose cells have a colour.
const stateColumn = "STATE"

// shrink takes columns from the widest until all fit into limit, down to 8.
func shrink(widths []int, limit int) {
	for {
		total, widest := len(columnGap)*(len(widths)-1), 0
		for i, w := range widths {
			total += w
			if w > widths[widest] {
				widest = i
			}
		}
		if total <= limit || widths[widest] <= 8 {
			return
		}
		widths[widest]--
	}
}

func cut(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:width-1]) + "…"
}

// printable keeps what other machines say from steering this terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

// dash stands for an empty cell.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// since writes a duration as people say it: 4s, 12m, 3h05m, 2d07h.
func since(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
}

// size writes a number of bytes: 512 B, 1.5 kB, 20 MB.
func size(n uint64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	value, units := float64(n), "kMGTPE"
	i := -1
	for value >= 999.5 && i < len(units)-1 {
		value /= 1000
		i++
	}
	if value < 10 {
		return fmt.Sprintf("%.1f %cB", value, units[i])
	}
	return fmt.Sprintf("%.0f %cB", value, units[i])
}
