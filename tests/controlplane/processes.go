// Child processes and the ports that they listen on.
//
// This file owns: that a child dies with this process whatever ends it, that a child's log is in
// a file, that an unexpected end is reported with the log's tail, and that a port which was
// chosen stays ours until this process ends.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stopGrace is how long a child that was asked to end may take before it is killed.
const stopGrace = 300 * time.Millisecond

// process is one run of one program.
type process struct {
	name    string
	logPath string
	// logStart is the log's size when this run began: a log holds all runs of its program.
	logStart int64
	cmd      *exec.Cmd
	// exited is closed when the child has ended and has been waited for.
	exited chan struct{}

	mu       sync.Mutex
	expected bool
}

// starter runs a function on a thread that lives as long as this process: the kernel sends a
// child its parent-death signal when the *thread* that started it ends.
var starter = func() chan<- func() {
	jobs := make(chan func())
	go func() {
		runtime.LockOSThread()
		for job := range jobs {
			job()
		}
	}()
	return jobs
}()

// startProcess runs `<this program> name args…` with its output appended to DIR/name.log.
// unexpected is called, once, if it ends without stop having been called.
func startProcess(dir, name string, args []string, unexpected func(*process)) (*process, error) {
	p := &process{name: name, logPath: filepath.Join(dir, name+".log"), exited: make(chan struct{})}
	log, err := os.OpenFile(p.logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("log of %s: %w", name, err)
	}
	defer log.Close()
	if info, err := log.Stat(); err == nil {
		p.logStart = info.Size()
	}
	// Not os.Executable(): the file may have been replaced by a newer build since.
	p.cmd = &exec.Cmd{
		Path:   "/proc/self/exe",
		Args:   append([]string{"controlplane", name}, args...),
		Env:    childEnvironment(),
		Dir:    dir,
		Stdout: log,
		Stderr: log,
		SysProcAttr: &syscall.SysProcAttr{
			Pdeathsig: syscall.SIGKILL,
			// A Ctrl-C at the terminal reaches this process only, which then ends them in order.
			Setpgid: true,
		},
	}
	started := make(chan error)
	starter <- func() { started <- p.cmd.Start() }
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.exited)
		p.mu.Lock()
		expected := p.expected
		p.mu.Unlock()
		if !expected {
			unexpected(p)
		}
	}()
	return p, nil
}

// childEnvironment leaves out what would configure a child behind our back.
func childEnvironment() []string {
	var env []string
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "ETCD_") || strings.HasSuffix(strings.ToUpper(name), "_PROXY") {
			continue
		}
		env = append(env, entry)
	}
	return env
}

// signal sends a signal whose effect, the child's end, is then no surprise.
func (p *process) signal(signal os.Signal) {
	p.mu.Lock()
	p.expected = true
	p.mu.Unlock()
	select {
	case <-p.exited: // its id may be another's by now
	default:
		_ = p.cmd.Process.Signal(signal)
	}
}

// stop ends the child with the signal, and with SIGKILL after the grace. It returns when the
// child is gone.
func (p *process) stop(signal os.Signal, grace time.Duration) {
	p.signal(signal)
	select {
	case <-p.exited:
	case <-time.After(grace):
		p.signal(syscall.SIGKILL)
		<-p.exited
	}
}

// output is the log of this run so far.
func (p *process) output() string {
	data, err := os.ReadFile(p.logPath)
	if err != nil || int64(len(data)) < p.logStart {
		return ""
	}
	return string(data[p.logStart:])
}

// tail is the last lines of the log, for an error message.
func (p *process) tail() string {
	lines := strings.Split(strings.TrimRight(p.output(), "\n"), "\n")
	if len(lines) > 30 {
		lines = lines[len(lines)-30:]
	}
	return strings.Join(lines, "\n")
}

// waitUntil polls ready until it holds, the child ends, or the time is over.
func (p *process) waitUntil(ctx context.Context, what string, ready func(context.Context) bool) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !ready(ctx) {
		select {
		case <-ticker.C:
		case <-p.exited:
			return fmt.Errorf("%s ended before it was %s; its log ends with:\n%s", p.name, what, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s was not %s: %w; its log ends with:\n%s", p.name, what, ctx.Err(), p.tail())
		}
	}
	return nil
}

// reservePort lets the system choose a port of 127.0.0.1 and keeps it: the socket stays bound,
// without listening, as long as this process lives. A child shares it with SO_REUSEPORT, also
// when it is stopped and started again; meanwhile connections to it are refused and nobody else
// is given it.
func reservePort() (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("reserve a port: %w", err)
	}
	for _, option := range []int{unix.SO_REUSEADDR, unix.SO_REUSEPORT} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 1); err != nil {
			return 0, fmt.Errorf("reserve a port: %w", err)
		}
	}
	loopback := [4]byte(net.IPv4(127, 0, 0, 1).To4())
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: loopback}); err != nil {
		return 0, fmt.Errorf("reserve a port: %w", err)
	}
	address, err := unix.Getsockname(fd)
	if err != nil {
		return 0, fmt.Errorf("reserve a port: %w", err)
	}
	return address.(*unix.SockaddrInet4).Port, nil
}
