// Package command is what the example programs do alike: options from the command line, addresses, failures, waiting for
// the end.
package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	p2pmount "github.com/p2pmount/p2pmount/bindings/go"
)

// Options takes the leading arguments of the form name=value as options and gives the rest. The library takes every value
// as text, and says itself what it does not like.
func Options(arguments []string) (p2pmount.Options, []string) {
	options := p2pmount.Options{}
	for len(arguments) > 0 {
		name, value, found := strings.Cut(arguments[0], "=")
		if !found {
			break
		}
		options[name] = value
		arguments = arguments[1:]
	}
	return options, arguments
}

// Failure is an error with what the program was doing.
type Failure struct {
	What string
	Err  error
}

func (f *Failure) Error() string {
	var own *p2pmount.Error
	if errors.As(f.Err, &own) {
		return fmt.Sprintf("%s: %s (%s)", f.What, f.Err, own.Code.Name())
	}
	return fmt.Sprintf("%s: %s", f.What, f.Err)
}

func (f *Failure) Unwrap() error { return f.Err }

// During says what the program was doing when err came; nil stays nil.
func During(what string, err error) error {
	if err == nil {
		return nil
	}
	return &Failure{what, err}
}

// ErrUsage is the error of a program that was called wrongly.
var ErrUsage = errors.New("wrong usage")

// Exit ends a program with the code that its error means.
func Exit(err error, usage string) {
	switch {
	case err == nil:
		os.Exit(0)
	case errors.Is(err, ErrUsage):
		if err != ErrUsage {
			fmt.Fprintln(os.Stderr, err)
		}
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// PrintNode prints the node's peer id and its addresses, one a line.
func PrintNode(node *p2pmount.Node) error {
	address, err := node.Address()
	if err != nil {
		return During("address", err)
	}
	fmt.Println("peer", node.PeerID())
	for _, one := range strings.Split(address, ",") {
		fmt.Println("address", one)
	}
	return nil
}

// UntilQuit gives a context that ends with the line "quit" or the end of the input.
func UntilQuit() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			if strings.TrimSpace(lines.Text()) == "quit" {
				return
			}
		}
	}()
	return ctx
}

// Shutdown closes a node. Streams that still run may finish, for at most two seconds.
func Shutdown(node *p2pmount.Node) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	err := node.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		// The node is closed all the same; what was still running was cut.
		return nil
	}
	return During("close", err)
}

// Mounted is a program's one mount and its node.
type Mounted struct {
	Node  *p2pmount.Node
	close func() error
}

// Close closes the mount, then the node.
func (m *Mounted) Close() error {
	return errors.Join(During("close", m.close()), Shutdown(m.Node))
}

// Mount does what the arguments say, prints the addresses and "ready":
//
//	expose [name=value ...] PROTOCOL TARGET [name=value ...]
//	forward [name=value ...] PROTOCOL LISTEN PEER [name=value ...]
//
// Options before the protocol are the node's, those at the end the mount's.
func Mount(arguments []string) (*Mounted, error) {
	needed := map[string]int{"expose": 2, "forward": 3}
	if len(arguments) == 0 || needed[arguments[0]] == 0 {
		return nil, ErrUsage
	}
	mode := arguments[0]
	nodeOptions, rest := Options(arguments[1:])
	if len(rest) < needed[mode] {
		return nil, ErrUsage
	}
	what := rest[:needed[mode]]
	mountOptions, rest := Options(rest[needed[mode]:])
	if len(rest) > 0 {
		return nil, fmt.Errorf("%w: %q is not an option of the form name=value", ErrUsage, rest[0])
	}

	ctx := context.Background()
	node, err := p2pmount.Open(ctx, nodeOptions)
	if err != nil {
		return nil, During("node", err)
	}
	mounted := &Mounted{Node: node}
	if mode == "expose" {
		err = mounted.expose(what, mountOptions)
	} else {
		err = mounted.forward(ctx, what, mountOptions)
	}
	if err != nil {
		node.Close()
		return nil, err
	}
	fmt.Println("ready")
	return mounted, nil
}

func (m *Mounted) expose(what []string, options p2pmount.Options) error {
	listener, err := m.Node.Listen(what[0], what[1], options)
	if err != nil {
		return During("listen", err)
	}
	m.close = listener.Close
	return PrintNode(m.Node)
}

func (m *Mounted) forward(ctx context.Context, what []string, options p2pmount.Options) error {
	forward, err := m.Node.Forward(ctx, what[0], what[1], what[2], options)
	if err != nil {
		return During("forward", err)
	}
	m.close = forward.Close
	fmt.Println("listen", forward.Address())
	return nil
}
