package p2pmount

import (
	"context"
	"runtime"
	"sync"
)

// Node is a participant in the network. It is to be closed. One that was forgotten is closed by its finalizer: the calls that
// need it, and return nothing that refers to it, keep it until they are done.
type Node struct {
	handle     uint64
	peerID     string
	operations *operations

	mu sync.Mutex
	// closing is not nil once a close has begun, and closed when it is done.
	closing chan struct{}
	// drain is the operation that closes the node, 0 before there is one; hurry that it is to be cancelled.
	drain uint64
	hurry bool
}

// Open opens a node: makes or loads its key and binds its listening addresses. It waits for nobody. Without options it has
// a new key, listens on a free port of every transport and admits every peer to its listeners.
func Open(ctx context.Context, opts ...Options) (*Node, error) {
	if err := checkLibrary(); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, contextError(ctx, "opening the node was cancelled")
	}
	n := &Node{operations: newOperations()}
	err := withOptions(opts, func(options uint64) (err error) {
		n.handle, err = nodeOpen(options)
		return err
	})
	if err != nil {
		return nil, err
	}
	if n.peerID, err = nodePeerID(n.handle); err == nil && ctx.Err() != nil {
		err = contextError(ctx, "opening the node was cancelled")
	}
	if err != nil {
		_ = nodeClose(n.handle, 0)
		return nil, err
	}
	runtime.SetFinalizer(n, (*Node).forgotten)
	return n, nil
}

// forgotten closes a node that the program has lost, unless something still uses it from outside: clients and peers come to
// its mounts, whether the program remembers it or not.
func (n *Node) forgotten() {
	rows, err := list(n.handle, uint32(ListNode))
	if err == nil {
		if now := typed[NodeInfo](rows[0]); now.State == "open" && now.Listeners+now.Forwards+now.Streams > 0 {
			runtime.SetFinalizer(n, (*Node).forgotten)
			return
		}
	}
	// Not in the one goroutine that runs all finalizers.
	go func() {
		_ = nodeClose(n.handle, 0)
		n.operations.end()
	}()
}

// PeerID is the node's peer id, such as "12D3KooW...".
func (n *Node) PeerID() string { return n.peerID }

// Address gives the node's listening addresses: full multiaddrs, comma separated, as Forward and Connect of another node
// take them. Without a listening address it is the bare peer id.
func (n *Node) Address() (string, error) {
	defer runtime.KeepAlive(n)
	return nodeAddress(n.handle)
}

// Connect connects to a peer, unless it is connected already, and remembers its addresses for as long as the node lives. It
// waits until the context ends or the library gives up: [ErrUnreachable]'s message says which addresses were tried and what
// came of it. peer is one or several full multiaddrs, comma separated, or a peer id whose addresses are known.
func (n *Node) Connect(ctx context.Context, peer string) error {
	defer runtime.KeepAlive(n)
	_, err := n.operations.run(ctx, n.handle, func() (uint64, error) {
		return connectStart(n.handle, peer, -1)
	})
	return err
}

// List lists what the node has, all kinds asked for at the same moment:
//
//	now, err := node.List(p2pmount.ListForwards | p2pmount.ListStreams)
func (n *Node) List(what ListKind) (*Lists, error) {
	defer runtime.KeepAlive(n)
	return lists(n.handle, what)
}

// Set changes an option that may be changed in use, for the node and for its mounts that have no value of their own.
func (n *Node) Set(name string, value any) error {
	defer runtime.KeepAlive(n)
	return setText(n.handle, name, value)
}

// Get tells the value of an option in force.
func (n *Node) Get(name string) (Setting, error) {
	defer runtime.KeepAlive(n)
	return getSetting(n.handle, name)
}

// CloseStream resets one stream at both ends. id is that of its row, or the field Stream of its events. [ErrNotFound] if it
// has ended.
func (n *Node) CloseStream(id uint64) error {
	defer runtime.KeepAlive(n)
	return streamClose(n.handle, id)
}

// Close closes the node at once: it resets its streams, closes its mounts and connections, wakes every call that waits on
// them, and returns when the local ports are free. During a Shutdown it ends the draining. Closing a node that is being
// closed waits for that and succeeds; closing it once more gives an error that is [ErrClosed].
func (n *Node) Close() error {
	done, first, err := n.begin()
	if err != nil {
		return err
	}
	if first {
		err := nodeClose(n.handle, 0)
		n.finish(done)
		return err
	}
	n.endDrain()
	<-done
	return nil
}

// Shutdown closes the node like Close, but lets its streams finish before, for as long as the context allows. It always
// returns with the node closed: if the context ends first, the streams that are left are reset and the error says so
// (errors.Is(err, context.DeadlineExceeded)).
func (n *Node) Shutdown(ctx context.Context) error {
	done, first, err := n.begin()
	if err != nil {
		return err
	}
	if first {
		defer n.finish(done)
		if ctx.Err() != nil {
			_ = nodeClose(n.handle, 0)
			return contextError(ctx, drainingCancelled)
		}
		_, err := n.operations.run(ctx, n.handle, func() (uint64, error) {
			operation, err := nodeCloseStart(n.handle, -1)
			n.draining(operation)
			return operation, err
		})
		if err != nil {
			// Where the draining could not even begin, the node is still open.
			_ = nodeClose(n.handle, 0)
		}
		return err
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		n.endDrain()
		<-done
		return contextError(ctx, drainingCancelled)
	}
}

// The library's words, for where there is no operation of the caller's own that would say them.
const drainingCancelled = "draining was cancelled; the node is closed"

// begin says whether the caller is the first who closes the node, and gives the channel that is closed when it is done.
func (n *Node) begin() (done chan struct{}, first bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closing == nil {
		n.closing = make(chan struct{})
		return n.closing, true, nil
	}
	select {
	case <-n.closing:
		return nil, false, errNodeClosed()
	default:
		return n.closing, false, nil
	}
}

func (n *Node) finish(done chan struct{}) {
	runtime.SetFinalizer(n, nil)
	n.operations.end()
	close(done)
}

// draining tells what operation closes the node.
func (n *Node) draining(operation uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drain = operation
	if n.hurry && operation != 0 {
		_ = operationCancel(operation)
	}
}

// endDrain cuts the streams that a Shutdown waits for.
func (n *Node) endDrain() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hurry = true
	if n.drain != 0 {
		_ = operationCancel(n.drain)
	}
}

func errNodeClosed() error { return &Error{Code: ErrBadHandle, Message: "the node is closed already"} }
