//go:build linux

// Command link runs a command behind a network link of a given round-trip time, on kernels
// that cannot delay packets themselves. It needs root.
//
//	link -rtt 1ms COMMAND…                            the command finds this machine at 10.99.77.1
//	link -rtt 1ms -near 127.0.0.1:9092 COMMAND…       and that address as it is here, without the delay
//
// The command runs in a network namespace of its own. Between it and the rest of the machine
// are two TUN devices; this program carries every packet from one to the other half a round
// trip late. Packets are as large as the kernel's segmentation offload makes them (64 kB) and
// never lost. What the carrying costs is printed at the end: where the sender sends many
// small packets it takes a core, so rates there are lower than on a real link.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	hereAddr, thereAddr = "10.99.77.1", "10.99.77.2"
	// mtu is that of jumbo frames.
	mtu = "9000"
	// largest is a packet of 64 kB behind its virtio header.
	largest = 64<<10 + 64
	// inFlight bounds the packets on the link in one direction.
	inFlight = 1 << 15
)

// nears are the addresses of -near.
type nears []string

func (n *nears) String() string     { return strings.Join(*n, ",") }
func (n *nears) Set(v string) error { *n = append(*n, v); return nil }

func main() {
	rtt := flag.Duration("rtt", time.Millisecond, "round-trip time")
	cc := flag.String("congestion", "", "congestion control of this machine's side, e.g. cubic (default the system's)")
	var near nears
	flag.Var(&near, "near", "an address of this machine that the command reaches without the delay; may be repeated")
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	code, err := run(*rtt, *cc, near, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "link:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

// run makes the link, runs the command behind it and returns its exit code.
func run(rtt time.Duration, cc string, near []string, args []string) (int, error) {
	here, err := openTUN("postrider0", hereAddr, thereAddr)
	if err != nil {
		return 0, err
	}
	if cc != "" {
		if err := ip("route", "change", thereAddr, "dev", "postrider0", "src", hereAddr, "congctl", cc); err != nil {
			return 0, err
		}
	}
	// This thread and the command that it starts live behind the link from here on. The
	// namespace, and its device, end with them.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return 0, fmt.Errorf("make a network namespace: %w", err)
	}
	there, err := openTUN("postrider1", thereAddr, hereAddr)
	if err != nil {
		return 0, err
	}
	if err := ip("link", "set", "lo", "up"); err != nil {
		return 0, err
	}
	for _, addr := range near {
		l, err := net.Listen("tcp", addr) // here means there: sockets are made on this thread
		if err != nil {
			return 0, err
		}
		go forward(l, addr)
	}
	var packets, volume atomic.Int64
	go carry(here, there, rtt/2, &packets, &volume)
	go carry(there, here, rtt/2, &packets, &volume)

	signal.Ignore(os.Interrupt) // the command's to take
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	err = cmd.Run()
	time.Sleep(rtt + 100*time.Millisecond) // let its last packets arrive, which close its connections
	var usage unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &usage) == nil {
		cpu := time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
		fmt.Fprintf(os.Stderr, "link: %d packets of %d bytes, %.1f CPU seconds\n", packets.Load(), volume.Load()/max(packets.Load(), 1), cpu.Seconds())
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}

// openTUN makes a device in the namespace of this thread.
func openTUN(name, addr, peer string) (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("/dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return 0, fmt.Errorf("make device %s: %w", name, err)
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|unix.TUN_F_TSO4); err != nil {
		return 0, fmt.Errorf("device %s: %w", name, err)
	}
	if err := ip("addr", "add", addr, "peer", peer, "dev", name); err != nil {
		return 0, err
	}
	return fd, ip("link", "set", name, "mtu", mtu, "txqueuelen", "10000", "up")
}

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// packet is on its way until due.
type packet struct {
	data []byte
	due  int64 // by the monotonic clock
}

// carry takes packets from one device to another. Order is kept, for all are equally late.
func carry(from, to int, delay time.Duration, packets, volume *atomic.Int64) {
	way, free := make(chan packet, inFlight), make(chan []byte, inFlight)
	go func() {
		runtime.LockOSThread() // it sleeps by itself: Go's timers are too coarse
		// The kernel may wake a thread 50 µs late unless asked not to.
		_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1000, 0, 0, 0)
		for p := range way {
			if p.due > monotonic() {
				at := unix.NsecToTimespec(p.due)
				for unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &at, nil) == unix.EINTR {
				}
			}
			if _, err := unix.Write(to, p.data); err != nil {
				fmt.Fprintln(os.Stderr, "link: a packet is lost:", err)
			}
			packets.Add(1)
			volume.Add(int64(len(p.data)))
			if cap(p.data) == largest {
				select {
				case free <- p.data[:largest]:
				default:
				}
			}
		}
	}()
	for buf := make([]byte, largest); ; {
		n, err := unix.Read(from, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "link: read:", err)
			os.Exit(1)
		}
		p := packet{due: monotonic() + delay.Nanoseconds()}
		if n < 4<<10 { // large buffers are kept for large packets
			p.data = bytes.Clone(buf[:n])
			way <- p
			continue
		}
		p.data = buf[:n]
		way <- p
		select {
		case buf = <-free:
		default:
			buf = make([]byte, largest)
		}
	}
}

func monotonic() int64 {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	return now.Nano()
}

// forward connects what comes to l with addr, as it is on this side of the link.
func forward(l net.Listener, addr string) {
	for {
		far, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			near, err := net.Dial("tcp", addr)
			if err != nil {
				fmt.Fprintln(os.Stderr, "link:", err)
				_ = far.Close()
				return
			}
			half := func(to, from net.Conn) {
				_, _ = io.Copy(to, from)
				_ = to.(*net.TCPConn).CloseWrite()
			}
			go half(near, far)
			half(far, near)
		}()
	}
}
