// Package clock gives one process a wall clock of its own, so that a test can
// run an agent in 2016 and step its clock while it runs.
//
// A Go program asks __vdso_clock_gettime for the time, a function that the
// kernel maps into each process. Start stops the child at exec and replaces
// that function, in this one process, with
//
//	clock_gettime by system call
//	if the clock is CLOCK_REALTIME or CLOCK_REALTIME_COARSE: add offset to tv_sec
//	offset: 8 bytes
//
// Monotonic time is untouched, as is every other process: the child's own
// children too, since exec maps a fresh page. libfaketime cannot do this, it
// replaces functions of a C library that a static program does not have.
//
// It works on Linux on amd64 for programs that take the time from
// __vdso_clock_gettime: all of Go's. Timers of the kernel (timerfd, timer_settime
// with CLOCK_REALTIME) and files' times stay those of the machine.
//
// Nothing here starts a goroutine.
//
// References: vdso(7), ptrace(2), proc_pid_mem(5); runtime/sys_linux_amd64.s
// (time·now and nanotime1).
package clock

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// function is what the Go runtime calls for the time.
const function = "__vdso_clock_gettime"

// Process is a process with a wall clock of its own. Its methods are safe for
// concurrent use and need the process not to have been waited for.
type Process struct {
	pid    int
	offset int64 // address in the process
}

// Start starts the command, as its own Start does, with a wall clock that is
// offset ahead of the machine's (negative: behind), in whole seconds. The
// caller waits for the command. It must exec the program itself: the clock
// goes with the next exec.
//
// The error unwraps to errors.ErrUnsupported where this cannot work; a process
// that was started is gone after an error.
func Start(cmd *exec.Cmd, offset time.Duration) (*Process, error) {
	if runtime.GOARCH != "amd64" {
		return nil, fmt.Errorf("set the clock of %s: on %s: %w", cmd.Path, runtime.GOARCH, errors.ErrUnsupported)
	}
	// The thread that starts the child is its tracer.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Ptrace = true
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &Process{pid: cmd.Process.Pid}
	err := p.waitForExec()
	if err == nil {
		err = p.patch(offset)
	}
	if err == nil {
		err = unix.PtraceDetach(p.pid)
	}
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, fmt.Errorf("set the clock of %s: %w", cmd.Path, err)
	}
	return p, nil
}

// Step sets how far the clock is ahead of the machine's (negative: behind), in
// whole seconds. The process sees it at its next look at the clock.
func (p *Process) Step(offset time.Duration) error {
	if err := p.write(p.offset, seconds(offset)); err != nil {
		return fmt.Errorf("step the clock of process %d: %w", p.pid, err)
	}
	return nil
}

func seconds(d time.Duration) []byte {
	return binary.LittleEndian.AppendUint64(nil, uint64(int64(d/time.Second)))
}

func (p *Process) waitForExec() error {
	for {
		var status unix.WaitStatus
		_, err := unix.Wait4(p.pid, &status, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("wait for exec: %w", err)
		case !status.Stopped():
			return errors.New("wait for exec: the process has ended")
		default:
			return nil
		}
	}
}

// patch replaces the function.
func (p *Process) patch(offset time.Duration) error {
	low, high, err := p.page()
	if err != nil {
		return err
	}
	image := make([]byte, high-low)
	memory, err := os.Open(p.memory())
	if err != nil {
		return err
	}
	defer memory.Close()
	if _, err := memory.ReadAt(image, low); err != nil {
		return fmt.Errorf("read the vDSO: %w", err)
	}
	at, size, err := find(image)
	if err != nil {
		return err
	}
	code, offsetAt := stub(low+at, offset)
	if uint64(len(code)) > size {
		return fmt.Errorf("%s has %d bytes, %d are needed: %w", function, size, len(code), errors.ErrUnsupported)
	}
	p.offset = offsetAt
	return p.write(low+at, code)
}

// page returns where the vDSO is in the process.
func (p *Process) page() (low, high int64, err error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", p.pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(maps)) {
		if strings.HasSuffix(line, "[vdso]\n") {
			_, err := fmt.Sscanf(line, "%x-%x", &low, &high)
			return low, high, err
		}
	}
	return 0, 0, fmt.Errorf("process %d has no vDSO: %w", p.pid, errors.ErrUnsupported)
}

// find returns where the function is in the vDSO, which is an ELF file.
func find(image []byte) (at int64, size uint64, err error) {
	file, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return 0, 0, fmt.Errorf("parse the vDSO: %w", err)
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return 0, 0, fmt.Errorf("parse the vDSO: %w", err)
	}
	for _, s := range symbols {
		if s.Name == function {
			return int64(s.Value), s.Size, nil
		}
	}
	return 0, 0, fmt.Errorf("the vDSO has no %s: %w", function, errors.ErrUnsupported)
}

// stub returns the code for address at and the address of the offset in it,
// which is a multiple of 8 so that a step is seen whole.
func stub(at int64, offset time.Duration) (code []byte, offsetAt int64) {
	code = []byte{
		0xb8, unix.SYS_CLOCK_GETTIME, 0, 0, 0, // mov eax, 228
		0x0f, 0x05, // syscall: keeps rdi and rsi
		0x85, 0xff, // test edi, edi: CLOCK_REALTIME is 0
		0x74, 5, // jz add
		0x83, 0xff, unix.CLOCK_REALTIME_COARSE, // cmp edi, 5
		0x75, 10, // jne done
		0x48, 0x8b, 0x0d, 0, 0, 0, 0, // add: mov rcx, [rip+…]
		0x48, 0x01, 0x0e, // add [rsi], rcx
		0xc3, // done: ret
	}
	const operand = 19 // of mov rcx, relative to the instruction after it
	end := at + int64(len(code))
	offsetAt = (end + 7) &^ 7
	binary.LittleEndian.PutUint32(code[operand:], uint32(offsetAt-(at+operand+4)))
	code = append(code, make([]byte, offsetAt-end)...)
	return append(code, seconds(offset)...), offsetAt
}

func (p *Process) memory() string { return fmt.Sprintf("/proc/%d/mem", p.pid) }

func (p *Process) write(at int64, b []byte) error {
	memory, err := os.OpenFile(p.memory(), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer memory.Close()
	_, err = memory.WriteAt(b, at)
	return err
}
