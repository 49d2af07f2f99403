// Package p2pmount mounts TCP services on a libp2p network. One process exposes a local service under a protocol name
// ([Node.Listen]), another ties a local port to it by peer id ([Node.Forward]). Programs on both sides speak plain TCP to
// an address of their own machine; in between lies one encrypted, mutually authenticated libp2p connection.
//
// It is a thin layer over the C library of the same name and links to it. What the library does beyond single calls, all
// options and the fields of lists and events stand in its manual.
//
// # Linking
//
// By default a program links to the shared library in target/release of the checkout that this module lies in, or to one
// that the linker finds by itself. The build tag p2pmount_pkgconfig takes the installed library by pkg-config instead, and
// p2pmount_static links libp2pmount.a into the program.
//
// # Life of things
//
// A [Node] owns its mounts: closing the node closes them. Close nodes and subscriptions when you are done with them. What is
// in use is never closed by itself: a [Listener], a [Forward] and the node they belong to stay in force although the program
// keeps no reference to them. Only a node without mounts and streams, and a [Subscription], are closed by the garbage
// collector once nothing refers to them any more.
//
// Every method may be called from any goroutine at any time. Calls that wait for the network take a context, hold no
// thread while they wait, and leave nothing behind when the context ends.
//
// Errors of the library are of type [*Error].
package p2pmount
