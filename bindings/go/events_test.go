//go:build go1.23

package p2pmount_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	p2pmount "github.com/p2pmount/p2pmount/bindings/go"
)

func next(t *testing.T, events *p2pmount.Subscription) *p2pmount.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	event, err := events.Next(ctx)
	must(t, err)
	return event
}

func TestEventsTellOfAStreamFromItsOpeningToItsEnd(t *testing.T) {
	begin(t)
	server, client, forward := pair(t)
	events := subscribe(t, client, p2pmount.EventStreamOpened|p2pmount.EventStreamClosed)
	conn := dial(t, forward.Address())
	talk(t, conn, "hello\n")
	opened := next(t, events)
	if opened.Kind != p2pmount.EventStreamOpened || opened.Mount != forward.ID() || opened.Peer != server.PeerID() ||
		opened.Protocol != "/x/echo" || opened.Origin != conn.LocalAddr().String() || opened.Sequence != 1 ||
		time.Since(opened.Time) > time.Minute || opened.Err() != nil {
		t.Errorf("%+v", opened)
	}
	must(t, conn.CloseWrite())
	closed := next(t, events)
	if closed.Kind != p2pmount.EventStreamClosed || closed.Stream != opened.Stream || closed.Reason != "finished" ||
		closed.BytesIn != 6 || closed.BytesOut != 6 || closed.Sequence != 2 {
		t.Errorf("%+v", closed)
	}
}

// Whatever the library puts in an event has a member in the structure.
func TestEveryFieldOfAnEventIsInTheStructure(t *testing.T) {
	ctx := begin(t)
	server, client := open(t), open(t)
	// Nobody listens there any more.
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	gone.Close()
	ofServer, ofClient := subscribe(t, server, p2pmount.EventAll), subscribe(t, client, p2pmount.EventAll)
	_, err = server.Listen("gone", gone.Addr().String())
	must(t, err)
	_, err = server.Listen("echo", service(t, echo))
	must(t, err)
	must(t, client.Connect(ctx, address(t, server)))
	for _, protocol := range []string{"gone", "echo", "nothing"} {
		forward, err := client.Forward(ctx, protocol, "127.0.0.1:0", server.PeerID())
		must(t, err)
		// Two of them are reset, perhaps before the dialling is done.
		if conn, err := net.Dial("tcp", forward.Address()); err == nil {
			_ = conn.(*net.TCPConn).CloseWrite()
			_, _ = conn.Read(make([]byte, 1))
			conn.Close()
		}
	}
	must(t, client.Close())
	must(t, server.Close())
	members := map[string]bool{}
	for at := range reflect.TypeOf(p2pmount.Event{}).NumField() {
		members[reflect.TypeOf(p2pmount.Event{}).Field(at).Tag.Get("p2p")] = true
	}
	seen := map[p2pmount.EventKind]bool{}
	for _, events := range []*p2pmount.Subscription{ofServer, ofClient} {
		for event := range events.All(ctx) {
			seen[event.Kind] = true
			for _, name := range event.Fields() {
				// These are for Err alone.
				if !members[name] && name != "system_error" && name != "flags" {
					t.Errorf("the structure lacks %s of an event %s", name, event.Kind)
				}
			}
			if kind, _ := event.Text("kind"); event.Name != kind || event.Kind.String() != kind {
				t.Errorf("%q is called %q and %q", kind, event.Name, event.Kind)
			}
			if code, _ := event.Int("code"); (event.Err() != nil) != (code != 0) {
				t.Errorf("%v: %v", event.Map(), event.Err())
			}
		}
		must(t, events.Err())
	}
	want := p2pmount.EventMount | p2pmount.EventStreamOpened | p2pmount.EventStreamClosed | p2pmount.EventTargetRefused |
		p2pmount.EventRefused | p2pmount.EventPeer | p2pmount.EventOperation | p2pmount.EventNode
	for kind := p2pmount.EventKind(1); kind < p2pmount.EventOverflow; kind <<= 1 {
		if want&kind != 0 && !seen[kind] {
			t.Errorf("no event %s", kind)
		}
	}
}

func TestASubscriptionGoesOnUntilAllIsTaken(t *testing.T) {
	ctx := begin(t)
	node := open(t)
	events := subscribe(t, node, p2pmount.EventMount|p2pmount.EventNode)
	_, err := node.Listen("a", "127.0.0.1:1")
	must(t, err)
	must(t, node.Close())
	var states []string
	for event := range events.All(ctx) {
		states = append(states, event.State)
	}
	if got := fmt.Sprint(states); got != "[listening closed closing closed]" && got != "[listening closing closed closed]" {
		t.Errorf("states %s", got)
	}
	must(t, events.Err())
	_, err = events.Next(ctx)
	wants(t, err, p2pmount.ErrClosed)
}

func TestALoopOverEventsEndsWithItsContextAndCanBeLeft(t *testing.T) {
	begin(t)
	node := open(t)
	events := subscribe(t, node, p2pmount.EventMount)
	for _, name := range []string{"a", "b"} {
		_, err := node.Listen(name, "127.0.0.1:1")
		must(t, err)
	}
	for event := range events.All(context.Background()) {
		if event.Protocol != "/x/a" {
			t.Errorf("%+v", event)
		}
		break
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	count := 0
	for range events.All(ctx) {
		count++
		cancel()
	}
	if count != 1 {
		t.Errorf("%d events", count)
	}
	wants(t, events.Err(), context.Canceled)
}

func TestAChannelOfEventsEndsWithItsContextTheNodeOrTheSubscription(t *testing.T) {
	begin(t)
	node := open(t)
	ofContext, ofNode, ofItself := subscribe(t, node, p2pmount.EventMount), subscribe(t, node, p2pmount.EventMount), subscribe(t, node, p2pmount.EventMount)
	ctx, cancel := context.WithCancel(context.Background())
	first, second := ofContext.Chan(ctx), ofNode.Chan(context.Background())
	ofItself.Chan(context.Background())
	_, err := node.Listen("a", "127.0.0.1:1")
	must(t, err)
	for _, events := range []<-chan *p2pmount.Event{first, second} {
		if event := <-events; event.Protocol != "/x/a" || event.State != "listening" {
			t.Errorf("%+v", event)
		}
	}
	cancel()
	for range first {
	}
	wants(t, ofContext.Err(), context.Canceled)
	// Nobody receives the event that is waiting there; its goroutine ends all the same.
	parked(t, "select", "(*Subscription).Chan.func1")
	must(t, ofItself.Close())
	must(t, node.Close())
	for range second {
	}
	must(t, ofNode.Err())
}

// parked waits until a goroutine waits for something of this kind in a function of this package.
func parked(t *testing.T, kind, function string) {
	t.Helper()
	stacks := make([]byte, 1<<20)
	for patience := time.Now().Add(20 * time.Second); time.Now().Before(patience); runtime.Gosched() {
		for _, stack := range strings.Split(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
			lines := strings.SplitN(stack, "\n", 3)
			if !strings.Contains(lines[0], " ["+kind) {
				continue
			}
			// What waits in a select is there itself; what waits for a descriptor, below functions of the runtime.
			if within := lines[1]; kind == "select" && strings.Contains(within, function) || kind != "select" && strings.Contains(stack, function) {
				return
			}
		}
	}
	t.Fatalf("no goroutine waits (%s) in %s", kind, function)
}

// However a reader notices, closing the subscription is one error with one sentence.
func TestClosingASubscriptionWakesItsReaderAlwaysInTheSameWay(t *testing.T) {
	ctx := begin(t)
	node := open(t)
	type reader func(*p2pmount.Subscription) error
	for name, read := range map[string]reader{
		"next": func(events *p2pmount.Subscription) error {
			_, err := events.Next(ctx)
			if !errors.Is(err, p2pmount.ErrClosed) || err.Error() != "the subscription was closed" {
				return fmt.Errorf("%v (%#v)", err, err)
			}
			return nil
		},
		"all": func(events *p2pmount.Subscription) error {
			for event := range events.All(ctx) {
				return fmt.Errorf("event %v", event)
			}
			return events.Err()
		},
		"channel": func(events *p2pmount.Subscription) error {
			for event := range events.Chan(ctx) {
				return fmt.Errorf("event %v", event)
			}
			return events.Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			for round := range 200 {
				events := subscribe(t, node, p2pmount.EventAddress)
				ended := make(chan error)
				go func() { ended <- read(events) }()
				parked(t, "IO wait", "(*queue).next")
				must(t, events.Close())
				if err := <-ended; err != nil {
					t.Fatalf("round %d: %v", round, err)
				}
			}
		})
	}
}

func TestSeveralReadersShareASubscription(t *testing.T) {
	ctx := begin(t)
	node := open(t)
	events := subscribe(t, node, p2pmount.EventMount)
	var all sync.WaitGroup
	var mu sync.Mutex
	seen := map[uint64]int{}
	for range 8 {
		all.Add(1)
		go func() {
			defer all.Done()
			for {
				// A reader with little patience must not take a turn away from another.
				short, cancel := context.WithTimeout(ctx, time.Millisecond)
				event, err := events.Next(short)
				cancel()
				switch {
				case err == nil:
					mu.Lock()
					seen[event.Sequence]++
					mu.Unlock()
				case errors.Is(err, p2pmount.ErrClosed):
					return
				case !errors.Is(err, context.DeadlineExceeded):
					t.Errorf("%v", err)
					return
				}
			}
		}()
	}
	for at := range 100 {
		_, err := node.Listen(fmt.Sprint("p", at), "127.0.0.1:1")
		must(t, err)
	}
	must(t, node.Close())
	all.Wait()
	if len(seen) != 200 {
		t.Errorf("%d events", len(seen))
	}
	for sequence, times := range seen {
		if times != 1 {
			t.Errorf("event %d was seen %d times", sequence, times)
		}
	}
}

func TestAFullSubscriptionSaysHowManyEventsWereLost(t *testing.T) {
	begin(t)
	_, client, forward := pair(t)
	events := subscribe(t, client, p2pmount.EventStreamOpened, p2pmount.Option("queue.capacity", 2))
	for range 5 {
		talk(t, dial(t, forward.Address()), "hello\n")
	}
	event := next(t, events)
	if event.Kind != p2pmount.EventOverflow || event.Count != 3 {
		t.Errorf("%+v", event)
	}
}

// It was twice as much when each field of an event was read by itself.
func TestTakingAnEventAllocatesLittle(t *testing.T) {
	ctx := begin(t)
	node := open(t)
	events := subscribe(t, node, p2pmount.EventMount)
	for at := range 101 {
		_, err := node.Listen(fmt.Sprint("p", at), "127.0.0.1:1")
		must(t, err)
	}
	allocations := testing.AllocsPerRun(100, func() {
		_, err := events.Next(ctx)
		must(t, err)
	})
	if allocations > 55 {
		t.Errorf("%v allocations", allocations)
	}
}

func TestKindsOfEventsHaveNames(t *testing.T) {
	for kind, name := range map[p2pmount.EventKind]string{
		p2pmount.EventMount: "mount", p2pmount.EventStreamOpened | p2pmount.EventNode: "stream opened|node",
		p2pmount.EventAll: "all", 1 << 20: "1048576", 0: "0", p2pmount.EventPeer | 1<<20 | 1<<21: "peer|3145728",
	} {
		if kind.String() != name {
			t.Errorf("%d is called %s, not %s", uint32(kind), kind, name)
		}
	}
}
