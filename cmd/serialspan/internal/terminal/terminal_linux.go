// Package terminal is the user's own terminal: whether there is one, how wide
// it is, raw mode for the console, a prompt without echo for secrets. It has
// nothing to do with serial devices, whose ttys are bridge's.
//
// References: termios(3), ioctl_tty(2).
package terminal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Is reports whether v, a reader or writer, is a terminal.
func Is(v any) bool {
	f, ok := v.(*os.File)
	return ok && control(f, func(fd int) error {
		_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		return err
	}) == nil
}

// Size returns the columns and rows of the terminal v, 0 and 0 if it is none.
func Size(v any) (columns, rows int) {
	f, ok := v.(*os.File)
	if !ok {
		return 0, 0
	}
	control(f, func(fd int) error {
		size, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
		if err == nil {
			columns, rows = int(size.Col), int(size.Row)
		}
		return err
	})
	return columns, rows
}

// control calls do with the descriptor of f. Unlike f.Fd it leaves a
// non-blocking file as it is.
func control(f *os.File, do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var doErr error
	if err := raw.Control(func(fd uintptr) { doErr = do(int(fd)) }); err != nil {
		return err
	}
	return doErr
}

// MakeRaw puts the terminal into raw mode, as cfmakeraw(3), and returns the
// function that restores what was before. Calling that twice does no harm.
func MakeRaw(f *os.File) (restore func(), err error) {
	return change(f, func(t *unix.Termios) {
		t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
		t.Oflag &^= unix.OPOST
		t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
		t.Cflag &^= unix.CSIZE | unix.PARENB
		t.Cflag |= unix.CS8
		t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	})
}

func change(f *os.File, edit func(*unix.Termios)) (restore func(), err error) {
	var before unix.Termios
	err = control(f, func(fd int) error {
		settings, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err != nil {
			return err
		}
		before = *settings
		edit(settings)
		return unix.IoctlSetTermios(fd, unix.TCSETS, settings)
	})
	if err != nil {
		return nil, fmt.Errorf("change terminal settings: %w", err)
	}
	return func() {
		control(f, func(fd int) error { return unix.IoctlSetTermios(fd, unix.TCSETS, &before) })
	}, nil
}

// Ask reads one line from in; if in is a terminal, after writing prompt to out
// and without echo. The line is returned without its end. It returns when ctx ends,
// with the terminal as it was; the goroutine that reads then stays until in
// has something or ends, which is for a command that is about to exit.
func Ask(ctx context.Context, in io.Reader, out io.Writer, prompt string) (string, error) {
	if f, ok := in.(*os.File); ok && Is(in) {
		restore, err := change(f, func(t *unix.Termios) { t.Lflag &^= unix.ECHO })
		if err != nil {
			return "", err
		}
		defer restore()
		defer fmt.Fprintln(out)
		fmt.Fprint(out, prompt)
	}
	type answer struct {
		line string
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		line, err := bufio.NewReader(io.LimitReader(in, 4096)).ReadString('\n')
		got <- answer{line, err}
	}()
	select {
	case <-ctx.Done():
		return "", fmt.Errorf("read answer: %w", context.Cause(ctx))
	case a := <-got:
		if a.err != nil && !(errors.Is(a.err, io.EOF) && a.line != "") {
			return "", fmt.Errorf("read answer: %w", a.err)
		}
		return strings.TrimRight(a.line, "\r\n"), nil
	}
}
