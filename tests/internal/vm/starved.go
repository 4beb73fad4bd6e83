package vm

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Starved returns for how long, since the machine was started, its processor
// was ready to run and got none of this machine's: proc_pid_schedstat(5), of
// the thread in which QEMU emulates it. A time measured from outside is longer
// by as much where other programs run at once, which says nothing about what
// runs in the guest.
func (v *VM) Starved() time.Duration {
	v.tb.Helper()
	waited, err := starved(v.cmd.Process.Pid)
	if err != nil {
		v.tb.Fatalf("look at the processor of machine %s: %v", v.config.Name, err)
	}
	return waited
}

// starved looks at the thread that has run longest, which is that of the
// processor: QEMU gives them no names unless asked to, and not in all versions.
func starved(pid int) (waited time.Duration, err error) {
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0, err
	}
	var most time.Duration
	for _, path := range stats {
		var here, there time.Duration
		text, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended
		}
		if _, err := fmt.Sscan(string(text), &here, &there); err != nil {
			return 0, fmt.Errorf("read %s: %w", path, err)
		}
		if here > most {
			most, waited = here, there
		}
	}
	if most == 0 {
		return 0, fmt.Errorf("process %d: no thread has run, or this kernel does not count it", pid)
	}
	return waited, nil
}
