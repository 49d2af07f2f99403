package p2pmount_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	p2pmount "github.com/p2pmount/p2pmount/bindings/go"
)

func TestBytesPassBothWaysAndEachDirectionEndsAlone(t *testing.T) {
	for _, transport := range []string{"tcp", "quic"} {
		t.Run(transport, func(t *testing.T) {
			begin(t)
			// The target answers only when it has read everything.
			target := service(t, func(conn net.Conn) {
				sum := sha256.New()
				_, _ = io.Copy(sum, conn)
				_, _ = conn.Write(sum.Sum(nil))
			})
			server := open(t, p2pmount.Options{"transports": []string{transport}})
			client := open(t, p2pmount.Option("transports", transport))
			_, err := server.Listen("sum", target)
			must(t, err)
			forward, err := client.Forward(context.Background(), "sum", "127.0.0.1:0", address(t, server))
			must(t, err)
			conn := dial(t, forward.Address())
			data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
			_, err = conn.Write(data)
			must(t, err)
			must(t, conn.CloseWrite())
			answer, err := io.ReadAll(conn)
			must(t, err)
			if want := sha256.Sum256(data); !bytes.Equal(answer, want[:]) {
				t.Errorf("wrong answer of %d bytes", len(answer))
			}
			peers, err := client.List(p2pmount.ListPeers)
			must(t, err)
			if len(peers.Peers) != 1 || peers.Peers[0].Transport != transport {
				t.Errorf("not over %s: %v", transport, peers.Peers)
			}
		})
	}
}

func TestANodeTellsItsPeerIDAndAddresses(t *testing.T) {
	begin(t)
	node := open(t)
	if !strings.HasPrefix(node.PeerID(), "12D3KooW") {
		t.Errorf("peer id %s", node.PeerID())
	}
	now, err := node.List(p2pmount.ListAddresses | p2pmount.ListNode)
	must(t, err)
	var listed []string
	for _, row := range now.Addresses {
		listed = append(listed, row.Address)
		if !strings.HasSuffix(row.Address, "/p2p/"+node.PeerID()) {
			t.Errorf("address without the peer id: %s", row.Address)
		}
	}
	if text := address(t, node); text != strings.Join(listed, ",") || len(listed) < 2 {
		t.Errorf("address %s, listed %v", text, listed)
	}
	if now.Node.Peer != node.PeerID() || now.Node.State != "open" || now.Node.Network != "local" {
		t.Errorf("node %v", now.Node.Map())
	}
	dialler := open(t, p2pmount.Option("listen.addresses", []string{}))
	if text := address(t, dialler); text != dialler.PeerID() {
		t.Errorf("a node that only dials has the address %s", text)
	}
}

func TestAnAddressLongerThanTheUsualBufferIsWhole(t *testing.T) {
	begin(t)
	var addresses []string
	for host := range 60 {
		addresses = append(addresses, fmt.Sprintf("/ip4/127.0.0.%d/tcp/0", host+1))
	}
	node := open(t, p2pmount.Options{"listen.addresses": addresses, "transports": "tcp"})
	text := address(t, node)
	if got := strings.Split(text, ","); len(got) != 60 || len(text) < 4096 {
		t.Errorf("%d addresses in %d bytes", len(got), len(text))
	}
}

func TestAKeyFileKeepsThePeerID(t *testing.T) {
	begin(t)
	key := p2pmount.Option("identity.file", filepath.Join(t.TempDir(), "key"))
	first := open(t, key)
	must(t, first.Close())
	if second := open(t, key); second.PeerID() != first.PeerID() {
		t.Errorf("%s became %s", first.PeerID(), second.PeerID())
	}
}

func TestAnExportedKeyIsTheSameInEachForm(t *testing.T) {
	begin(t)
	folder := t.TempDir()
	key := filepath.Join(folder, "key")
	first := open(t, p2pmount.Option("identity.file", key))
	must(t, first.Close())
	for _, format := range []string{p2pmount.KeyProtobuf, p2pmount.KeyPKCS8, p2pmount.KeyBase64} {
		file := filepath.Join(folder, format)
		must(t, p2pmount.ExportKey(key, format, file))
		node := open(t, p2pmount.Option("identity.file", file))
		must(t, node.Close())
		if node.PeerID() != first.PeerID() {
			t.Errorf("%s: %s became %s", format, first.PeerID(), node.PeerID())
		}
	}
	if err := p2pmount.ExportKey(key, p2pmount.KeyBase64, key); !errors.Is(err, p2pmount.ErrBadKey) {
		t.Errorf("the key was overwritten, or: %v", err)
	}
	if err := p2pmount.ExportKey(key, "jwk", filepath.Join(folder, "new")); !errors.Is(err, p2pmount.ErrInvalidArgument) {
		t.Errorf("a format that does not exist: %v", err)
	}
}

// What the fields of the structures are called is in their tags. A row may have more: those are read by name.
func TestStructuresAgreeWithTheirRows(t *testing.T) {
	begin(t)
	server, client, forward := pair(t)
	talk(t, dial(t, forward.Address()), "hello\n")
	ofServer, err := server.List(p2pmount.ListListeners | p2pmount.ListNode)
	must(t, err)
	ofClient, err := client.List(p2pmount.ListForwards | p2pmount.ListStreams | p2pmount.ListPeers | p2pmount.ListAddresses)
	must(t, err)
	// The bytes are counted when they have been passed on.
	for ofClient.Streams[0].BytesIn < 6 {
		ofClient, err = client.List(p2pmount.ListForwards | p2pmount.ListStreams | p2pmount.ListPeers | p2pmount.ListAddresses)
		must(t, err)
	}
	ofProcess, err := p2pmount.List(p2pmount.ListOptions | p2pmount.ListProcess)
	must(t, err)
	setting, err := client.Get("open.timeout")
	must(t, err)
	for _, row := range []any{
		ofServer.Listeners[0], *ofServer.Node, ofClient.Forwards[0], ofClient.Streams[0], ofClient.Peers[0],
		ofClient.Addresses[0], ofProcess.Options[0], *ofProcess.Process, setting,
	} {
		checkStructure(t, row)
	}
	stream := ofClient.Streams[0]
	if stream.Protocol != "/x/echo" || stream.BytesIn != 6 || stream.BytesOut != 6 || stream.Side != "forward" ||
		stream.Mount != forward.ID() || stream.Peer != server.PeerID() || stream.Age < 0 || stream.Age > time.Minute {
		t.Errorf("stream %+v", stream)
	}
	if text, ok := stream.Text("bytes_in"); text != "6" || !ok {
		t.Errorf("bytes_in as text: %q, %v", text, ok)
	}
	if number, ok := stream.Int("bytes_in"); number != 6 || !ok {
		t.Errorf("bytes_in: %d, %v", number, ok)
	}
	if _, ok := stream.Int("origin"); ok {
		t.Error("origin is no number")
	}
	if text := ofClient.Addresses[0].String(); text != "kind=address address="+ofClient.Addresses[0].Address {
		t.Errorf("as text: %s", text)
	}
	if text := fmt.Sprint(ofServer.Listeners[0]); !strings.HasPrefix(text, "kind=listener id=") || !strings.HasSuffix(text, `access="open to all"`) {
		t.Errorf("as text: %s", text)
	}
	if _, ok := stream.Text("nothing"); ok {
		t.Error("there is no field called nothing")
	}
	if info := ofClient.Forwards[0]; info.State != "connected" || info.Listen != forward.Address() || info.Streams != 1 || info.StreamsTotal != 1 {
		t.Errorf("forward %+v", info)
	}
	if len(ofClient.Rows) != len(ofClient.Forwards)+len(ofClient.Streams)+len(ofClient.Peers)+len(ofClient.Addresses) {
		t.Errorf("%d rows", len(ofClient.Rows))
	}
}

// checkStructure fails unless the structure has a member for each field of its row, with the same value, and no other.
func checkStructure(t *testing.T, structure any) {
	t.Helper()
	of := reflect.ValueOf(structure)
	row := of.FieldByName("Row").Interface().(p2pmount.Row)
	values := row.Map()
	for at := 0; at < of.NumField(); at++ {
		name := of.Type().Field(at).Tag.Get("p2p")
		if name == "" {
			continue
		}
		value, ok := values[name]
		if !ok {
			t.Errorf("%s has %s, its row has not", of.Type(), name)
			continue
		}
		member := of.Field(at)
		same := false
		switch {
		case member.Type() == reflect.TypeOf(time.Duration(0)):
			same = member.Int() == value.(int64)*int64(time.Millisecond) || member.Int() == value.(int64)*int64(time.Microsecond)
		case member.Kind() == reflect.Bool:
			same = member.Bool() == (value.(int64) != 0)
		case member.CanUint():
			same = int64(member.Uint()) == value
		case member.CanInt():
			same = member.Int() == value
		default:
			same = member.Interface() == value
		}
		if !same {
			t.Errorf("%s: %s is %v, in the row %v", of.Type(), name, member, value)
		}
	}
}

func TestOnlyFieldsOfTheManualAreNamedInStructures(t *testing.T) {
	manual, err := os.ReadFile(checkout(t, "docs", "FIELDS.md"))
	must(t, err)
	types := []any{
		p2pmount.ListenerInfo{}, p2pmount.ForwardInfo{}, p2pmount.StreamInfo{}, p2pmount.PeerInfo{}, p2pmount.AddressInfo{},
		p2pmount.NodeInfo{}, p2pmount.OptionInfo{}, p2pmount.ProcessInfo{}, p2pmount.Setting{}, p2pmount.Event{},
	}
	for _, of := range types {
		for at := 0; at < reflect.TypeOf(of).NumField(); at++ {
			name := reflect.TypeOf(of).Field(at).Tag.Get("p2p")
			if name != "" && !strings.Contains(string(manual), "\n| `"+name+"` |") {
				t.Errorf("%T: the manual has no field %s", of, name)
			}
		}
	}
}

// Any option of the library's own table can be given; none is known to this package.
func TestEveryOptionOfTheTableCanBeGivenByName(t *testing.T) {
	begin(t)
	table, err := p2pmount.List(p2pmount.ListOptions)
	must(t, err)
	manual, err := os.ReadFile(checkout(t, "docs", "OPTIONS.md"))
	must(t, err)
	documented := regexp.MustCompile("(?m)^\\| `[a-z._-]+` \\|").FindAllString(string(manual), -1)
	if len(table.Options) != len(documented) {
		t.Errorf("%d options in the table, %d in the manual", len(table.Options), len(documented))
	}
	ofNode, ofListener, ofForward, ofQueue := p2pmount.Options{}, p2pmount.Options{}, p2pmount.Options{}, p2pmount.Options{}
	for _, option := range table.Options {
		for scope, opts := range map[string]p2pmount.Options{"node": ofNode, "listener": ofListener, "forward": ofForward, "queue": ofQueue} {
			if strings.Contains(option.Scope, scope) {
				opts[option.Name] = option.Default
			}
		}
	}
	ofNode["network"] = "local"
	node, other := open(t, ofNode), open(t)
	_, err = node.Listen("a", "127.0.0.1:1", ofListener)
	must(t, err)
	_, err = node.Forward(context.Background(), "b", "127.0.0.1:0", address(t, other), ofForward)
	must(t, err)
	subscribe(t, node, p2pmount.EventAll, ofQueue)
}

func TestOptionsAreInForceAndLiveOnesCanBeChanged(t *testing.T) {
	begin(t)
	node := open(t, p2pmount.Options{"open.timeout": 1500 * time.Millisecond, "reconnect": false})
	listener, err := node.Listen("a", "127.0.0.1:1", p2pmount.Option("streams.per_mount", 7))
	must(t, err)
	for _, test := range []struct {
		get           func(string) (p2pmount.Setting, error)
		name          string
		value, source string
	}{
		{node.Get, "open.timeout", "1500ms", "options"},
		{node.Get, "reconnect", "false", "options"},
		{node.Get, "target.timeout", "10s", "default"},
		{node.Get, "network", "local", "environment"},
		{listener.Get, "streams.per_mount", "7", "options"},
		{p2pmount.Get, "threads", "0", "default"},
	} {
		setting, err := test.get(test.name)
		must(t, err)
		if setting.Name != test.name || setting.Source != test.source || setting.Value != test.value {
			t.Errorf("%s: %q from %q, expected %q from %q", test.name, setting.Value, setting.Source, test.value, test.source)
		}
	}
	must(t, node.Set("open.timeout", 3*time.Second))
	must(t, listener.Set("peers.allow", []string{node.PeerID()}))
	setting, err := listener.Get("peers.allow")
	must(t, err)
	if setting.Value != node.PeerID() || setting.Source != "set" {
		t.Errorf("%+v", setting)
	}
	wants(t, node.Set("transports", "tcp"), p2pmount.ErrBadOption)
	wants(t, node.Set("open.timeout", nil), p2pmount.ErrBadOption)
}

func TestTheLogIsWrittenToADescriptor(t *testing.T) {
	begin(t)
	reader, writer, err := os.Pipe()
	must(t, err)
	defer reader.Close()
	must(t, p2pmount.Set("log.fd", int(writer.Fd())))
	must(t, p2pmount.Set("log.level", "debug"))
	must(t, open(t).Close())
	must(t, p2pmount.Set("log.level", "off"))
	must(t, p2pmount.Set("log.fd", -1))
	writer.Close()
	text, err := io.ReadAll(reader)
	must(t, err)
	if !strings.Contains(string(text), "node closed") {
		t.Errorf("log: %q", text)
	}
}

func TestErrorsTellTheirKindAndNameTheCulprit(t *testing.T) {
	ctx := begin(t)
	node, taken := open(t), service(t, echo)
	_, err := node.Forward(ctx, "a", taken, nowhere(t))
	wants(t, err, p2pmount.ErrAddressInUse, syscall.EADDRINUSE)
	var own *p2pmount.Error
	if !errors.As(err, &own) || !strings.Contains(own.Message, taken) || own.Code.Name() != "P2P_ERROR_ADDRESS_IN_USE" ||
		own.Error() != own.Message || own.Timeout() {
		t.Errorf("%#v", err)
	}
	_, err = p2pmount.Open(ctx, p2pmount.Option("open.timeuot", "5s"))
	wants(t, err, p2pmount.ErrBadOption)
	if !strings.Contains(err.Error(), "open.timeuot") {
		t.Error(err)
	}
	_, err = p2pmount.Open(ctx, p2pmount.Option("open.timeout", 1.5))
	wants(t, err, p2pmount.ErrBadOption)
	_, err = p2pmount.Open(ctx, p2pmount.Option("identity.file", "a\x00b"))
	wants(t, err, p2pmount.ErrInvalidArgument)
	_, err = node.Listen("/not/below/x", "127.0.0.1:1")
	wants(t, err, p2pmount.ErrBadProtocol)
	_, err = node.Listen("a", "127.0.0.1:0")
	wants(t, err, p2pmount.ErrBadAddress)
	_, err = node.Listen("a\x00b", "127.0.0.1:1")
	wants(t, err, p2pmount.ErrInvalidArgument)
	_, err = node.Listen("a\xff", "127.0.0.1:1")
	wants(t, err, p2pmount.ErrInvalidArgument)
	_, err = node.Listen("a", "127.0.0.1:1", p2pmount.Option("verify", true))
	wants(t, err, p2pmount.ErrBadOption)
	_, err = node.Listen("a", "127.0.0.1:1")
	must(t, err)
	_, err = node.Listen("a", "127.0.0.1:2")
	wants(t, err, p2pmount.ErrAlreadyRegistered)
	wants(t, node.Connect(ctx, "nobody"), p2pmount.ErrBadPeer)
	wants(t, node.Connect(ctx, node.PeerID()), p2pmount.ErrBadPeer)
	wants(t, node.CloseStream(12345), p2pmount.ErrNotFound)
	_, err = node.List(0)
	wants(t, err, p2pmount.ErrInvalidArgument)
	_, err = node.Events(0)
	wants(t, err, p2pmount.ErrInvalidArgument)
	_, err = node.CloseMounts(p2pmount.CloseFilter{})
	wants(t, err, p2pmount.ErrInvalidArgument)
	_, err = p2pmount.List(p2pmount.ListNode)
	wants(t, err, p2pmount.ErrBadHandle)
	err = node.Connect(ctx, nowhere(t))
	wants(t, err, p2pmount.ErrUnreachable)
	if errors.Is(err, p2pmount.ErrClosed) || errors.Is(err, p2pmount.ErrTimedOut) {
		t.Errorf("%v is of other kinds, too", err)
	}
}

func TestASystemErrorIsFound(t *testing.T) {
	begin(t)
	_, err := p2pmount.Open(context.Background(), p2pmount.Option("identity.file", filepath.Join(t.TempDir(), "missing", "key")))
	wants(t, err, p2pmount.ErrBadKey, syscall.ENOENT, fs.ErrNotExist)
}

func TestConnectAndAVerifiedForwardReportWhatTheyFound(t *testing.T) {
	ctx := begin(t)
	server, client := open(t), open(t)
	must(t, client.Connect(ctx, address(t, server)))
	must(t, client.Connect(ctx, server.PeerID()))
	verify := p2pmount.Option("verify", true)
	_, err := client.Forward(ctx, "nothing", "127.0.0.1:0", server.PeerID(), verify)
	wants(t, err, p2pmount.ErrProtocolRefused)
	_, err = server.Listen("echo", service(t, echo))
	must(t, err)
	forward, err := client.Forward(ctx, "echo", "localhost:0", server.PeerID(), verify)
	must(t, err)
	talk(t, dial(t, forward.Address()), "hello\n")
	info, err := forward.Info()
	must(t, err)
	if info.State != "connected" || info.ID != forward.ID() || forward.Node() != client {
		t.Errorf("%+v", info)
	}
}

func TestTheEndOfAContextCancelsAndLeavesNothing(t *testing.T) {
	calls := map[string]func(context.Context, *p2pmount.Node, string) error{
		"connect": func(ctx context.Context, node *p2pmount.Node, peer string) error { return node.Connect(ctx, peer) },
		"forward": func(ctx context.Context, node *p2pmount.Node, peer string) error {
			_, err := node.Forward(ctx, "a", "127.0.0.1:0", peer, p2pmount.Option("verify", true))
			return err
		},
		"next": func(ctx context.Context, node *p2pmount.Node, _ string) error {
			events, err := node.Events(p2pmount.EventAddress)
			if err != nil {
				return err
			}
			defer events.Close()
			_, err = events.Next(ctx)
			return err
		},
	}
	reason := errors.New("the user went away")
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			begin(t)
			node := open(t, p2pmount.Option("transports", "tcp"))
			peer, _ := silent(t)

			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			wants(t, call(ctx, node, peer), p2pmount.ErrCancelled, context.Canceled)

			ctx, cancel = context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			err := call(ctx, node, peer)
			wants(t, err, p2pmount.ErrCancelled, context.DeadlineExceeded)
			if failed, ok := err.(net.Error); !ok || !failed.Timeout() || !strings.Contains(err.Error(), "deadline exceeded") {
				t.Errorf("%v is no timeout", err)
			}
			if !strings.Contains(err.Error(), "was cancelled") {
				t.Errorf("%v does not say what came of it", err)
			}

			ctx, stop := context.WithCancelCause(context.Background())
			time.AfterFunc(50*time.Millisecond, func() { stop(reason) })
			err = call(ctx, node, peer)
			wants(t, err, p2pmount.ErrCancelled, context.Canceled, reason)
			if !strings.Contains(err.Error(), reason.Error()) {
				t.Errorf("%v does not say why", err)
			}

			now, err := node.List(p2pmount.ListForwards | p2pmount.ListPeers)
			must(t, err)
			if len(now.Rows) != 0 {
				t.Errorf("left: %v", now.Rows)
			}
		})
	}
	t.Run("open", func(t *testing.T) {
		begin(t)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_, err := p2pmount.Open(ctx)
		wants(t, err, context.Canceled)
	})
}

// What was cancelled is named by the library: its sentence is passed on, with what the context says behind it.
func TestACancelledCallHasTheSentenceOfItsOperation(t *testing.T) {
	ctx := begin(t)
	peer, _ := silent(t)
	server := open(t)
	_, err := server.Listen("echo", service(t, echo))
	must(t, err)
	for name, call := range map[string]func(context.Context, *p2pmount.Node) error{
		"connect": func(ctx context.Context, node *p2pmount.Node) error {
			soon, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
			defer cancel()
			return node.Connect(soon, peer)
		},
		"forward": func(ctx context.Context, node *p2pmount.Node) error {
			soon, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
			defer cancel()
			_, err := node.Forward(soon, "a", "127.0.0.1:0", peer, p2pmount.Option("verify", true))
			return err
		},
		"shutdown": func(ctx context.Context, node *p2pmount.Node) error {
			forward, err := node.Forward(ctx, "echo", "127.0.0.1:0", address(t, server))
			must(t, err)
			talk(t, dial(t, forward.Address()), "the stream stays open\n")
			soon, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
			defer cancel()
			return node.Shutdown(soon)
		},
	} {
		node := open(t, p2pmount.Option("transports", "tcp"))
		events := subscribe(t, node, p2pmount.EventOperation)
		err := call(ctx, node)
		var failed *p2pmount.Error
		if !errors.As(err, &failed) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("%s: %v", name, err)
		}
		event := next(t, events)
		for event.Code == p2pmount.OK {
			event = next(t, events)
		}
		if failed.Message != event.Message || !strings.Contains(event.Message, "was cancelled") ||
			failed.Error() != event.Message+": "+context.DeadlineExceeded.Error() {
			t.Errorf("%s: %q, the operation ended with %q", name, failed, event.Message)
		}
	}
}

func TestAnOptionEndsACallByItselfWithoutAContext(t *testing.T) {
	begin(t)
	node := open(t, p2pmount.Option("transports", "tcp"))
	peer, _ := silent(t)
	_, err := node.Forward(context.Background(), "a", "127.0.0.1:0", peer, p2pmount.Options{"verify": true, "open.timeout": 50 * time.Millisecond})
	wants(t, err, p2pmount.ErrTimedOut)
	if !err.(net.Error).Timeout() || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestClosingANodeWakesWhoWaits(t *testing.T) {
	begin(t)
	node := open(t, p2pmount.Option("transports", "tcp"))
	peer, reached := silent(t)
	events := subscribe(t, node, p2pmount.EventTargetRefused)
	verify := p2pmount.Option("verify", true)
	results := make(chan error)
	calls := []func() error{
		func() error { return node.Connect(context.Background(), peer) },
		func() error {
			_, err := node.Forward(context.Background(), "a", "127.0.0.1:0", peer, verify)
			return err
		},
		func() error { _, err := events.Next(context.Background()); return err },
	}
	for _, call := range calls {
		go func() { results <- call() }()
	}
	<-reached
	must(t, node.Close())
	for range calls {
		wants(t, <-results, p2pmount.ErrClosed, net.ErrClosed, os.ErrClosed)
	}
}

func TestWhatIsClosedSaysSo(t *testing.T) {
	ctx := begin(t)
	server, client, forward := pair(t)
	events := subscribe(t, server, p2pmount.EventAll)
	where := forward.Address()
	must(t, forward.Close())
	wants(t, forward.Close(), p2pmount.ErrClosed, p2pmount.ErrBadHandle)
	_, err := forward.Info()
	wants(t, err, p2pmount.ErrClosed)
	// The port is free again.
	_, err = client.Forward(ctx, "echo", where, server.PeerID())
	must(t, err)
	must(t, client.Close())
	must(t, server.Close())
	wants(t, server.Close(), p2pmount.ErrClosed, p2pmount.ErrBadHandle, net.ErrClosed)
	wants(t, server.Shutdown(ctx), p2pmount.ErrClosed)
	_, err = server.Address()
	wants(t, err, p2pmount.ErrClosed)
	_, err = server.List(p2pmount.ListNode)
	wants(t, err, p2pmount.ErrClosed)
	_, err = server.Listen("a", "127.0.0.1:1")
	wants(t, err, p2pmount.ErrClosed)
	_, err = server.Forward(ctx, "a", "127.0.0.1:0", client.PeerID())
	wants(t, err, p2pmount.ErrClosed)
	_, err = server.Events(p2pmount.EventAll)
	wants(t, err, p2pmount.ErrClosed)
	wants(t, server.Connect(ctx, client.PeerID()), p2pmount.ErrClosed)
	wants(t, server.Set("open.timeout", "1s"), p2pmount.ErrClosed)
	if server.PeerID() == "" {
		t.Error("a closed node still has its id")
	}
	must(t, events.Close())
	wants(t, events.Close(), p2pmount.ErrClosed)
	_, err = events.Next(ctx)
	wants(t, err, p2pmount.ErrClosed)
}

func TestManyClosesAtOnceAllSucceedOrSayClosed(t *testing.T) {
	ctx := begin(t)
	for range 5 {
		node := open(t)
		var all sync.WaitGroup
		var mu sync.Mutex
		succeeded := 0
		for at := range 8 {
			all.Add(1)
			go func() {
				defer all.Done()
				end := node.Close
				if at%2 == 0 {
					end = func() error { return node.Shutdown(ctx) }
				}
				err := end()
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					succeeded++
				} else if !errors.Is(err, p2pmount.ErrClosed) && !errors.Is(err, p2pmount.ErrCancelled) {
					t.Errorf("close: %v", err)
				}
			}()
		}
		all.Wait()
		if succeeded == 0 {
			t.Error("no close succeeded")
		}
	}
}

func TestShutdownLetsStreamsFinish(t *testing.T) {
	ctx := begin(t)
	server, _, forward := pair(t)
	conn := dial(t, forward.Address())
	talk(t, conn, "before\n")
	events := subscribe(t, server, p2pmount.EventNode)
	done := make(chan error, 1)
	go func() { done <- server.Shutdown(ctx) }()
	event, err := events.Next(ctx)
	must(t, err)
	if event.State != "closing" {
		t.Errorf("state %s", event.State)
	}
	talk(t, conn, "while it drains\n")
	must(t, conn.CloseWrite())
	rest, err := io.ReadAll(conn)
	must(t, err)
	if len(rest) != 0 {
		t.Errorf("%q", rest)
	}
	must(t, <-done)
}

func TestShutdownCutsStreamsWhenItsContextEnds(t *testing.T) {
	begin(t)
	server, _, forward := pair(t)
	conn := dial(t, forward.Address())
	talk(t, conn, "before\n")
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	wants(t, server.Shutdown(ctx), context.DeadlineExceeded)
	_, err := server.List(p2pmount.ListNode)
	wants(t, err, p2pmount.ErrClosed)
	_, err = io.ReadAll(conn)
	wants(t, err, syscall.ECONNRESET)
}

func TestShutdownWithAContextThatHasEndedCloses(t *testing.T) {
	begin(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	node := open(t)
	wants(t, node.Shutdown(ctx), context.Canceled)
	wants(t, node.Close(), p2pmount.ErrClosed)
}

func TestCloseEndsTheDrainingOfAShutdown(t *testing.T) {
	ctx := begin(t)
	server, _, forward := pair(t)
	talk(t, dial(t, forward.Address()), "before\n")
	events := subscribe(t, server, p2pmount.EventNode)
	done := make(chan error, 2)
	go func() { done <- server.Shutdown(context.Background()) }()
	_, err := events.Next(ctx)
	must(t, err)
	go func() { done <- server.Shutdown(context.Background()) }()
	must(t, server.Close())
	for range 2 {
		if err := <-done; err != nil && !errors.Is(err, p2pmount.ErrCancelled) && !errors.Is(err, p2pmount.ErrClosed) {
			t.Error(err)
		}
	}
}

func TestMountsAreClosedByFilter(t *testing.T) {
	ctx := begin(t)
	server, client, forward := pair(t)
	_, err := client.Listen("own", "127.0.0.1:1")
	must(t, err)
	other, err := client.Forward(ctx, "other", "127.0.0.1:0", server.PeerID())
	must(t, err)
	closing := func(filter p2pmount.CloseFilter, want int) {
		t.Helper()
		closed, err := client.CloseMounts(filter)
		must(t, err)
		if closed != want {
			t.Errorf("%+v closed %d, not %d", filter, closed, want)
		}
	}
	conn := dial(t, forward.Address())
	talk(t, conn, "before\n")
	closing(p2pmount.CloseFilter{Protocol: "nothing"}, 0)
	closing(p2pmount.CloseFilter{Protocol: "other", OnlyListeners: true}, 0)
	closing(p2pmount.CloseFilter{Protocol: "/x/other", Listen: other.Address()}, 1)
	closing(p2pmount.CloseFilter{Target: "/p2p/" + server.PeerID()}, 1)
	talk(t, conn, "it runs on\n")
	_, err = client.Forward(ctx, "echo", forward.Address(), server.PeerID())
	must(t, err)
	closing(p2pmount.CloseFilter{All: true, OnlyForwards: true, Streams: true}, 1)
	closing(p2pmount.CloseFilter{All: true}, 1)
}

func TestAStreamCanBeClosedAlone(t *testing.T) {
	begin(t)
	_, client, forward := pair(t)
	first, second := dial(t, forward.Address()), dial(t, forward.Address())
	talk(t, first, "one\n")
	talk(t, second, "two\n")
	now, err := forward.List(p2pmount.ListStreams)
	must(t, err)
	for _, stream := range now.Streams {
		if stream.Origin == first.LocalAddr().String() {
			must(t, client.CloseStream(stream.ID))
		}
	}
	_, err = first.Read(make([]byte, 1))
	wants(t, err, syscall.ECONNRESET)
	talk(t, second, "still there\n")
	must(t, forward.CloseWithStreams())
	_, err = second.Read(make([]byte, 1))
	wants(t, err, syscall.ECONNRESET)
}

func TestAForgottenNodeServesOnWhileItHasMounts(t *testing.T) {
	ctx := begin(t)
	nodes, target := process(t).Nodes, service(t, echo)
	where, end := func() (string, func()) {
		server, err := p2pmount.Open(ctx)
		must(t, err)
		listener, err := server.Listen("echo", target)
		must(t, err)
		client, err := p2pmount.Open(ctx)
		must(t, err)
		forward, err := client.Forward(ctx, "echo", "127.0.0.1:0", address(t, server))
		must(t, err)
		end := p2pmount.MountsCloser(listener, forward)
		return forward.Address(), end
	}()
	collect := func() {
		for range 5 {
			runtime.GC()
			time.Sleep(5 * time.Millisecond)
		}
	}
	collect()
	conn := dial(t, where)
	talk(t, conn, "hello\n")
	end()
	collect()
	talk(t, conn, "the stream runs on\n")
	must(t, conn.CloseWrite())
	for process(t).Nodes != nodes {
		runtime.GC()
		time.Sleep(5 * time.Millisecond)
	}
}

func TestAForgottenNodeIsClosedByTheCollector(t *testing.T) {
	begin(t)
	nodes, handles := process(t).Nodes, process(t).Handles
	func() {
		node, err := p2pmount.Open(context.Background())
		must(t, err)
		_, err = node.Events(p2pmount.EventAll)
		must(t, err)
		wants(t, node.Connect(context.Background(), nowhere(t)), p2pmount.ErrUnreachable)
	}()
	for process(t).Nodes != nodes || process(t).Handles != handles {
		runtime.GC()
		time.Sleep(5 * time.Millisecond)
	}
}

// The finalizer must not take a node away from a call that is its last user.
func TestANodeIsNotClosedDuringItsLastCall(t *testing.T) {
	ctx := begin(t)
	nodes := process(t).Nodes
	peer, reached := silent(t)
	collect, collected := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for collect.Err() == nil {
			runtime.GC()
		}
	}()
	for name, call := range map[string]func(*p2pmount.Node) error{
		"address": func(node *p2pmount.Node) error { _, err := node.Address(); return err },
		"list":    func(node *p2pmount.Node) error { _, err := node.List(p2pmount.ListNode); return err },
		"set":     func(node *p2pmount.Node) error { return node.Set("open.timeout", "1s") },
		"get":     func(node *p2pmount.Node) error { _, err := node.Get("open.timeout"); return err },
		"listen":  func(node *p2pmount.Node) error { l, err := node.Listen("a", "127.0.0.1:1"); return closed(l, err) },
		"events":  func(node *p2pmount.Node) error { _, err := node.Events(p2pmount.EventAll); return err },
		"connect": func(node *p2pmount.Node) error {
			soon, cancel := context.WithCancel(ctx)
			defer cancel()
			go func() {
				<-reached
				time.Sleep(50 * time.Millisecond)
				cancel()
			}()
			if err := node.Connect(soon, peer); !errors.Is(err, context.Canceled) {
				return fmt.Errorf("not the end of the context: %w", err)
			}
			return nil
		},
	} {
		for range 5 {
			node, err := p2pmount.Open(ctx, p2pmount.Option("transports", "tcp"))
			must(t, err)
			if err := call(node); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for process(t).Nodes != nodes {
		time.Sleep(5 * time.Millisecond)
	}
	collected()
	<-done
}

func closed(listener *p2pmount.Listener, err error) error {
	if err == nil {
		err = listener.Close()
	}
	return err
}

func TestAForgottenSubscriptionIsClosedByTheCollector(t *testing.T) {
	ctx := begin(t)
	node := open(t)
	before := process(t).Handles
	subscribed := make(chan struct{})
	go func() {
		defer close(subscribed)
		events, err := node.Events(p2pmount.EventMount)
		if err != nil {
			t.Error(err)
			return
		}
		// It stays for as long as somebody waits for its events.
		soon, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		if _, err := events.Next(soon); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	}()
	for waiting := true; waiting; {
		select {
		case <-subscribed:
			waiting = false
		default:
			runtime.GC()
		}
	}
	for process(t).Handles != before {
		runtime.GC()
	}
}

func TestAListenerKeepsItsNode(t *testing.T) {
	begin(t)
	listener := func() *p2pmount.Listener {
		node, err := p2pmount.Open(context.Background())
		must(t, err)
		listener, err := node.Listen("a", "127.0.0.1:1")
		must(t, err)
		return listener
	}()
	for range 5 {
		runtime.GC()
		time.Sleep(5 * time.Millisecond)
	}
	info, err := listener.Info()
	must(t, err)
	if info.State != "listening" || info.Target != listener.Target() {
		t.Errorf("%+v", info)
	}
	must(t, listener.Node().Close())
}

// Handles are numbers; what waits is parked by Go.
func TestWaitingTakesNoThreads(t *testing.T) {
	begin(t)
	node := open(t, p2pmount.Option("transports", "tcp"))
	peer, reached := silent(t)
	ctx, cancel := context.WithCancel(context.Background())
	const each = 150
	var all sync.WaitGroup
	one := subscribe(t, node, p2pmount.EventAddress)
	wait := func(call func() error) {
		all.Add(1)
		go func() {
			defer all.Done()
			if err := call(); !errors.Is(err, context.Canceled) {
				t.Errorf("%v", err)
			}
		}()
	}
	before := threads(t)
	for range each {
		own := subscribe(t, node, p2pmount.EventAddress)
		wait(func() error { return node.Connect(ctx, peer) })
		wait(func() error { _, err := one.Next(ctx); return err })
		wait(func() error { _, err := own.Next(ctx); return err })
	}
	<-reached
	if now := threads(t); now > before+20 {
		t.Errorf("%d threads before, %d while %d goroutines wait", before, now, 3*each)
	}
	cancel()
	all.Wait()
}

func threads(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/task")
	must(t, err)
	return len(entries)
}

// Calls that run at the same time read each other's results from one queue.
func TestManyOperationsAtOnceEachGetTheirOwnResult(t *testing.T) {
	begin(t)
	server, client := open(t), open(t, p2pmount.Option("transports", "tcp"))
	_, err := server.Listen("echo", service(t, echo))
	must(t, err)
	peer := address(t, server)
	nobody, _ := silent(t)
	var all sync.WaitGroup
	for at := range 120 {
		all.Add(1)
		go func() {
			defer all.Done()
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(at)*time.Millisecond)
			defer cancel()
			switch at % 4 {
			case 0:
				forward, err := client.Forward(context.Background(), "echo", "127.0.0.1:0", peer, p2pmount.Option("verify", true))
				if err != nil {
					t.Errorf("forward: %v", err)
					return
				}
				if err := forward.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			case 1:
				_, err := client.Forward(context.Background(), fmt.Sprint("no", at), "127.0.0.1:0", peer, p2pmount.Option("verify", true))
				if !errors.Is(err, p2pmount.ErrProtocolRefused) || !strings.Contains(err.Error(), fmt.Sprint("no", at)) {
					t.Errorf("refused: %v", err)
				}
			case 2:
				if err := client.Connect(ctx, nobody); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("silent peer: %v", err)
				}
			case 3:
				if err := client.Connect(context.Background(), peer); err != nil {
					t.Errorf("connect: %v", err)
				}
			}
		}()
	}
	all.Wait()
	now, err := client.List(p2pmount.ListForwards)
	must(t, err)
	if len(now.Forwards) != 0 {
		t.Errorf("%d forwards are left", len(now.Forwards))
	}
}

func TestOpeningAndClosingLeavesNoDescriptors(t *testing.T) {
	begin(t)
	peer := nowhere(t)
	once := func() {
		node, err := p2pmount.Open(context.Background())
		must(t, err)
		events, err := node.Events(p2pmount.EventAll)
		must(t, err)
		wants(t, node.Connect(context.Background(), peer), p2pmount.ErrUnreachable)
		must(t, node.Close())
		must(t, events.Close())
	}
	once()
	before := descriptors(t)
	for range 10 {
		once()
	}
	if after := descriptors(t); after > before+5 {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}

func TestTheVersionIsThatOfTheLibrary(t *testing.T) {
	if version := p2pmount.Version(); version != process(t).Version || version == "" {
		t.Errorf("version %q", version)
	}
}
