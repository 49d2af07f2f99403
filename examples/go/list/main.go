// List does what tunnel does and shows what goes through: a table of its mounts and streams, printed anew whenever one of
// them comes, goes or changes, and once a second while streams are open.
//
//	list expose my-web 127.0.0.1:8080
//	list forward my-web 127.0.0.1:9090 /ip4/192.0.2.7/tcp/4001/p2p/12D3KooW...
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	p2pmount "github.com/p2pmount/p2pmount/bindings/go"
	"github.com/p2pmount/p2pmount/examples/go/internal/command"
)

const usage = `usage: list expose [name=value ...] PROTOCOL TARGET [name=value ...]
       list forward [name=value ...] PROTOCOL LISTEN PEER [name=value ...]`

func main() { command.Exit(run(os.Args[1:]), usage) }

func run(arguments []string) error {
	mounted, err := command.Mount(arguments)
	if err != nil {
		return err
	}
	if err := watch(command.UntilQuit(), mounted.Node); err != nil {
		mounted.Node.Close()
		return err
	}
	return mounted.Close()
}

// watch prints the table until the context ends. It sleeps while nothing happens.
func watch(ctx context.Context, node *p2pmount.Node) error {
	subscription, err := node.Events(p2pmount.EventMount | p2pmount.EventStreamOpened | p2pmount.EventStreamClosed)
	if err != nil {
		return command.During("events", err)
	}
	defer subscription.Close()
	events := subscription.Chan(ctx)
	for {
		streams, err := show(node)
		if err != nil {
			return err
		}
		// A nil channel never fires: without streams only an event wakes the loop.
		var second <-chan time.Time
		if streams > 0 {
			second = time.After(time.Second)
		}
		select {
		case _, more := <-events:
			if !more {
				if ctx.Err() != nil {
					return nil
				}
				return command.During("events", subscription.Err())
			}
		case <-second:
		}
	}
}

var (
	mountColumns  = strings.Fields("kind protocol listen target state streams streams_total bytes_in bytes_out")
	streamColumns = strings.Fields("kind id protocol origin target transport path age_ms bytes_in bytes_out")
)

// show prints the table and tells how many streams are in it.
func show(node *p2pmount.Node) (int, error) {
	mounts, err := node.List(p2pmount.ListForwards | p2pmount.ListListeners)
	if err != nil {
		return 0, command.During("list", err)
	}
	streams, err := node.List(p2pmount.ListStreams)
	if err != nil {
		return 0, command.During("list", err)
	}
	var text strings.Builder
	if terminal() {
		// To the upper left corner, and forget what was there.
		text.WriteString("\x1b[H\x1b[J")
	}
	table(&text, mountColumns, mounts.Rows)
	table(&text, streamColumns, streams.Rows)
	if !terminal() {
		text.WriteString("\n")
	}
	_, err = os.Stdout.WriteString(text.String())
	return len(streams.Rows), err
}

// table writes rows with padded columns below a header in capitals; nothing if there are no rows. Fields are read by their
// names here; the structures of package p2pmount have them, too.
func table(text *strings.Builder, columns []string, rows []p2pmount.Row) {
	if len(rows) == 0 {
		return
	}
	padded := tabwriter.NewWriter(text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(padded, strings.ToUpper(strings.Join(columns, "\t")))
	for _, row := range rows {
		cells := make([]string, len(columns))
		for at, name := range columns {
			cells[at], _ = row.Text(name)
		}
		fmt.Fprintln(padded, strings.Join(cells, "\t"))
	}
	padded.Flush()
}

func terminal() bool {
	info, err := os.Stdout.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
