//go:build go1.23

package p2pmount_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"time"

	p2pmount "github.com/p2pmount/p2pmount/bindings/go"
)

// greeter is a local service: it says hello and the line that it gets.
func greeter() net.Listener {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			line, _ := bufio.NewReader(conn).ReadString('\n')
			fmt.Fprint(conn, "hello, ", line)
			conn.Close()
		}
	}()
	return listener
}

// ask connects to a greeter, wherever it is.
func ask(address, name string) string {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintln(conn, name)
	answer, _ := bufio.NewReader(conn).ReadString('\n')
	return answer
}

// One node exposes a service, another ties a local port to it.
func Example() {
	ctx := context.Background()
	service := greeter()
	defer service.Close()

	// Here both nodes are in one program. In practice they are on different machines.
	server, err := p2pmount.Open(ctx, p2pmount.Option("network", "local"))
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	if _, err := server.Listen("greeter", service.Addr().String()); err != nil {
		log.Fatal(err)
	}
	peer, err := server.Address()
	if err != nil {
		log.Fatal(err)
	}

	client, err := p2pmount.Open(ctx, p2pmount.Option("network", "local"))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	forward, err := client.Forward(ctx, "greeter", "127.0.0.1:0", peer)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(ask(forward.Address(), "world"))
	// Output: hello, world
}

func ExampleOpen() {
	node, err := p2pmount.Open(context.Background(), p2pmount.Options{
		"network":      "local",
		"transports":   []string{"quic", "tcp"},
		"open.timeout": 5 * time.Second,
		"reconnect":    false,
		"streams.max":  100,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
	timeout, err := node.Get("open.timeout")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(timeout.Value, "from", timeout.Source)
	// Output: 5000ms from options
}

func ExampleNode_Forward() {
	node, err := p2pmount.Open(context.Background(), p2pmount.Option("network", "local"))
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()

	// With verify the call fails if the peer is not there.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	nobody := "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X"
	_, err = node.Forward(ctx, "greeter", "127.0.0.1:0", nobody, p2pmount.Option("verify", true))
	fmt.Println(errors.Is(err, p2pmount.ErrUnreachable), errors.Is(err, context.DeadlineExceeded))

	// Without, the peer is dialled when the first client comes.
	forward, err := node.Forward(ctx, "greeter", "127.0.0.1:0", nobody)
	if err != nil {
		log.Fatal(err)
	}
	now, err := forward.Info()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(now.Protocol, now.State)
	// Output:
	// true false
	// /x/greeter idle
}

func ExampleNode_List() {
	node, err := p2pmount.Open(context.Background(), p2pmount.Option("network", "local"))
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
	if _, err := node.Listen("web", "127.0.0.1:8080"); err != nil {
		log.Fatal(err)
	}
	now, err := node.List(p2pmount.ListListeners | p2pmount.ListStreams)
	if err != nil {
		log.Fatal(err)
	}
	for _, listener := range now.Listeners {
		fmt.Println(listener.Protocol, "to", listener.Target, "is", listener.State)
		// Every field can be read by its name, too.
		access, _ := listener.Text("access")
		fmt.Println(access)
	}
	fmt.Println(len(now.Streams), "streams")
	// Output:
	// /x/web to 127.0.0.1:8080 is listening
	// open to all
	// 0 streams
}

func ExampleSubscription_All() {
	ctx := context.Background()
	node, err := p2pmount.Open(ctx, p2pmount.Option("network", "local"))
	if err != nil {
		log.Fatal(err)
	}
	events, err := node.Events(p2pmount.EventMount | p2pmount.EventNode)
	if err != nil {
		log.Fatal(err)
	}
	defer events.Close()
	if _, err := node.Listen("web", "127.0.0.1:8080"); err != nil {
		log.Fatal(err)
	}
	if err := node.Close(); err != nil {
		log.Fatal(err)
	}
	// What the closed node left can still be read; then the loop ends.
	for event := range events.All(ctx) {
		if event.Kind == p2pmount.EventMount {
			fmt.Println(event.Protocol, event.State)
		}
	}
	// Output:
	// /x/web listening
	// /x/web closed
}

func ExampleError() {
	service := greeter()
	defer service.Close()
	node, err := p2pmount.Open(context.Background(), p2pmount.Option("network", "local"))
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()

	// The port is the greeter's.
	_, err = node.Forward(context.Background(), "web", service.Addr().String(), node.PeerID())
	if errors.Is(err, p2pmount.ErrBadPeer) {
		fmt.Println("that is the own peer id")
	}
	var failed *p2pmount.Error
	if errors.As(err, &failed) {
		fmt.Println(failed.Code.Name(), failed.Temporary(), failed.Timeout())
	}
	// Output:
	// that is the own peer id
	// P2P_ERROR_BAD_PEER false false
}
