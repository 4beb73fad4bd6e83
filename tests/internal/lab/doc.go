// Package lab runs whole agents on several hosts of one machine: network
// namespaces around a router namespace, the real bin/serialspan in them, and
// serial devices that are PTYs whose other end the test holds.
//
//	  edge          consumer        third       one namespace each, eth0 = 10.91.N.2/24
//	    │              │              │
//	to-edge       to-consumer      to-third     10.91.N.1 each
//	    └────────── router ───────────┘         forwards between them
//
// It is not a simulation: sockets, clocks and processes are real. Tests in
// virtual time belong to package meshtest.
//
// Everything belongs to the testing.TB that it was made with and is gone when
// that ends: agents are stopped with SIGTERM and have to leave in time, then
// namespaces are removed. If the test failed, the agents' logs are printed.
// Namespaces carry the process ID of the test; what a killed test left behind
// is removed by the next. No function sleeps as a wait: WaitFor asks until a
// condition holds or its deadline has passed.
//
// Functions that report failure through the testing.TB are to be called from
// the test's goroutine.
package lab
