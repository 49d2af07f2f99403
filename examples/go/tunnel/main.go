// Tunnel exposes a local TCP service to other peers, or forwards a local port to one that a peer exposes.
//
//	tunnel expose my-web 127.0.0.1:8080
//	tunnel forward my-web 127.0.0.1:9090 /ip4/192.0.2.7/tcp/4001/p2p/12D3KooW...
//
// It prints the addresses that the other side or the clients need, and runs until "quit" or the end of its input.
package main

import (
	"os"

	"github.com/p2pmount/p2pmount/examples/go/internal/command"
)

const usage = `usage: tunnel expose [name=value ...] PROTOCOL TARGET [name=value ...]
       tunnel forward [name=value ...] PROTOCOL LISTEN PEER [name=value ...]`

func main() { command.Exit(run(os.Args[1:]), usage) }

func run(arguments []string) error {
	mounted, err := command.Mount(arguments)
	if err != nil {
		return err
	}
	<-command.UntilQuit().Done()
	return mounted.Close()
}
