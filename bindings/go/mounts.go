package p2pmount

import (
	"context"
	"runtime"
)

// The P2P_CLOSE_ bits of the library.
const (
	closeAll       = 1
	closeListeners = 2
	closeForwards  = 4
	closeStreams   = 8
)

// mount is what listeners and forwards have in common.
type mount struct {
	// A mount keeps its node from being collected, and an open one from being closed: its methods need not.
	node    *Node
	handle  uint64
	address string
}

// ID is what rows and events call the mount by.
func (m *mount) ID() uint64 { return m.handle }

// Node is the node that the mount belongs to.
func (m *mount) Node() *Node { return m.node }

// List lists the mount itself and its streams: [ListListeners], [ListForwards], [ListStreams].
func (m *mount) List(what ListKind) (*Lists, error) {
	return lists(m.handle, what)
}

// Set changes an option of the mount that may be changed in use.
func (m *mount) Set(name string, value any) error {
	return setText(m.handle, name, value)
}

// Get tells the value of an option in force.
func (m *mount) Get(name string) (Setting, error) {
	return getSetting(m.handle, name)
}

// Close closes the mount and returns when its port is free. Its live streams run on. Closing a mount that was closed, by
// itself or with its node, gives an error that is [ErrClosed].
func (m *mount) Close() error {
	defer runtime.KeepAlive(m)
	return mountClose(m.handle, 0)
}

// CloseWithStreams closes the mount like Close and resets its live streams.
func (m *mount) CloseWithStreams() error {
	defer runtime.KeepAlive(m)
	return mountClose(m.handle, closeStreams)
}

// Listener exposes a local service under a protocol. It need not be kept: it is in force until it or its node is closed.
type Listener struct{ mount }

// Listen exposes a local service: streams that peers open for protocol are connected to target, each by a connection of its
// own. It contacts nobody; a target that is down shows in events and lists, and is tried again for each stream.
//
// protocol "name" means "/x/name". target is "127.0.0.1:8080", "[::1]:8080", "localhost:8080", "8080" (127.0.0.1),
// "/ip4/127.0.0.1/tcp/8080" or "unix:/path". Errors: [ErrAlreadyRegistered], [ErrBadProtocol], [ErrBadAddress],
// [ErrBadOption].
func (n *Node) Listen(protocol, target string, opts ...Options) (*Listener, error) {
	made := &Listener{mount{node: n}}
	err := withOptions(opts, func(options uint64) (err error) {
		made.handle, err = listen(n.handle, protocol, target, options)
		return err
	})
	if err == nil {
		made.address, err = mountAddress(made.handle)
	}
	if err != nil {
		return nil, err
	}
	return made, nil
}

// Target is the address of the local service.
func (l *Listener) Target() string { return l.address }

// Info tells how the listener is now.
func (l *Listener) Info() (ListenerInfo, error) {
	now, err := l.List(ListListeners)
	if err != nil {
		return ListenerInfo{}, err
	}
	if len(now.Listeners) == 0 {
		return ListenerInfo{}, errMountClosed("listener")
	}
	return now.Listeners[0], nil
}

// Forward ties a local address to a protocol of a peer. It need not be kept: it is in force until it or its node is closed.
type Forward struct{ mount }

// Forward ties a local address to a protocol of a peer: each client that connects to listen gets a stream of its own. It
// binds at once. The peer is dialled when the first client comes, or now with the option verify=true: then the call waits
// until the peer was reached and offers the protocol, the option open.timeout or the context ends it. When it fails, nothing
// is bound.
//
// listen is as target of [Node.Listen]; port 0 takes a free one, which [Forward.Address] tells. peer is as for
// [Node.Connect]. Errors: [ErrAddressInUse], [ErrBadPeer], [ErrUnreachable], [ErrProtocolRefused], [ErrTimedOut].
func (n *Node) Forward(ctx context.Context, protocol, listen, peer string, opts ...Options) (*Forward, error) {
	made := &Forward{mount{node: n}}
	err := withOptions(opts, func(options uint64) error {
		row, err := n.operations.run(ctx, n.handle, func() (uint64, error) {
			return forwardStart(n.handle, protocol, listen, peer, options)
		})
		handle, _ := row.Int("mount")
		made.handle = uint64(handle)
		return err
	})
	if err == nil {
		made.address, err = mountAddress(made.handle)
	}
	if err != nil {
		return nil, err
	}
	return made, nil
}

// Address is where clients connect to, with its real port.
func (f *Forward) Address() string { return f.address }

// Info tells how the forward is now.
func (f *Forward) Info() (ForwardInfo, error) {
	now, err := f.List(ListForwards)
	if err != nil {
		return ForwardInfo{}, err
	}
	if len(now.Forwards) == 0 {
		return ForwardInfo{}, errMountClosed("forward")
	}
	return now.Forwards[0], nil
}

func errMountClosed(what string) error {
	return &Error{Code: ErrClosed, Message: "the " + what + " was closed"}
}

// CloseFilter says which mounts to close. A mount must fit everything that is given; an address fits in whatever form it
// is written.
type CloseFilter struct {
	// Protocol is a protocol name.
	Protocol string
	// Listen is a forward's listen address, or "/p2p/" and the own peer id for listeners.
	Listen string
	// Target is "/p2p/" and a peer id for forwards, a listener's target address.
	Target string

	// All closes every mount; Protocol, Listen and Target are to be empty then. Otherwise one of them is needed.
	All bool
	// OnlyListeners and OnlyForwards leave the others alone.
	OnlyListeners bool
	OnlyForwards  bool
	// Streams also resets the live streams of what is closed; without it they run on.
	Streams bool
}

// CloseMounts closes every mount that fits and returns how many it were, when their ports are free. None is no error.
func (n *Node) CloseMounts(filter CloseFilter) (int, error) {
	defer runtime.KeepAlive(n)
	var flags uint32
	for _, flag := range []struct {
		given bool
		bit   uint32
	}{
		{filter.All, closeAll}, {filter.OnlyListeners, closeListeners},
		{filter.OnlyForwards, closeForwards}, {filter.Streams, closeStreams},
	} {
		if flag.given {
			flags |= flag.bit
		}
	}
	return closeMounts(n.handle, filter.Protocol, filter.Listen, filter.Target, flags)
}
