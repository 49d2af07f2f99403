// Package examples runs the example programs as a user does.
package examples

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

var programs string

func TestMain(m *testing.M) {
	// Nothing leaves the machine.
	os.Setenv("P2PMOUNT_NETWORK", "local")
	os.Exit(build(m))
}

func build(m *testing.M) int {
	folder, err := os.MkdirTemp("", "p2pmount-examples")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(folder)
	programs = folder
	if output, err := exec.Command("go", "build", "-o", folder+string(filepath.Separator), "./...").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, output)
		return 1
	}
	return m.Run()
}

// program is a running example. What it prints is read line by line.
type program struct {
	t      *testing.T
	name   string
	cmd    *exec.Cmd
	input  io.WriteCloser
	lines  chan string
	errors bytes.Buffer
}

func start(t *testing.T, arguments ...string) *program {
	t.Helper()
	p := &program{t: t, name: strings.Join(arguments, " "), lines: make(chan string, 10000)}
	p.cmd = exec.Command(filepath.Join(programs, arguments[0]), arguments[1:]...)
	p.cmd.Stderr = &p.errors
	var err error
	p.input, err = p.cmd.StdinPipe()
	must(t, err)
	output, err := p.cmd.StdoutPipe()
	must(t, err)
	must(t, p.cmd.Start())
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(p.lines)
		for lines := bufio.NewScanner(output); lines.Scan(); {
			p.lines <- lines.Text()
		}
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-read
		_ = p.cmd.Wait()
	})
	return p
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// line waits for a line that fits and gives it, and what stands in its parentheses.
func (p *program) line(pattern string) []string {
	p.t.Helper()
	expression := regexp.MustCompile("^(?:" + pattern + ")$")
	limit := time.After(20 * time.Second)
	var seen []string
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				p.t.Fatalf("%s: ended without a line %q\n%s\n%s", p.name, pattern, strings.Join(seen, "\n"), p.errors.String())
			}
			seen = append(seen, line)
			if found := expression.FindStringSubmatch(line); found != nil {
				return found
			}
		case <-limit:
			p.t.Fatalf("%s: no line %q in\n%s", p.name, pattern, strings.Join(seen, "\n"))
		}
	}
}

// addresses reads what an exposing program prints and gives the peer as the other side takes it.
func (p *program) addresses() string {
	p.t.Helper()
	id := p.line("peer (12D3KooW\\w+)")[1]
	var addresses []string
	for {
		line := p.line("ready|address (.*)")
		if line[0] == "ready" {
			break
		}
		if !strings.HasSuffix(line[1], "/p2p/"+id) {
			p.t.Errorf("address %s", line[1])
		}
		addresses = append(addresses, line[1])
	}
	if len(addresses) == 0 {
		p.t.Fatal("no address")
	}
	return strings.Join(addresses, ",")
}

// ends waits for the end and gives the exit code.
func (p *program) ends() int {
	p.t.Helper()
	done := make(chan error, 1)
	go func() {
		for range p.lines {
		}
		done <- p.cmd.Wait()
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		p.t.Fatalf("%s does not end", p.name)
	}
	return p.cmd.ProcessState.ExitCode()
}

// quits tells the program to end by a line or by the end of its input, and expects success.
func (p *program) quits(line string) {
	p.t.Helper()
	_, err := io.WriteString(p.input, line)
	must(p.t, err)
	if line == "" {
		p.input.Close()
	}
	if code := p.ends(); code != 0 || p.errors.Len() > 0 {
		p.t.Errorf("%s: exit code %d, %s", p.name, code, p.errors.String())
	}
}

// reversing is a service that answers with everything it got, backwards, when the client has ended.
func reversing(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				data, _ := io.ReadAll(conn)
				_, _ = conn.Write(reversed(data))
			}()
		}
	}()
	return listener.Addr().String()
}

func reversed(data []byte) []byte {
	turned := make([]byte, len(data))
	for at, one := range data {
		turned[len(data)-1-at] = one
	}
	return turned
}

func dial(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	return conn.(*net.TCPConn)
}

func TestTunnelPassesDataAndHalfClose(t *testing.T) {
	for _, transport := range []string{"tcp", "quic"} {
		t.Run(transport, func(t *testing.T) {
			expose := start(t, "tunnel", "expose", "transports="+transport, "reverse", reversing(t), "streams.per_mount=100")
			forward := start(t, "tunnel", "forward", "open.timeout=10s", "reverse", "127.0.0.1:0", expose.addresses(), "verify=true")
			conn := dial(t, forward.line("listen (127\\.0\\.0\\.1:[1-9]\\d*)")[1])
			forward.line("ready")
			data := bytes.Repeat([]byte("from here to there "), 50_000)
			_, err := conn.Write(data)
			must(t, err)
			must(t, conn.CloseWrite())
			answer, err := io.ReadAll(conn)
			must(t, err)
			if !bytes.Equal(answer, reversed(data)) {
				t.Errorf("a wrong answer of %d bytes", len(answer))
			}
			forward.quits("quit\n")
			expose.quits("")
		})
	}
}

func TestTunnelEndsWithAStreamOpen(t *testing.T) {
	expose := start(t, "tunnel", "expose", "reverse", reversing(t))
	forward := start(t, "tunnel", "forward", "reverse", "127.0.0.1:0", expose.addresses())
	conn := dial(t, forward.line("listen (.*)")[1])
	_, err := conn.Write([]byte("never ended"))
	must(t, err)
	began := time.Now()
	forward.quits("quit\n")
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the end took %v", took)
	}
	if rest, err := io.ReadAll(conn); err == nil {
		t.Errorf("a cut stream looks like a complete one: %q", rest)
	}
	expose.quits("quit\n")
}

func TestEchoClientGetsBackWhatItSends(t *testing.T) {
	server := start(t, "echo", "server", "transports=tcp")
	peer := server.addresses()
	client := start(t, "echo", "client", "transports=tcp", peer)
	for number := 1; number <= 5; number++ {
		for _, what := range []string{"sent", "received"} {
			want := fmt.Sprintf("%s: Hello, world! (%d)", what, number)
			if line := client.line(".*")[0]; line != want {
				t.Errorf("%q, expected %q", line, want)
			}
		}
	}
	if code := client.ends(); code != 0 {
		t.Errorf("exit code %d: %s", code, client.errors.String())
	}
	server.quits("quit\n")
}

func TestEchoClientSaysWhyItFailed(t *testing.T) {
	// A node that does not have the protocol.
	other := start(t, "tunnel", "expose", "something-else", reversing(t))
	client := start(t, "echo", "client", other.addresses())
	if code := client.ends(); code != 1 || !regexp.MustCompile(`^forward: .*echo-protocol.* \(P2P_ERROR_PROTOCOL_REFUSED\)\n$`).MatchString(client.errors.String()) {
		t.Errorf("exit code %d: %q", code, client.errors.String())
	}
}

func TestListShowsAStreamFromItsOpeningToItsEnd(t *testing.T) {
	expose := start(t, "list", "expose", "reverse", reversing(t))
	peer := expose.addresses()
	expose.line("KIND +PROTOCOL +LISTEN +TARGET +STATE +STREAMS +STREAMS_TOTAL +BYTES_IN +BYTES_OUT")
	expose.line("listener +/x/reverse +/p2p/12D3KooW\\w+ +127.0.0.1:\\d+ +listening +0 +0 +0 +0")
	expose.line("")
	forward := start(t, "list", "forward", "reverse", "127.0.0.1:0", peer)
	address := forward.line("listen (.*)")[1]
	forward.line("ready")
	forward.line("forward +/x/reverse +" + address + " +/p2p/12D3KooW\\w+ +idle +0 +0 +0 +0")
	conn := dial(t, address)
	_, err := conn.Write([]byte("hello"))
	must(t, err)
	client := regexp.QuoteMeta(conn.LocalAddr().String())
	forward.line("KIND +ID +PROTOCOL +ORIGIN +TARGET +TRANSPORT +PATH +AGE_MS +BYTES_IN +BYTES_OUT")
	// Once a second it is printed anew, with what passed meanwhile.
	forward.line("stream +0 +/x/reverse +" + client + " +/p2p/12D3KooW\\w+ +(tcp|quic) +direct +\\d{4,} +0 +5")
	expose.line("stream +0 +/x/reverse +/p2p/12D3KooW\\w+ +127.0.0.1:\\d+ +(tcp|quic) +direct +\\d+ +5 +0")
	must(t, conn.CloseWrite())
	answer, err := io.ReadAll(conn)
	must(t, err)
	if string(answer) != "olleh" {
		t.Errorf("%q", answer)
	}
	forward.line("forward +/x/reverse +" + address + " +/p2p/12D3KooW\\w+ +connected +0 +1 +5 +5")
	expose.line("listener .* +listening +0 +1 +5 +5")
	forward.quits("quit\n")
	expose.quits("")
}

func TestListIsSilentWhileNothingHappens(t *testing.T) {
	expose := start(t, "list", "expose", "reverse", reversing(t))
	expose.addresses()
	expose.line("")
	select {
	case line := <-expose.lines:
		t.Errorf("printed: %q", line)
	case <-time.After(1500 * time.Millisecond):
	}
	expose.quits("quit\n")
}

func TestWrongUsageAndErrorsOfTheLibraryHaveTheirExitCodes(t *testing.T) {
	busy := reversing(t)
	nobody := "/ip4/127.0.0.1/tcp/1/p2p/" + strings.TrimPrefix(start(t, "echo", "server").line("peer .*")[0], "peer ")
	for _, test := range []struct {
		arguments string
		code      int
		says      string
	}{
		{"tunnel", 2, "^usage: tunnel expose"},
		{"tunnel serve a b", 2, "^usage: tunnel expose"},
		{"tunnel expose only-protocol", 2, "^usage: "},
		{"tunnel forward a 127.0.0.1:0", 2, "^usage: "},
		{"tunnel expose a 127.0.0.1:1 surplus", 2, `"surplus" is not an option[^\n]*\nusage: `},
		{"list", 2, "^usage: list expose"},
		{"echo", 2, "^usage: echo server"},
		{"echo server surplus", 2, "^usage: "},
		{"echo client", 2, "^usage: "},
		{"tunnel expose open.timeuot=1s a 127.0.0.1:1", 1, `^node: [^\n]*open\.timeuot[^\n]* \(P2P_ERROR_BAD_OPTION\)\n$`},
		{"tunnel expose a 127.0.0.1:0", 1, `^listen: [^\n]* \(P2P_ERROR_BAD_ADDRESS\)\n$`},
		{"tunnel forward a " + busy + " " + nobody, 1, `^forward: [^\n]*` + busy + `[^\n]* \(P2P_ERROR_ADDRESS_IN_USE\)\n$`},
		{"list forward a 127.0.0.1:0 " + nobody + " verify=true", 1, `^forward: [^\n]* \(P2P_ERROR_UNREACHABLE\)\n$`},
		{"echo client network=nowhere " + nobody, 1, `^node: [^\n]* \(P2P_ERROR_BAD_OPTION\)\n$`},
	} {
		p := start(t, strings.Fields(test.arguments)...)
		// An input that is at its end from the start hides no error.
		must(t, p.input.Close())
		if code := p.ends(); code != test.code || !regexp.MustCompile(test.says).MatchString(p.errors.String()) {
			t.Errorf("%s: exit code %d, %q", test.arguments, code, p.errors.String())
		}
	}
}
