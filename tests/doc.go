// Package tests has the whole-program tests: the real bin/serialspan, on one
// machine and across several hosts, with real clients; and the rules of the
// house that no compiler checks. There is no code here but in tests.
package tests
