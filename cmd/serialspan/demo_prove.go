package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/serialspan/serialspan/bridge/client"
)

const (
	// proofRounds is how many round trips the median is of.
	proofRounds = 50
	// proofTimeout bounds all of them, opening included.
	proofTimeout = 3 * time.Second
)

// prove makes round trips through the PTY and then through the TCP port.
func (d *demo) prove(ctx context.Context) error {
	pty, tcp := d.where(client.KindPTY), d.where(client.KindTCP)
	for _, way := range []struct {
		name string
		open func() (lineConn, error)
	}{
		{"PTY", func() (lineConn, error) { return os.OpenFile(pty, os.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0) }},
		{"TCP", func() (lineConn, error) { return new(net.Dialer).DialContext(ctx, "tcp", tcp) }},
	} {
		start := time.Now()
		conn, err := way.open()
		if err != nil {
			return fmt.Errorf("prove round trip: open %s: %w", way.name, err)
		}
		stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
		times, err := roundTrips(conn, start)
		stop()
		conn.Close()
		if err != nil {
			return fmt.Errorf("prove round trip: %s: %w", way.name, err)
		}
		first := times[0]
		slices.Sort(times)
		fmt.Fprintf(d.app.out, "round trip through the %s: PING answered %d times; first, with opening, %s; median %s\n",
			way.name, len(times), milliseconds(first), milliseconds(times[len(times)/2]))
	}
	return nil
}

// roundTrips sends PING with a number and wants PONG with the same. The first
// time counts from start.
func roundTrips(conn lineConn, start time.Time) ([]time.Duration, error) {
	if err := conn.SetDeadline(start.Add(proofTimeout)); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(conn)
	var times []time.Duration
	for i := range proofRounds {
		if i > 0 {
			start = time.Now()
		}
		if _, err := fmt.Fprintf(conn, "PING %d\n", i); err != nil {
			return nil, err
		}
		want := fmt.Sprintf("PONG %d", i)
		if !lines.Scan() {
			if err := lines.Err(); err != nil {
				return nil, fmt.Errorf("wait for %q: %w", want, err)
			}
			return nil, fmt.Errorf("wait for %q: the stream ended", want)
		}
		if lines.Text() != want {
			return nil, fmt.Errorf("sent PING %d, want %q, have %q", i, want, lines.Text())
		}
		times = append(times, time.Since(start))
	}
	return times, nil
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000)
}
