package p2pmount

import (
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Row is one row of a list, or one event: fields by name, as the manual lists them. The structures for each kind of row
// have it embedded, so that a field that a newer library adds can be read before this package knows it.
type Row struct{ fields []field }

type field struct {
	name, text string
	number     int64
	isNumber   bool
}

func (r Row) find(name string) (field, bool) {
	for _, field := range r.fields {
		if field.name == name {
			return field, true
		}
	}
	return field{}, false
}

// Fields gives the names of the fields that this row has, in the library's order.
func (r Row) Fields() []string {
	names := make([]string, len(r.fields))
	for at, field := range r.fields {
		names[at] = field.name
	}
	return names
}

// Text gives the value of a field as text, numbers in decimal; false if the row does not have it.
func (r Row) Text(name string) (string, bool) {
	field, ok := r.find(name)
	return field.text, ok
}

// Int gives the value of a field that is a number; false if the row does not have it or it is text.
func (r Row) Int(name string) (int64, bool) {
	field, _ := r.find(name)
	return field.number, field.isNumber
}

// Map gives all fields, the values as int64 or string.
func (r Row) Map() map[string]any {
	all := make(map[string]any, len(r.fields))
	for _, field := range r.fields {
		if field.isNumber {
			all[field.name] = field.number
		} else {
			all[field.name] = field.text
		}
	}
	return all
}

// String writes the row as name=value, for logs and people.
func (r Row) String() string {
	texts := make([]string, len(r.fields))
	for at, field := range r.fields {
		text := field.text
		if text == "" || strings.ContainsAny(text, " \"=") {
			text = strconv.Quote(text)
		}
		texts[at] = field.name + "=" + text
	}
	return strings.Join(texts, " ")
}

// typed makes a structure of a row. Its fields say by their tag which field of the row they are and by their type what
// becomes of it; what the row lacks stays zero.
func typed[T any](row Row) T {
	var made T
	target := reflect.ValueOf(&made).Elem()
	for at := 0; at < target.NumField(); at++ {
		member := target.Type().Field(at)
		if member.Type == reflect.TypeOf(Row{}) {
			target.Field(at).Set(reflect.ValueOf(row))
			continue
		}
		name := member.Tag.Get("p2p")
		field, ok := row.find(name)
		if name == "" || !ok {
			continue
		}
		switch value := target.Field(at).Addr().Interface().(type) {
		case *string:
			*value = field.text
		case *bool:
			*value = field.number != 0
		case *time.Duration:
			unit := time.Millisecond
			if strings.HasSuffix(name, "_us") {
				unit = time.Microsecond
			}
			*value = time.Duration(field.number) * unit
		case *time.Time:
			*value = time.UnixMilli(field.number)
		case *uint64:
			*value = uint64(field.number)
		case *EventKind:
			*value = EventKind(field.number)
		default:
			target.Field(at).SetInt(field.number)
		}
	}
	return made
}

// ListKind says what to list; several are combined with |.
type ListKind uint32

// What can be listed.
const (
	// ListListeners lists listeners.
	ListListeners ListKind = 1
	// ListForwards lists forwards.
	ListForwards ListKind = 2
	// ListStreams lists live streams.
	ListStreams ListKind = 4
	// ListPeers lists connected peers.
	ListPeers ListKind = 8
	// ListAddresses lists the node's own listening multiaddrs.
	ListAddresses ListKind = 16
	// ListNode lists the node itself.
	ListNode ListKind = 32
	// ListOptions lists the table of options.
	ListOptions ListKind = 64
	// ListProcess lists the library in this process.
	ListProcess ListKind = 128
)

// Lists is a picture of a node, a mount or the process, as it was at one moment.
type Lists struct {
	Node      *NodeInfo
	Addresses []AddressInfo
	Forwards  []ForwardInfo
	Listeners []ListenerInfo
	Streams   []StreamInfo
	Peers     []PeerInfo
	Options   []OptionInfo
	Process   *ProcessInfo

	// Rows are all rows in the library's order, those of kinds that this package does not know included. The field kind
	// tells them apart.
	Rows []Row
}

// ListenerInfo describes a listener.
type ListenerInfo struct {
	Row
	// ID is the same as [Listener.ID].
	ID uint64 `p2p:"id"`
	// Protocol is its full protocol name.
	Protocol string `p2p:"protocol"`
	// Listen is "/p2p/" and the own peer id.
	Listen string `p2p:"listen"`
	// Target is the local service.
	Target string `p2p:"target"`
	// State is listening or failed.
	State string `p2p:"state"`
	// Error and ErrorCode are the last error, empty and 0 if there was none.
	Error     string `p2p:"error"`
	ErrorCode Code   `p2p:"error_code"`
	// Streams are open now, StreamsTotal were since it was made; StreamsCut of them the peer reset, or their connection
	// was lost.
	Streams      int   `p2p:"streams"`
	StreamsTotal int64 `p2p:"streams_total"`
	StreamsCut   int64 `p2p:"streams_cut"`
	// BytesIn came from the network, BytesOut went there.
	BytesIn  int64 `p2p:"bytes_in"`
	BytesOut int64 `p2p:"bytes_out"`
	// Access says who is admitted.
	Access string `p2p:"access"`
}

// ForwardInfo describes a forward.
type ForwardInfo struct {
	Row
	// ID is the same as [Forward.ID].
	ID uint64 `p2p:"id"`
	// Protocol is its full protocol name.
	Protocol string `p2p:"protocol"`
	// Listen is the local address that it is bound to.
	Listen string `p2p:"listen"`
	// Target is "/p2p/" and the peer id.
	Target string `p2p:"target"`
	// Peer is the peer id.
	Peer string `p2p:"peer"`
	// State is idle, connecting, connected, disconnected or failed.
	State string `p2p:"state"`
	// Error and ErrorCode are the last error, empty and 0 if there was none.
	Error     string `p2p:"error"`
	ErrorCode Code   `p2p:"error_code"`
	// Streams are open now, StreamsTotal were since it was made; StreamsCut of them the peer reset, or their connection
	// was lost.
	Streams      int   `p2p:"streams"`
	StreamsTotal int64 `p2p:"streams_total"`
	StreamsCut   int64 `p2p:"streams_cut"`
	// BytesIn came from the network, BytesOut went there.
	BytesIn  int64 `p2p:"bytes_in"`
	BytesOut int64 `p2p:"bytes_out"`
	// AllInterfaces is true if it accepts on all interfaces, not only on one address.
	AllInterfaces bool `p2p:"all_interfaces"`
}

// StreamInfo describes a live stream.
type StreamInfo struct {
	Row
	// ID is its number in the node, from 0, for [Node.CloseStream].
	ID uint64 `p2p:"id"`
	// Mount is the ID of its listener or forward.
	Mount uint64 `p2p:"mount"`
	// Side is "listener" or "forward".
	Side string `p2p:"side"`
	// Protocol is the full protocol name.
	Protocol string `p2p:"protocol"`
	// Origin is the client's address of a forward, "/p2p/" and the remote peer id of a listener.
	Origin string `p2p:"origin"`
	// Target is that of its mount.
	Target string `p2p:"target"`
	// Peer is the remote peer id.
	Peer string `p2p:"peer"`
	// BytesIn came from the network, BytesOut went there.
	BytesIn  int64 `p2p:"bytes_in"`
	BytesOut int64 `p2p:"bytes_out"`
	// Age is the time since it was opened.
	Age time.Duration `p2p:"age_ms"`
	// Path is "direct" or "relayed".
	Path string `p2p:"path"`
	// Transport is "tcp", "quic" or "ws".
	Transport string `p2p:"transport"`
}

// PeerInfo describes a connected peer.
type PeerInfo struct {
	Row
	// Peer is its id.
	Peer string `p2p:"peer"`
	// Address is the remote end of its best connection.
	Address string `p2p:"address"`
	// Direction is "inbound" or "outbound".
	Direction string `p2p:"direction"`
	// Transport is "tcp", "quic" or "ws".
	Transport string `p2p:"transport"`
	// Path is "direct" or "relayed".
	Path string `p2p:"path"`
	// Connections and Streams are open now.
	Connections int `p2p:"connections"`
	Streams     int `p2p:"streams"`
	// RTT is the last round trip time, negative if not known yet.
	RTT time.Duration `p2p:"rtt_us"`
	// Agent is what program the peer says it is.
	Agent string `p2p:"agent"`
	// Age is the time since the connection was opened.
	Age time.Duration `p2p:"age_ms"`
}

// AddressInfo is a listening address of the node.
type AddressInfo struct {
	Row
	// Address is a multiaddr, complete with the peer id.
	Address string `p2p:"address"`
}

// NodeInfo describes a node.
type NodeInfo struct {
	Row
	// ID is its number in the process.
	ID uint64 `p2p:"id"`
	// Peer is its peer id.
	Peer string `p2p:"peer"`
	// State is open, closing or failed.
	State string `p2p:"state"`
	// Network is local, private or public.
	Network string `p2p:"network"`
	// What it has now.
	Listeners   int `p2p:"listeners"`
	Forwards    int `p2p:"forwards"`
	Streams     int `p2p:"streams"`
	Peers       int `p2p:"peers"`
	Connections int `p2p:"connections"`
}

// OptionInfo describes an option.
type OptionInfo struct {
	Row
	// Name is the option's name.
	Name string `p2p:"name"`
	// Type is bool, int, duration, size, choice, choices, path, peers or multiaddrs.
	Type string `p2p:"type"`
	// Default is its default.
	Default string `p2p:"default"`
	// Scope is where it may be given.
	Scope string `p2p:"scope"`
	// Live is true if it can be changed while in use.
	Live bool `p2p:"live"`
	// Secret is true if its value is never shown.
	Secret bool `p2p:"secret"`
	// Doc says what it does.
	Doc string `p2p:"doc"`
}

// ProcessInfo describes the library in this process.
type ProcessInfo struct {
	Row
	// Version is that of the library.
	Version string `p2p:"version"`
	// Nodes and Handles are open now.
	Nodes   int `p2p:"nodes"`
	Handles int `p2p:"handles"`
	// Threads are the library's worker threads.
	Threads int `p2p:"threads"`
	// LogDropped counts log lines lost because the log's descriptor was full or closed.
	LogDropped int64 `p2p:"log_dropped"`
	// Descriptors are used by streams now, at most DescriptorsMax.
	Descriptors    int64 `p2p:"descriptors"`
	DescriptorsMax int64 `p2p:"descriptors_max"`
}

func lists(handle uint64, what ListKind) (*Lists, error) {
	rows, err := list(handle, uint32(what))
	if err != nil {
		return nil, err
	}
	made := &Lists{Rows: rows}
	for _, row := range rows {
		kind, _ := row.Text("kind")
		switch kind {
		case "node":
			node := typed[NodeInfo](row)
			made.Node = &node
		case "address":
			made.Addresses = append(made.Addresses, typed[AddressInfo](row))
		case "forward":
			made.Forwards = append(made.Forwards, typed[ForwardInfo](row))
		case "listener":
			made.Listeners = append(made.Listeners, typed[ListenerInfo](row))
		case "stream":
			made.Streams = append(made.Streams, typed[StreamInfo](row))
		case "peer":
			made.Peers = append(made.Peers, typed[PeerInfo](row))
		case "option":
			made.Options = append(made.Options, typed[OptionInfo](row))
		case "process":
			process := typed[ProcessInfo](row)
			made.Process = &process
		}
	}
	return made, nil
}

// List lists what needs no node: [ListOptions], [ListProcess] or both.
func List(what ListKind) (*Lists, error) {
	if err := checkLibrary(); err != nil {
		return nil, err
	}
	return lists(0, what)
}

// Version is the version of the library in use, such as "0.1.0".
func Version() string { return libraryVersion() }
