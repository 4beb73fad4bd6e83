package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/serialspan/serialspan/bridge/client"
)

// listing is a command that shows a part of what the agent knows, once or as
// often as it changes. A is the answer's type, which is what --json prints.
type listing[A any] struct {
	use, short string
	list       client.List
	get        func(context.Context, *client.Client) (A, error)
	print      func(*page, A)
}

func (l listing[A]) command(a *app) *cobra.Command {
	c := &cobra.Command{Use: l.use, Short: l.short, Args: cobra.NoArgs}
	asJSON := jsonFlag(c)
	watch := c.Flags().Bool("watch", false, "show it again whenever it changes, until Ctrl-C; with --json one object per line")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *watch {
			return l.watch(c.Context(), a, *asJSON)
		}
		answer, err := l.get(c.Context(), a.client())
		if err != nil {
			return err
		}
		if *asJSON {
			return a.printJSON(answer)
		}
		out := newPage(a.out)
		l.print(out, answer)
		return out.write(a.out, a.err)
	}
	return c
}

// watch shows each answer: redrawn on a terminal, else one after the other.
func (l listing[A]) watch(ctx context.Context, a *app, asJSON bool) error {
	first := true
	err := a.client().Watch(ctx, l.list, func(line []byte) error {
		defer func() { first = false }()
		if asJSON {
			_, err := fmt.Fprintf(a.out, "%s\n", line)
			return err
		}
		var answer A
		if err := json.Unmarshal(line, &answer); err != nil {
			return fmt.Errorf("read answer of the agent: %w", err)
		}
		out := newPage(a.out)
		l.print(out, answer)
		if out.rows > 0 {
			return out.redraw(a.out, first)
		}
		if !first {
			fmt.Fprintln(a.out)
		}
		return out.write(a.out, a.err)
	})
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // the user has seen enough
	}
	return err
}

// printJSON writes an answer of the control API for programs.
func (a *app) printJSON(value any) error {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	_, err = fmt.Fprintf(a.out, "%s\n", data)
	return err
}

// jsonFlag adds --json.
func jsonFlag(c *cobra.Command) *bool {
	return c.Flags().Bool("json", false, "print JSON ("+client.Version+") for programs")
}

// write writes what a page holds: out to out, remarks to notes.
func (p *page) write(out, notes io.Writer) error {
	_, err := out.Write(p.out.Bytes())
	return errors.Join(err, writeAll(notes, p.notes.Bytes()))
}

func writeAll(w io.Writer, data []byte) error {
	if len(data) == 0 {
		return nil
	}
	_, err := w.Write(data)
	return err
}

// redraw draws a page over the last one, as much of it as the terminal has
// rows.
func (p *page) redraw(w io.Writer, first bool) error {
	const (
		home      = "\x1b[H"
		clear     = "\x1b[2J"
		restOfRow = "\x1b[K"
		below     = "\x1b[J"
	)
	var screen bytes.Buffer
	if first {
		screen.WriteString(clear)
	}
	screen.WriteString(home)
	lines := bytes.Split(bytes.TrimSuffix(append(p.out.Bytes(), p.notes.Bytes()...), []byte("\n")), []byte("\n"))
	if most := p.rows - 1; len(lines) > most {
		lines = append(lines[:max(most-1, 0)], fmt.Appendf(nil, "… %d more lines", len(lines)-most+1))
	}
	for _, line := range lines {
		screen.Write(line)
		screen.WriteString(restOfRow + "\n")
	}
	screen.WriteString(below)
	_, err := w.Write(screen.Bytes())
	return err
}
