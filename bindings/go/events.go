package p2pmount

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// EventKind is a kind of event; several are combined with |.
type EventKind uint32

// The kinds of events. New versions of the library add some: ignore what you do not know.
const (
	// EventMount: a mount was made, changed its state or was closed.
	EventMount EventKind = 1
	// EventStreamOpened: a stream was opened.
	EventStreamOpened EventKind = 2
	// EventStreamClosed: a stream has ended; Reason, BytesIn and BytesOut say how.
	EventStreamClosed EventKind = 4
	// EventTargetRefused: a listener's target did not accept a connection.
	EventTargetRefused EventKind = 8
	// EventRefused: a client, stream or connection was refused, or accepting pauses; Err says why.
	EventRefused EventKind = 16
	// EventPeer: a peer was connected or disconnected.
	EventPeer EventKind = 32
	// EventAddress: a listening address of the node is new or gone.
	EventAddress EventKind = 64
	// EventOperation: a call that waits for the network has ended. Of use only to observe: the calls return it themselves.
	EventOperation EventKind = 128
	// EventNode: the node is closing, closed or has failed.
	EventNode EventKind = 256
	// EventOverflow: Count events were lost. It comes without being asked for.
	EventOverflow EventKind = 512
	// EventAll is every kind, future ones included.
	EventAll EventKind = 2147483647
)

var eventNames = []struct {
	kind EventKind
	name string
}{
	{EventMount, "mount"}, {EventStreamOpened, "stream opened"}, {EventStreamClosed, "stream closed"},
	{EventTargetRefused, "target refused"}, {EventRefused, "refused"}, {EventPeer, "peer"}, {EventAddress, "address"},
	{EventOperation, "operation"}, {EventNode, "node"}, {EventOverflow, "overflow"},
}

// String names the kinds that this package knows; of others it gives the number. An event tells its kind itself, known or
// not, in its field Name.
func (k EventKind) String() string {
	if k == EventAll {
		return "all"
	}
	var names []string
	for _, known := range eventNames {
		if k&known.kind != 0 {
			names = append(names, known.name)
			k &^= known.kind
		}
	}
	if k != 0 || len(names) == 0 {
		names = append(names, strconv.FormatUint(uint64(k), 10))
	}
	return strings.Join(names, "|")
}

// Event is something that happened to a node. What does not apply to its kind is zero.
type Event struct {
	Row
	// Kind is the kind of event, a single bit.
	Kind EventKind `p2p:"event"`
	// Name is the kind in the library's words, such as "stream opened", also where this package does not know it.
	Name string `p2p:"kind"`
	// Sequence is its number in its subscription, from 1; a gap is what was lost.
	Sequence uint64 `p2p:"sequence"`
	// Time is when it happened.
	Time time.Time `p2p:"time_ms"`
	// State is that of a mount, peer, address or node.
	State string `p2p:"state"`
	// Mount is the ID of the listener or forward concerned, 0 if there is none.
	Mount uint64 `p2p:"mount"`
	// Stream is the number of the stream in the node.
	Stream uint64 `p2p:"stream"`
	// Protocol, Listen, Target, Origin and Peer are as in lists.
	Protocol string `p2p:"protocol"`
	Listen   string `p2p:"listen"`
	Target   string `p2p:"target"`
	Origin   string `p2p:"origin"`
	Peer     string `p2p:"peer"`
	// Address is a multiaddr of the peer or node.
	Address string `p2p:"address"`
	// Direction, Transport and Path are those of a connection.
	Direction string `p2p:"direction"`
	Transport string `p2p:"transport"`
	Path      string `p2p:"path"`
	// Reason says how a stream ended.
	Reason string `p2p:"reason"`
	// BytesIn came from the network, BytesOut went there.
	BytesIn  int64 `p2p:"bytes_in"`
	BytesOut int64 `p2p:"bytes_out"`
	// Age is how long a stream lasted.
	Age time.Duration `p2p:"age_ms"`
	// Code and Message say what happened; see Err.
	Code    Code   `p2p:"code"`
	Message string `p2p:"message"`
	// Operation is the number of an operation that ended.
	Operation uint64 `p2p:"operation"`
	// Count is how many events were lost.
	Count int64 `p2p:"count"`
}

// Err gives what the event reports as an error, or nil if it reports none.
func (e *Event) Err() error { return rowError(e.Row) }

// rowError makes an error of the fields of an event.
func rowError(row Row) error {
	code, _ := row.Int("code")
	if code == 0 {
		return nil
	}
	message, _ := row.Text("message")
	system, _ := row.Int("system_error")
	flags, _ := row.Int("flags")
	return &Error{Code: Code(code), SystemError: syscall.Errno(system), Flags: uint32(flags), Message: message}
}

// queue is a queue of the library whose reader parks in Go's network poller: no thread waits, and a context can end it.
type queue struct {
	handle uint64
	file   *os.File
	raw    syscall.RawConn
	// turn is held by the one reader that waits; the others wait for it.
	turn chan struct{}
	// closed is closed by close.
	closed    chan struct{}
	closeOnce sync.Once
}

func newQueue(node uint64, kinds EventKind, options uint64) (*queue, error) {
	handle, err := subscribe(node, uint32(kinds), options)
	if err != nil {
		return nil, err
	}
	fd, err := queueFD(handle)
	if err != nil {
		queueClose(handle)
		return nil, err
	}
	// The descriptor is non-blocking, so that reading it parks the goroutine and not a thread.
	file := os.NewFile(uintptr(fd), "p2pmount queue")
	raw, err := file.SyscallConn()
	if err == nil {
		err = file.SetReadDeadline(time.Time{})
	}
	if err != nil {
		file.Close()
		queueClose(handle)
		return nil, &Error{Code: ErrSystem, Message: "the descriptor of a queue cannot be waited for: " + err.Error()}
	}
	q := &queue{handle: handle, file: file, raw: raw, turn: make(chan struct{}, 1), closed: make(chan struct{})}
	// In case that it is forgotten. next refers to it until it returns.
	runtime.SetFinalizer(q, (*queue).close)
	return q, nil
}

// close returns false if it was closed already.
func (q *queue) close() bool {
	first := false
	q.closeOnce.Do(func() {
		first = true
		close(q.closed)
		// This wakes the reader, which then leaves the file to be closed.
		queueClose(q.handle)
		q.file.Close()
	})
	return first
}

const waitingForEvent = "waiting for an event was cancelled"

func (q *queue) next(ctx context.Context) (Row, error) {
	if ctx.Err() != nil {
		return Row{}, contextError(ctx, waitingForEvent)
	}
	select {
	case q.turn <- struct{}{}:
	case <-ctx.Done():
		return Row{}, contextError(ctx, waitingForEvent)
	}
	defer func() { <-q.turn }()
	row, err := nextEvent(q.handle)
	if err != errNoEvent {
		return row, q.closedError(err)
	}

	// A deadline in the past wakes the read when the context ends.
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = q.file.SetReadDeadline(time.Unix(1, 0))
		close(interrupted)
	})
	waiting := q.raw.Read(func(uintptr) bool {
		row, err = nextEvent(q.handle)
		return err != errNoEvent
	})
	if !stop() {
		<-interrupted
		_ = q.file.SetReadDeadline(time.Time{})
	}
	switch {
	case waiting == nil:
	case ctx.Err() != nil:
		err = contextError(ctx, waitingForEvent)
	default:
		err = &Error{Code: ErrSystem, Message: "waiting for an event failed: " + waiting.Error()}
	}
	return row, q.closedError(err)
}

// closedError is the same error for every way in which close shows: the handle, the descriptor or the library's own word.
func (q *queue) closedError(err error) error {
	if err != nil {
		select {
		case <-q.closed:
			return &Error{Code: ErrClosed, Message: "the subscription was closed"}
		default:
		}
	}
	return err
}

// Subscription gets the events of a node. It goes on after the node was closed until all of them were taken.
type Subscription struct {
	queue *queue
	// A subscription keeps its node from being collected.
	node *Node

	mu  sync.Mutex
	err error
}

// Events subscribes to the events of the kinds given, from now on:
//
//	events, err := node.Events(p2pmount.EventStreamOpened|p2pmount.EventStreamClosed)
//
// The option queue.capacity says how many may wait in it. To be closed with [Subscription.Close].
func (n *Node) Events(kinds EventKind, opts ...Options) (*Subscription, error) {
	var made *queue
	err := withOptions(opts, func(options uint64) (err error) {
		made, err = newQueue(n.handle, kinds, options)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &Subscription{queue: made, node: n}, nil
}

// Next takes the oldest event, waiting for it until the context ends. errors.Is(err, ErrClosed) says that none can come any
// more: the node was closed and everything was taken, or the subscription was closed. Several goroutines may call it at
// the same time; each event goes to one of them.
func (s *Subscription) Next(ctx context.Context) (*Event, error) {
	row, err := s.queue.next(ctx)
	if err != nil {
		return nil, err
	}
	event := typed[Event](row)
	return &event, nil
}

// All is for a range loop over the events:
//
//	for event := range events.All(ctx) {
//
// (Go 1.23; before, it is called with a function.) It ends when the context ends or none can come any more; Err tells which.
func (s *Subscription) All(ctx context.Context) func(yield func(*Event) bool) {
	return func(yield func(*Event) bool) {
		s.ended(nil)
		for {
			event, err := s.Next(ctx)
			if err != nil {
				s.ended(err)
				return
			}
			if !yield(event) {
				return
			}
		}
	}
}

// Chan gives the events on a channel, for select. The channel is closed when the context ends or none can come any more;
// Err tells which. A goroutine serves it until then: end the context or close the subscription when you are done with it.
// An event that was taken for the channel but not received then is lost.
func (s *Subscription) Chan(ctx context.Context) <-chan *Event {
	events := make(chan *Event)
	s.ended(nil)
	go func() {
		defer close(events)
		for {
			event, err := s.Next(ctx)
			if err != nil {
				s.ended(err)
				return
			}
			select {
			case events <- event:
			case <-ctx.Done():
				s.ended(contextError(ctx, waitingForEvent))
				return
			case <-s.queue.closed:
				return
			}
		}
	}()
	return events
}

// Err tells what ended the last All or Chan: nil if no more events could come, else the error, as a rule the context's.
func (s *Subscription) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *Subscription) ended(err error) {
	if errors.Is(err, ErrClosed) {
		err = nil
	}
	s.mu.Lock()
	s.err = err
	s.mu.Unlock()
}

// Close ends the subscription, forgets its events and wakes whoever waits for one. A second Close gives an error that is
// [ErrClosed].
func (s *Subscription) Close() error {
	if !s.queue.close() {
		return &Error{Code: ErrBadHandle, Message: "the subscription was closed"}
	}
	return nil
}
