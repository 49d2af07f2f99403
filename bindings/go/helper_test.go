package p2pmount_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	p2pmount "github.com/p2pmount/p2pmount/bindings/go"
)

// Programs that tests run of themselves: the test binary with this variable is one of them.
const roleVariable = "P2PMOUNT_GO_TEST_ROLE"

func TestMain(m *testing.M) {
	// Nothing leaves the machine.
	os.Setenv("P2PMOUNT_NETWORK", "local")
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(runRole(role))
	}
	goleak.VerifyTestMain(m)
}

// begin limits a test: one that hangs ends the program and shows where every goroutine is. When the test is over, no
// goroutine and no handle of the library may be left of it.
func begin(t *testing.T) context.Context {
	t.Helper()
	limit := time.AfterFunc(30*time.Second, func() {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		fmt.Fprintf(os.Stderr, "%s hangs:\n\n%s\n", t.Name(), stacks)
		os.Exit(2)
	})
	handles := process(t).Handles
	ctx, cancel := context.WithTimeout(context.Background(), 25*time.Second)
	others := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		cancel()
		// An operation that was begun while its node closed may take a moment to end.
		left := process(t).Handles
		for patience := time.Now().Add(5 * time.Second); left != handles && time.Now().Before(patience); left = process(t).Handles {
			time.Sleep(time.Millisecond)
		}
		if left != handles {
			t.Errorf("%d handles before the test, %d after it", handles, left)
		}
		goleak.VerifyNone(t, others)
		limit.Stop()
	})
	return ctx
}

func process(t *testing.T) p2pmount.ProcessInfo {
	t.Helper()
	now, err := p2pmount.List(p2pmount.ListProcess)
	must(t, err)
	return *now.Process
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v (%T)", err, err)
	}
}

// wants fails unless err is all of these.
func wants(t *testing.T, err error, kinds ...error) {
	t.Helper()
	for _, kind := range kinds {
		if !errors.Is(err, kind) {
			t.Fatalf("expected %v, not %v (%#v)", kind, err, err)
		}
	}
}

func open(t *testing.T, opts ...p2pmount.Options) *p2pmount.Node {
	t.Helper()
	node, err := p2pmount.Open(context.Background(), opts...)
	must(t, err)
	t.Cleanup(func() {
		if err := node.Close(); err != nil && !errors.Is(err, p2pmount.ErrClosed) {
			t.Errorf("close: %v", err)
		}
	})
	return node
}

func address(t *testing.T, node *p2pmount.Node) string {
	t.Helper()
	text, err := node.Address()
	must(t, err)
	return text
}

func subscribe(t *testing.T, node *p2pmount.Node, kinds p2pmount.EventKind, opts ...p2pmount.Options) *p2pmount.Subscription {
	t.Helper()
	events, err := node.Events(kinds, opts...)
	must(t, err)
	t.Cleanup(func() { events.Close() })
	return events
}

// service is a TCP server on a free port that runs serve for each connection until the test ends.
func service(t testing.TB, serve func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	done := make(chan struct{})
	var open []net.Conn
	serving := make(chan struct{}, 1<<16)
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			open = append(open, conn)
			serving <- struct{}{}
			go func() {
				defer func() { <-serving }()
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		<-done
		for _, conn := range open {
			conn.Close()
		}
		for len(serving) > 0 {
			time.Sleep(time.Millisecond)
		}
	})
	return listener.Addr().String()
}

// echo answers with what it gets, and ends when the other side has.
func echo(conn net.Conn) {
	if _, err := io.Copy(conn, conn); err == nil {
		_ = conn.(*net.TCPConn).CloseWrite()
	}
}

func dial(t testing.TB, where string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", where)
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn.(*net.TCPConn)
}

// talk sends a line and reads it back.
func talk(t testing.TB, conn net.Conn, line string) {
	t.Helper()
	_, err := conn.Write([]byte(line))
	must(t, err)
	answer := make([]byte, len(line))
	_, err = io.ReadFull(conn, answer)
	must(t, err)
	if string(answer) != line {
		t.Fatalf("%q came back as %q", line, answer)
	}
}

// pair is a node that exposes an echo service as "echo", and one that forwards to it.
func pair(t *testing.T, opts ...p2pmount.Options) (server, client *p2pmount.Node, forward *p2pmount.Forward) {
	t.Helper()
	server, client = open(t), open(t)
	_, err := server.Listen("echo", service(t, echo))
	must(t, err)
	forward, err = client.Forward(context.Background(), "echo", "127.0.0.1:0", address(t, server), opts...)
	must(t, err)
	return server, client, forward
}

// silent is the address of a peer that takes connections, of which it tells, and never says a word.
func silent(t *testing.T) (where string, reached <-chan struct{}) {
	t.Helper()
	connections := make(chan struct{}, 1<<16)
	_, port, _ := net.SplitHostPort(service(t, func(conn net.Conn) {
		connections <- struct{}{}
		_, _ = io.Copy(io.Discard, conn)
	}))
	return "/ip4/127.0.0.1/tcp/" + port + "/p2p/" + somePeer(t), connections
}

// nowhere is the address of a peer that is not there any more.
func nowhere(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	must(t, listener.Close())
	return "/ip4/127.0.0.1/tcp/" + port + "/p2p/" + somePeer(t)
}

// somePeer is the id of a peer that nobody is.
func somePeer(t *testing.T) string {
	t.Helper()
	node, err := p2pmount.Open(context.Background())
	must(t, err)
	must(t, node.Close())
	return node.PeerID()
}

// checkout gives a path in the checkout that this module lies in; a test that needs it is skipped where there is none, as in
// the module cache.
func checkout(t testing.TB, parts ...string) string {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	must(t, err)
	if _, err := os.Stat(filepath.Join(root, "include", "p2pmount.h")); err != nil {
		missing(t, "the checkout around this module")
	}
	return filepath.Join(append([]string{root}, parts...)...)
}

// targetRelease is where the built library lies.
func targetRelease(t testing.TB, file string) string {
	t.Helper()
	target := os.Getenv("CARGO_TARGET_DIR")
	if target == "" {
		target = checkout(t, "target")
	} else if !filepath.IsAbs(target) {
		target = checkout(t, target)
	}
	path := filepath.Join(target, "release", file)
	if _, err := os.Stat(path); err != nil {
		missing(t, path)
	}
	return path
}

// missing skips a test, but not in CI.
func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("missing: %s", what)
	}
	t.Skipf("skipped, missing: %s", what)
}

// run runs a command and gives its output; it fails the test if the command does.
func run(t testing.TB, command *exec.Cmd) string {
	t.Helper()
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command.Args, " "), err, output)
	}
	return string(output)
}
