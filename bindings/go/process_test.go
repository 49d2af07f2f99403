package p2pmount_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	p2pmount "github.com/p2pmount/p2pmount/bindings/go"
)

// child is this test program in a role of its own. It ends with its input, which is open as long as this process is there.
func child(t *testing.T, ctx context.Context, role string, environment ...string) *exec.Cmd {
	t.Helper()
	command, _ := childWithInput(t, ctx, role, environment...)
	return command
}

func childWithInput(t *testing.T, ctx context.Context, role string, environment ...string) (*exec.Cmd, io.Closer) {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	command := exec.CommandContext(ctx, self)
	command.Env = append(append(os.Environ(), roleVariable+"="+role), environment...)
	input, err := command.StdinPipe()
	must(t, err)
	return command, input
}

const abandoned = 3

func runRole(role string) int {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(abandoned)
	}()
	node, err := p2pmount.Open(context.Background())
	if role == "abi" {
		fmt.Println(err)
		fmt.Println(p2pmount.Set("log.level", "off"))
		_, err = p2pmount.List(p2pmount.ListProcess)
		fmt.Println(err)
		_, err = p2pmount.Get("log.level")
		fmt.Println(err)
		return 0
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	// A stream with traffic is open, a goroutine waits for events, and nothing is closed.
	listener, _ := net.Listen("tcp", "127.0.0.1:0")
	go func() {
		conn, _ := listener.Accept()
		echo(conn)
	}()
	if _, err = node.Listen("echo", listener.Addr().String()); err != nil {
		fmt.Println(err)
		return 1
	}
	client, _ := p2pmount.Open(context.Background())
	where, _ := node.Address()
	forward, err := client.Forward(context.Background(), "echo", "127.0.0.1:0", where)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	events, _ := client.Events(p2pmount.EventStreamClosed)
	go events.Next(context.Background())
	conn, err := net.Dial("tcp", forward.Address())
	if err != nil {
		fmt.Println(err)
		return 1
	}
	go func() {
		for conn.SetDeadline(time.Time{}) == nil {
			if _, err := conn.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	}()
	for range 16 {
		if _, err := conn.Read(make([]byte, 1<<16)); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	fmt.Println("running")
	switch role {
	case "exit":
		return 0
	case "panic":
		panic("a mistake of the program")
	case "interrupted":
		select {}
	}
	return 1
}

func TestAProgramMayEndWithOpenNodes(t *testing.T) {
	ctx := begin(t)
	output := run(t, child(t, ctx, "exit"))
	if output != "running\n" {
		t.Errorf("%q", output)
	}
}

func TestAPanicOfTheProgramEndsItWithItsOwnMessage(t *testing.T) {
	ctx := begin(t)
	output, err := child(t, ctx, "panic").CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 || !bytes.Contains(output, []byte("panic: a mistake of the program")) {
		t.Errorf("%v: %s", err, output)
	}
}

func TestSignalsReachAProgramAndEndIt(t *testing.T) {
	ctx := begin(t)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		command := child(t, ctx, "interrupted")
		output, err := command.StdoutPipe()
		must(t, err)
		must(t, command.Start())
		_, err = output.Read(make([]byte, 64))
		must(t, err)
		must(t, command.Process.Signal(sig))
		err = command.Wait()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != sig {
			t.Errorf("%v: %v", sig, err)
		}
	}
}

func TestAChildDoesNotOutliveTheTest(t *testing.T) {
	ctx := begin(t)
	command, input := childWithInput(t, ctx, "interrupted")
	output, err := command.StdoutPipe()
	must(t, err)
	must(t, command.Start())
	_, err = output.Read(make([]byte, 64))
	must(t, err)
	// So does the end of this process.
	must(t, input.Close())
	err = command.Wait()
	if code := command.ProcessState.ExitCode(); code != abandoned {
		t.Errorf("exit code %d: %v", code, err)
	}
}

func TestSignalsCanBeHandledWhileTrafficFlows(t *testing.T) {
	begin(t)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	defer signal.Stop(signals)
	_, _, forward := pair(t)
	conn := dial(t, forward.Address())
	for range 200 {
		must(t, syscall.Kill(os.Getpid(), syscall.SIGUSR1))
		talk(t, conn, "hello\n")
		select {
		case <-signals:
		case <-time.After(10 * time.Second):
			t.Fatal("the signal did not come")
		}
	}
}

func TestABrokenPipeIsAnErrorAndNoSignal(t *testing.T) {
	begin(t)
	_, _, forward := pair(t)
	conn := dial(t, forward.Address())
	talk(t, conn, "hello\n")
	must(t, forward.CloseWithStreams())
	for {
		if _, err := conn.Write([]byte("more\n")); err != nil {
			if !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
				t.Error(err)
			}
			return
		}
	}
}

func TestALibraryOfAnotherABIIsRefused(t *testing.T) {
	ctx := begin(t)
	folder := t.TempDir()
	source, library := filepath.Join(folder, "other.c"), filepath.Join(folder, "libother.so")
	must(t, os.WriteFile(source, []byte("unsigned p2p_abi_version(void) { return 99; }\n"), 0o600))
	if _, err := exec.LookPath("cc"); err != nil {
		missing(t, "cc")
	}
	run(t, exec.CommandContext(ctx, "cc", "-shared", "-fPIC", source, "-o", library))
	output := run(t, child(t, ctx, "abi", "LD_PRELOAD="+library))
	lines := strings.Split(strings.TrimSpace(output), "\n")
	for _, line := range lines {
		if !strings.Contains(line, "has ABI version 99") || !strings.Contains(line, "made for ABI version 0") ||
			!strings.Contains(line, "libp2pmount.so") {
			t.Errorf("%q", line)
		}
	}
	if len(lines) != 4 {
		t.Errorf("%q", output)
	}
}
