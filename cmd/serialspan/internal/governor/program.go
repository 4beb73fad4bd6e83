package governor

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// span is a part of the address space.
type span struct{ start, end uintptr }

// forgetProgram takes the pages of the program itself out of the page tables:
// reading the configuration, the key exchange and all that happens once leave a
// quarter of them behind. They are the kernel's to keep or to drop after that,
// and what is run again is mapped again, without reading a disk as long as the
// kernel keeps it.
func forgetProgram() error {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("find the program: %w", err)
	}
	maps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return fmt.Errorf("find the program's pages: %w", err)
	}
	defer func() { _ = maps.Close() }()
	spans, err := cleanSpans(maps, program)
	if err != nil {
		return fmt.Errorf("find the program's pages: %w", err)
	}
	for _, s := range spans {
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, s.start, s.end-s.start, unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("forget the program's pages: %w", errno)
		}
	}
	return nil
}

// cleanSpans returns the mappings of a file that hold nothing but the file, from
// /proc/PID/smaps (proc_pid_smaps(5)): not writable, and no page of them was
// written, as a loader does that relocates, in memory or in swap.
func cleanSpans(smaps io.Reader, file string) (spans []span, err error) {
	lines := bufio.NewScanner(smaps)
	var now span
	clean := 0 // of Anonymous and Swap, how many are zero
	for lines.Scan() {
		line := lines.Text()
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0:
		case !strings.HasSuffix(fields[0], ":"):
			now, clean = mapping(line, fields, file), 0
		case (fields[0] == "Anonymous:" || fields[0] == "Swap:") && len(fields) > 1 && fields[1] == "0":
			if clean++; clean == 2 && now.start < now.end {
				spans = append(spans, now)
			}
		}
	}
	return spans, lines.Err()
}

// mapping reads "start-end rights offset device inode path"; zero if it is not a
// mapping of the file, or may be written.
func mapping(line string, fields []string, file string) (s span) {
	if len(fields) < 6 || fields[1] != "r-xp" && fields[1] != "r--p" || line[strings.Index(line, fields[5]):] != file {
		return span{}
	}
	if n, _ := fmt.Sscanf(fields[0], "%x-%x", &s.start, &s.end); n != 2 {
		return span{}
	}
	return s
}
