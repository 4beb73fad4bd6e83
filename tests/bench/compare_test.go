package bench

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/serialspan/serialspan/tests/internal/lab"
)

// significant is the p of the signed-rank test below which a difference is
// marked: of a hundred measures without any difference one is marked.
const significant = 0.01

// The revisions of a comparison, as in the names of chains: tunnel@base.
const (
	atBase = "@base"
	atHead = "@head"
)

// revision returns the short hash of a revision of the repository, "" if there
// is none.
func revision(name string) string {
	out, err := exec.Command("git", "rev-parse", "--short=10", "--verify", "--quiet", name+"^{commit}").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// describeTree names the tree that the harness belongs to, with "-dirty" where
// it has changes that no revision has.
func describeTree() string {
	out, err := exec.Command("git", "describe", "--always", "--dirty", "--abbrev=10").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// buildRevision builds the program of another revision from an export of it in
// a temporary folder, which leaves nothing in the repository.
func buildRevision(tb testing.TB, name string) string {
	tb.Helper()
	commit := revision(name)
	if commit == "" {
		tb.Fatalf("compare with %q: there is no such revision", name)
	}
	dir := tb.TempDir()
	export := exec.Command("sh", "-c", `git -C "$0" archive "$1" | tar -x -C "$2"`, lab.Root(tb), commit, dir)
	if out, err := export.CombinedOutput(); err != nil {
		tb.Fatalf("export %s: %v: %s", commit, err, out)
	}
	build := exec.Command("make", "--no-print-directory", "-C", dir, "build", "VERSION="+commit)
	if out, err := build.CombinedOutput(); err != nil {
		tb.Fatalf("build %s: %v\n%s", commit, err, out)
	}
	program := filepath.Join(dir, "bin", "serialspan")
	if _, err := os.Stat(program); err != nil {
		tb.Fatalf("build %s: %v", commit, err)
	}
	return program
}

// candidates returns the chains of kinds with a program and a suffix of their
// names.
func candidates(tb testing.TB, kinds []chainKind, program, suffix string) (all []candidate) {
	tb.Helper()
	for i := range kinds {
		all = append(all, candidate{kind: &kinds[i], name: kinds[i].name + suffix, program: takingFor(tb, program, kinds[i].link)})
	}
	return all
}

// takingFor builds the program once more, from the tree that it stands in, to
// take links of a kind for WireGuard's, if that revision knows how: a machine
// whose kernel has no WireGuard can have no other KubeSpan.
func takingFor(tb testing.TB, program, link string) string {
	tb.Helper()
	if link == "" {
		return program
	}
	variant := program + "-" + link
	build := exec.Command("go", "build", "-trimpath", "-o", variant, "-ldflags", "-s -w -X github.com/serialspan/serialspan/mesh/kubespan.wireGuardKind="+link, "./cmd/serialspan")
	build.Dir, build.Env = filepath.Dir(filepath.Dir(program)), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		tb.Fatalf("build %s: %v: %s", variant, err, out)
	}
	return variant
}

// BenchmarkCompare measures the chains of ours in two revisions by turns: this
// tree's, which drives both, and -base. The chains are opened anew in each
// round.
func BenchmarkCompare(b *testing.B) {
	lab.NeedRoot(b)
	if *baseFlag == "" {
		b.Fatal("compare: say with which revision: make bench-compare BASE=REVISION")
	}
	if *chainsFlag == "" {
		*chainsFlag = strings.Join([]string{chainTunnel, chainRelay, chainKubeSpan, chainTrusted}, ",")
	}
	kinds, err := chooseChains(*chainsFlag)
	if err != nil {
		b.Fatal(err)
	}
	tb, s := interruptible(b), newSamples(b)
	base, head := buildRevision(tb, *baseFlag), lab.Program(b)
	var names []string
	for _, kind := range kinds {
		if !kind.ours {
			b.Fatalf("compare: %s is the same in every revision", kind.name)
		}
		names = append(names, kind.name)
	}
	var all []candidate
	were, are := candidates(tb, kinds, base, atBase), candidates(tb, kinds, head, atHead)
	for i := range kinds { // side by side, so that they share the machine's mood
		all = append(all, were[i], are[i])
	}
	var missing map[string]string
	if *pingsFlag > 0 {
		missing = measure(tb, all, loadOf(*pingsFlag, *echoFlag, *streamFlag), *roundsFlag, true, s)
	}
	if *devicesFlag > 0 {
		many(tb, []revised{{chainMany + atBase, base}, {chainMany + atHead, head}}, *devicesFlag, *roundsFlag, *talkFlag, s)
	}
	if *eventsFlag > 0 {
		events(tb, []revised{{chainEvents + atBase, base}, {chainEvents + atHead, head}}, *eventsFlag, s)
	}
	names = append(names, chainMany, chainEvents)
	finish(b, s, func(w io.Writer) {
		for name, reason := range missing {
			fmt.Fprintf(w, "%s: %s\n", name, reason)
		}
		fmt.Fprintf(w, "base is %s, head is %s\n", revision(*baseFlag), describeTree())
		if worse := compareTable(w, s, names); worse > 0 {
			fmt.Fprintf(w, "%d figures are worse by more than the noise\n", worse)
		}
	})
}

// compareTable writes a line for each measure of each chain: both medians, the
// median of the rounds' ratios head/base, and a mark where signedRank says that
// they differ. It returns how many are worse.
func compareTable(w io.Writer, s *samples, chains []string) (worse int) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "chain\tmeasure\tbase\thead\thead/base\tp\t")
	for _, chain := range chains {
		for _, m := range s.measures() {
			were, are := s.of(chain+atBase, m), s.of(chain+atHead, m)
			if len(were) == 0 || len(were) != len(are) || min(slices.Min(were), slices.Min(are)) <= 0 {
				continue // not measured in both, or differences, which have no ratio
			}
			quotients := ratios(are, were)
			r, p := median(quotients), signedRank(quotients)
			mark := ""
			if p < significant {
				mark = "better"
				if moreIsBetter := s.unit(m) == "B/s"; moreIsBetter != (r > 1) {
					mark = "WORSE"
					worse++
				}
			}
			unit := s.unit(m)
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%.3f\t%.3f\t%s\n", chain, m, show(median(were), unit), show(median(are), unit), r, p, mark)
		}
	}
	_ = table.Flush()
	return worse
}

func TestCompareTable(t *testing.T) {
	s := &samples{}
	for round := range 8 {
		noise := 1 + float64(round%3)/100
		for name, change := range map[string]float64{atBase: 1, atHead: 1.05 + float64(round)/1000} {
			s.add(chainTunnel+name, "rt16_p50", round, noise*change, "s") // always slower
			s.add(chainTunnel+name, "echo", round, noise*change, "B/s")   // always faster
		}
		s.add(chainTunnel+atBase, "rt16_p99", round, 1, "s")
		s.add(chainTunnel+atHead, "rt16_p99", round, []float64{0.9, 1.2}[round%2], "s") // either
	}
	var text strings.Builder
	if worse := compareTable(&text, s, []string{chainTunnel, "none"}); worse != 1 {
		t.Errorf("%d are worse, want 1", worse)
	}
	for line := range strings.Lines(text.String()) {
		fields := strings.Fields(line)
		var err error
		switch fields[1] {
		case "rt16_p50":
			if fields[len(fields)-1] != "WORSE" {
				err = errors.New("not marked as worse")
			}
		case "echo":
			if fields[len(fields)-1] != "better" {
				err = errors.New("not marked as better")
			}
		case "rt16_p99":
			if len(fields) != 6 {
				err = errors.New("marked")
			}
		}
		if err != nil {
			t.Errorf("%v: %s", err, line)
		}
	}
}
