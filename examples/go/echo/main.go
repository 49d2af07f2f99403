// Echo is an echo server that other peers reach by its peer id, and a client for it.
//
//	echo server
//	echo client /ip4/192.0.2.7/tcp/4001/p2p/12D3KooW...
//
// Both are ordinary TCP programs of Go's package net. The library only stands between them.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"

	p2pmount "github.com/p2pmount/p2pmount/bindings/go"
	"github.com/p2pmount/p2pmount/examples/go/internal/command"
)

const (
	usage = `usage: echo server [name=value ...]
       echo client [name=value ...] PEER`
	protocol = "echo-protocol"
)

func main() { command.Exit(run(os.Args[1:]), usage) }

func run(arguments []string) error {
	if len(arguments) == 0 {
		return command.ErrUsage
	}
	options, rest := command.Options(arguments[1:])
	switch {
	case arguments[0] == "server" && len(rest) == 0:
		return server(options)
	case arguments[0] == "client" && len(rest) == 1:
		return client(options, rest[0])
	}
	return command.ErrUsage
}

func server(options p2pmount.Options) error {
	service, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return command.During("service", err)
	}
	defer service.Close()
	go serve(service)

	node, err := p2pmount.Open(context.Background(), options)
	if err != nil {
		return command.During("node", err)
	}
	defer node.Close()
	listener, err := node.Listen(protocol, service.Addr().String())
	if err != nil {
		return command.During("listen", err)
	}
	if err := command.PrintNode(node); err != nil {
		return err
	}
	fmt.Println("ready")
	<-command.UntilQuit().Done()
	if err := listener.Close(); err != nil {
		return command.During("close", err)
	}
	return command.Shutdown(node)
}

// serve answers each client with what it sends. When a client has said its last word it still gets the whole answer, then
// the end.
func serve(service net.Listener) {
	for {
		conn, err := service.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			_, _ = io.Copy(conn, conn)
		}()
	}
}

func client(options p2pmount.Options, peer string) error {
	ctx := context.Background()
	node, err := p2pmount.Open(ctx, options)
	if err != nil {
		return command.During("node", err)
	}
	defer node.Close()
	// verify: a peer that is not there, or has no echo server, is an error here and not a reset connection later.
	forward, err := node.Forward(ctx, protocol, "127.0.0.1:0", peer, p2pmount.Option("verify", true))
	if err != nil {
		return command.During("forward", err)
	}
	if err := talk(forward.Address()); err != nil {
		return command.During("echo", err)
	}
	return command.Shutdown(node)
}

func talk(address string) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	for number := 1; number <= 5; number++ {
		message := fmt.Sprintf("Hello, world! (%d)", number)
		if _, err := fmt.Fprintln(conn, message); err != nil {
			return err
		}
		fmt.Println("sent:", message)
		answer, err := answers.ReadString('\n')
		if err != nil {
			return err
		}
		fmt.Print("received: ", answer)
	}
	return nil
}
