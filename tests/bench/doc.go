// Package bench measures SerialSpan next to what people use today, in one run
// on one machine, in turns: `make bench` and `make bench-compare`. README.md
// says how to read it. There is no code here but in tests.
//
// A chain is a way between an application's tty and an echoing device, which is
// the other end of a PTY. All chains stand at the same time, each on hosts of
// its own (package lab); a round asks them one after the other, so that the
// machine's moods hit all of them, and each round begins with another one.
// What was measured are samples: round, chain, measure, value. Tables, ratios
// and comparisons are made of samples only, and so can be made again from the
// file that they are written to.
package bench
