package p2pmount

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"
)

// The goroutine that reads the queue may see the end of an operation before the one that began it knows its number.
func TestAnOperationThatEndsBeforeItIsWaitedForIsNotLost(t *testing.T) {
	hangs := time.AfterFunc(30*time.Second, func() { panic(t.Name() + " hangs") })
	defer hangs.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	open := func() *Node {
		node, err := Open(ctx, Options{"transports": "tcp"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { node.Close() })
		return node
	}
	node, other := open(), open()
	peer, err := other.Address()
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	nobody := open()
	nobody.Close()

	// This one reads the queue as long as it waits.
	waiting, stop := context.WithCancel(ctx)
	reading := make(chan error)
	go func() { reading <- node.Connect(waiting, "/ip4/127.0.0.1/tcp/"+port+"/p2p/"+nobody.PeerID()) }()
	silent, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	// Forgotten, it would be closed by the garbage collector, which is an answer.
	defer silent.Close()
	_, err = node.operations.run(ctx, node.handle, func() (uint64, error) {
		operation, err := connectStart(node.handle, peer, -1)
		for seen := false; !seen && ctx.Err() == nil; time.Sleep(time.Millisecond) {
			node.operations.mu.Lock()
			_, seen = node.operations.early[operation]
			node.operations.mu.Unlock()
		}
		return operation, err
	})
	if err != nil {
		t.Error(err)
	}
	stop()
	if err := <-reading; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if left := len(node.operations.early) + len(node.operations.waiting); left != 0 {
		t.Errorf("%d operations are still known", left)
	}
}
