package p2pmount_test

import (
	"context"
	"errors"
	"strconv"
	"testing"

	p2pmount "github.com/p2pmount/p2pmount/bindings/go"
)

// What it costs to take an event that is there.
func BenchmarkNext(b *testing.B) {
	ctx := context.Background()
	node, err := p2pmount.Open(ctx, p2pmount.Option("network", "local"))
	must(b, err)
	defer node.Close()
	const batch = 200
	events, err := node.Events(p2pmount.EventMount, p2pmount.Option("queue.capacity", 2*batch))
	must(b, err)
	defer events.Close()
	b.ReportAllocs()
	for taken := 0; taken < b.N; {
		b.StopTimer()
		for at := 0; at < batch; at++ {
			listener, err := node.Listen("p"+strconv.Itoa(at), "127.0.0.1:1")
			must(b, err)
			must(b, listener.Close())
		}
		b.StartTimer()
		for at := 0; at < 2*batch && taken < b.N; at++ {
			_, err := events.Next(ctx)
			must(b, err)
			taken++
		}
		b.StopTimer()
		for drained := false; !drained; {
			ended, cancel := context.WithTimeout(ctx, 1)
			_, err := events.Next(ended)
			cancel()
			drained = errors.Is(err, p2pmount.ErrCancelled)
		}
	}
}
