/*
 * p2pmount: mounts TCP services on a libp2p network.
 *
 * One process exposes a local service under a protocol name (p2p_listen), another ties a local port to it by peer id
 * (p2p_forward). Programs on both sides speak plain TCP to an address of their own machine; in between lies one
 * encrypted, mutually authenticated libp2p connection. Nothing runs beside the library.
 *
 * This file is generated from the sources. What the library does beyond single functions stands in docs/, every option
 * in docs/OPTIONS.md, every field of a list or event in docs/FIELDS.md, what to do about an error in docs/errors.md.
 *
 *
 * A COMPLETE PROGRAM
 *
 *     mount 127.0.0.1:8080               exposes the service on port 8080, prints this node's addresses
 *     mount 127.0.0.1:9090 ADDRESSES     now 127.0.0.1:9090 leads there
 *
 *     #include <stdio.h>
 *     #include <p2pmount.h>
 *
 *     int main(int argc, char **argv) {
 *         char text[P2P_ADDRESS_SIZE];
 *         p2p_error error;
 *         p2p_node node;
 *         p2p_mount mount;
 *         if (argc != 2 && argc != 3) return 2;
 *         if (p2p_node_open(0, &node, &error)
 *             || (argc == 2 && p2p_listen(node, "demo", argv[1], 0, &mount, &error))
 *             || (argc == 2 && p2p_node_address(node, text, sizeof text, &error))
 *             || (argc == 3 && p2p_forward(node, "demo", argv[1], argv[2], 0, &mount, &error))
 *             || (argc == 3 && p2p_mount_address(mount, text, sizeof text, &error)))
 *             return fprintf(stderr, "%s\n", error.message), 1;
 *         printf("%s\n", text), fflush(stdout);
 *         getchar();
 *         return p2p_node_close(node, 2000, &error);
 *     }
 *
 *     cc mount.c -o mount $(pkg-config --cflags --libs p2pmount)
 *
 *
 * HANDLES AND OWNERSHIP
 *
 * Nodes, mounts, options, snapshots, queues, events and operations are 64-bit numbers, never pointers. 0 is none; a
 * number is never given out twice, is below 2^53, and carries its kind. A handle that is stale, closed or of another
 * kind gives P2P_ERROR_BAD_HANDLE, always, and nothing else happens. Freeing or closing 0 is P2P_OK; freeing or closing
 * the same handle twice gives P2P_ERROR_BAD_HANDLE the second time.
 *
 * A node owns its mounts and operations: closing the node closes them. Options, snapshots, queues and events are yours
 * from the call that made them to the matching p2p_options_free, p2p_snapshot_free, p2p_queue_close, p2p_event_free, also
 * after the node: what a queue held when its node was closed can still be read.
 * Every call copies the strings and options it is given. Strings that p2p_row_text and p2p_row_field return live until
 * their snapshot or event is freed. Freeing it while another thread still reads such a string is the one lifetime error
 * that a caller can make and the library cannot catch.
 *
 * Strings are UTF-8 and end in NUL. Buffers are the caller's; one that is too small gives P2P_ERROR_INVALID_ARGUMENT
 * and nothing is cut off. P2P_PEER_ID_SIZE and P2P_ADDRESS_SIZE say what is enough.
 *
 *
 * ERRORS
 *
 * A function that can fail returns a p2p_status: P2P_OK, which is 0, or one of P2P_ERROR_. Its last parameter (except
 * where something is only freed) is a p2p_error of the caller's, or NULL; every call overwrites it, with code P2P_OK and
 * an empty message on success. The message is a whole sentence that names the thing which failed: "listen address
 * 127.0.0.1:8080 is already in use". It is made for people and may change; decide by the code. There is no last error
 * kept anywhere else.
 *
 * Results are written on success only; a handle result is 0 on failure. NULL where a result belongs, text that is
 * not UTF-8 and flags this version does not know give P2P_ERROR_INVALID_ARGUMENT. Nothing prints, nothing exits.
 *
 *
 * OPTIONS
 *
 * Everything that can be adjusted is an option with a name, such as "open.timeout". p2p_options_set checks name and
 * value at once and says what would be allowed; p2p_node_open, p2p_listen, p2p_forward and p2p_subscribe take the result
 * (or 0: all defaults) and refuse an option that is out of scope there. p2p_set changes a live option of a node or mount
 * in use, or with handle 0 of the process (logging); p2p_get tells the value in force and where it came from. The
 * environment variable P2PMOUNT_<NAME>, for example P2PMOUNT_OPEN_TIMEOUT, overrides an option's default; it is read when
 * a node is opened, and never in a set-user-id program.
 *
 *
 * THREADS
 *
 * Every function may be called from every thread at any time, also while another thread closes the same object: the
 * close wakes the blocked call, which returns P2P_ERROR_CLOSED. The library runs a few threads of its own, made with the
 * first node; no function of yours ever runs on them, there are no callbacks.
 *
 *
 * WAITING AND CANCELLING
 *
 * Only calls with a timeout_ms or drain_ms, p2p_node_close among them, and a p2p_forward with the option verify wait for
 * the network. -1 waits for ever, 0 takes only what is ready. Each has a form ending in _start that checks its arguments,
 * returns at once and gives a p2p_operation. Its end is an event of the kind P2P_EVENT_OPERATION, delivered to every
 * queue that asked for that kind before the call, with the error and, for a forward, the mount. p2p_operation_cancel ends
 * an operation early with P2P_ERROR_CANCELLED. After a timeout or a cancellation nothing is left behind.
 *
 *
 * EVENTS
 *
 * Events are pulled: p2p_subscribe makes a queue for the kinds asked for, p2p_next_event takes the next one, p2p_queue_fd
 * gives a descriptor for poll(), epoll or any event loop. It is readable exactly while events wait or none can come any
 * more. Its bytes mean nothing: one is put there whenever the queue stops being empty, and a loop that reads them away
 * must do so before it takes the events. A queue holds queue.capacity events. When it is full the oldest events of
 * streams and peers go first, never results or changes of mounts and the node, which it holds beyond that, and one
 * P2P_EVENT_OVERFLOW tells how many were lost. Ignore kinds of events and fields that you do not know: new versions add
 * some.
 *
 *
 * FORK, SIGNALS, DESCRIPTORS
 *
 * After fork() the child may use the library with a new node. Handles it inherited give P2P_ERROR_FORKED there; their
 * objects go on in the parent. The child holds copies of the parent's sockets until it calls exec or exits: a port that
 * the parent closes may stay taken that long. Every descriptor of the library is close-on-exec; those it hands out are
 * non-blocking, too, and the caller's to close.
 *
 * The library installs no signal handler and its threads block all signals: handlers run on your threads, and SIGPIPE
 * cannot come from the library. It never changes resource limits and leaves descriptors.reserve descriptors to you.
 *
 *
 * SHUTDOWN, EXIT, UNLOADING
 *
 * p2p_node_close stops accepting, lets the streams finish for at most drain_ms, resets what is left then, and returns
 * when the local ports are free. Data that was not delivered is never followed by a clean end of file. Returning from
 * main or calling exit with open nodes is safe and cuts their streams. The library stays in memory once it is loaded:
 * dlclose() does not unload it.
 *
 *
 * VERSIONS
 *
 * P2P_VERSION_NUMBER is MAJOR * 10000 + MINOR * 100 + PATCH of this header; p2p_version and p2p_abi_version tell what is
 * loaded. Within one P2P_ABI_VERSION, which is also the number in the name libp2pmount.so.N, functions, constants,
 * options, fields and kinds of events are only added: no code or bit changes its meaning, no structure its size. A
 * program that loads the library at run time should compare p2p_abi_version() with the P2P_ABI_VERSION it was made for.
 *
 *
 * WHAT IS NOT COVERED
 *
 * A panic inside the library is caught and reported as P2P_ERROR_INTERNAL: it ends the stream, mount or node concerned,
 * not the process. Running out of memory and overflowing the stack end the process. A pointer that does not point to
 * what its parameter asks for is undefined behaviour, as everywhere in C.
 *
 * This version does not look for peers: a forward needs the address of its peer, as p2p_node_address gives it. It uses no
 * relays and punches no holes; network=public behaves as private. Linux only.
 */

#ifndef P2PMOUNT_H
#define P2PMOUNT_H

#include <stddef.h>
#include <stdint.h>

/** The version of this header; p2p_version() tells that of the library. */
#define P2P_VERSION_MAJOR 0
#define P2P_VERSION_MINOR 1
#define P2P_VERSION_PATCH 0
#define P2P_VERSION_NUMBER 100
#define P2P_VERSION_STRING "0.1.0"

/** Changes when a program made for an older library may not work any more; part of the library's file name. */
#define P2P_ABI_VERSION 0

/** Bytes that are enough for a peer id, its NUL included. */
#define P2P_PEER_ID_SIZE 128

/** Bytes that are enough for the addresses of a node or mount, their NUL included. */
#define P2P_ADDRESS_SIZE 4096

/** Success. */
#define P2P_OK 0
/** NULL, text that is not UTF-8, an unknown flag, a number out of range, or arguments that exclude each other. */
#define P2P_ERROR_INVALID_ARGUMENT 1
/** The handle is closed, freed, of another kind, or never was one. */
#define P2P_ERROR_BAD_HANDLE 2
/** Unknown option, bad value, not an option of this object, or not changeable in use. */
#define P2P_ERROR_BAD_OPTION 3
/** A local address or multiaddr is malformed or not allowed here. */
#define P2P_ERROR_BAD_ADDRESS 4
/** A protocol name is malformed or outside /x/. */
#define P2P_ERROR_BAD_PROTOCOL 5
/** A peer without id, with a malformed one, or this node itself. */
#define P2P_ERROR_BAD_PEER 6
/** The key file is damaged, foreign, readable by others or cannot be read. */
#define P2P_ERROR_BAD_KEY 7
/** A listen address is in use. */
#define P2P_ERROR_ADDRESS_IN_USE 8
/** A listener for this protocol exists. */
#define P2P_ERROR_ALREADY_REGISTERED 9
/** No such stream, row or field. */
#define P2P_ERROR_NOT_FOUND 10
/** The peer cannot be reached. */
#define P2P_ERROR_UNREACHABLE 11
/** The peer does not offer the protocol, or not to this node. */
#define P2P_ERROR_PROTOCOL_REFUSED 12
/** A listener's target does not accept connections. */
#define P2P_ERROR_TARGET_REFUSED 13
/** Time ran out. */
#define P2P_ERROR_TIMED_OUT 14
/** The operation was cancelled. */
#define P2P_ERROR_CANCELLED 15
/** The object was closed. */
#define P2P_ERROR_CLOSED 16
/** A limit was reached. */
#define P2P_ERROR_LIMIT 17
/** A stream was reset or cut. */
#define P2P_ERROR_RESET 18
/** The handle was inherited through fork. */
#define P2P_ERROR_FORKED 19
/** The operating system refused; system_error says why. */
#define P2P_ERROR_SYSTEM 20
/** A defect of the library, contained. */
#define P2P_ERROR_INTERNAL 21

/** Trying again later can help. */
#define P2P_ERROR_FLAG_TEMPORARY 1
/** Time ran out. */
#define P2P_ERROR_FLAG_TIMED_OUT 2

/** Listeners. */
#define P2P_LIST_LISTENERS 1
/** Forwards. */
#define P2P_LIST_FORWARDS 2
/** Live streams. */
#define P2P_LIST_STREAMS 4
/** Connected peers. */
#define P2P_LIST_PEERS 8
/** The node's own listening multiaddrs. */
#define P2P_LIST_ADDRESSES 16
/** The node itself, one row. */
#define P2P_LIST_NODE 32
/** The table of options; handle 0 will do. */
#define P2P_LIST_OPTIONS 64
/** The library in this process, one row; handle 0 will do. */
#define P2P_LIST_PROCESS 128

/** Every mount of the node. */
#define P2P_CLOSE_ALL 1
/** Only listeners. */
#define P2P_CLOSE_LISTENERS 2
/** Only forwards. */
#define P2P_CLOSE_FORWARDS 4
/** Also reset the live streams of what is closed; without it they run on. */
#define P2P_CLOSE_STREAMS 8

/** A mount was made, changed its state or was closed. */
#define P2P_EVENT_MOUNT 1
/** A stream was opened. */
#define P2P_EVENT_STREAM_OPENED 2
/** A stream has ended; reason, bytes_in and bytes_out say how. */
#define P2P_EVENT_STREAM_CLOSED 4
/** A listener's target did not accept a connection. */
#define P2P_EVENT_TARGET_REFUSED 8
/** A client, stream or connection was refused, or accepting pauses; code and message say why. */
#define P2P_EVENT_REFUSED 16
/** A peer was connected or disconnected. */
#define P2P_EVENT_PEER 32
/** A listening address of the node is new or gone. */
#define P2P_EVENT_ADDRESS 64
/** An operation has ended. */
#define P2P_EVENT_OPERATION 128
/** The node is closing, closed or has failed. */
#define P2P_EVENT_NODE 256
/** Events were lost; delivered to every queue that lost some. */
#define P2P_EVENT_OVERFLOW 512
/** Every kind, future ones included. */
#define P2P_EVENT_ALL 2147483647

/** P2P_OK or one of P2P_ERROR_. */
typedef int32_t p2p_status;

/** Options by name for a node, mount or queue. */
typedef uint64_t p2p_options;

/** What went wrong. Its size is 1,024 bytes and stays so. */
typedef struct p2p_error {
    /** P2P_OK or one of P2P_ERROR_. */
    int32_t code;
    /** The system's errno, or 0 if the failure was not the system's. */
    int32_t system_error;
    /** P2P_ERROR_FLAG_ bits. */
    uint32_t flags;
    /** 0. */
    uint32_t reserved;
    /** A sentence in UTF-8 that names what failed, ended by NUL. */
    char message[1008];
} p2p_error;

/** A node of the network. */
typedef uint64_t p2p_node;

/** A call that goes on in the background; it ends by itself and needs no freeing. */
typedef uint64_t p2p_operation;

/** A listener or a forward. */
typedef uint64_t p2p_mount;

/** The rows of a list, as they were when it was made. */
typedef uint64_t p2p_snapshot;

/** A queue of events. */
typedef uint64_t p2p_queue;

/** One event, which is one row. */
typedef uint64_t p2p_event;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/** The version of the loaded library, such as "0.1.0". The string is static. */
const char *p2p_version(void);

/** The ABI version of the loaded library, to be compared with P2P_ABI_VERSION by programs that load it at run time. */
uint32_t p2p_abi_version(void);

/**
 * The name of a status, such as "P2P_ERROR_LIMIT", or "P2P_ERROR_?" for a number that this version does not know. The
 * string is static.
 */
const char *p2p_status_name(p2p_status status);

/** Makes an empty set of options, to be freed with p2p_options_free. */
p2p_status p2p_options_new(p2p_options *options, p2p_error *error);

/**
 * Sets an option; docs/OPTIONS.md has them all. An unknown name or a bad value gives P2P_ERROR_BAD_OPTION and a sentence
 * with what is allowed. Setting an option again replaces its value.
 */
p2p_status p2p_options_set(p2p_options options,
                           const char *name,
                           const char *value,
                           p2p_error *error);

/** Frees a set of options. Nodes and mounts made with it keep their own copy. */
p2p_status p2p_options_free(p2p_options options);

/**
 * Writes the private key in the file identity_file, which may have any form that the option identity.file takes, to the
 * new file destination, made with mode 0600. format is named as by `ipfs key export`: "libp2p-protobuf-cleartext", as
 * identity.file is made and `ipfs key import` takes it, "pem-pkcs8-cleartext", which openssl reads, too, or "base64", as
 * Identity.PrivKey of Kubo's configuration has it. Nothing is ever overwritten. Errors: P2P_ERROR_BAD_KEY with the file
 * and what is wrong with it, P2P_ERROR_INVALID_ARGUMENT for another format.
 */
p2p_status p2p_key_export(const char *identity_file,
                          const char *format,
                          const char *destination,
                          p2p_error *error);

/**
 * Opens a node: makes or loads its key, binds its listening addresses, and returns when it is ready. options 0 is all
 * defaults: a new key, a free port of every transport on all interfaces (of the loopback interface with network=local), and
 * listeners that admit every peer. To be closed with p2p_node_close.
 */
p2p_status p2p_node_open(p2p_options options,
                         p2p_node *node,
                         p2p_error *error);

/**
 * Closes a node: stops accepting, lets streams finish for at most drain_ms (-1: as long as they take, 0: not at all), resets
 * the rest, closes all mounts, operations and connections, and wakes every call that waits on them. Returns when the local
 * ports are free. Its queues keep their events until p2p_queue_close. A close of a node that is being closed waits for
 * that and succeeds.
 */
p2p_status p2p_node_close(p2p_node node,
                          int32_t drain_ms,
                          p2p_error *error);

/**
 * p2p_node_close in the background. Cancelling the operation ends the draining: the streams that are left are reset, the
 * node is closed all the same, and the event says P2P_ERROR_CANCELLED. Closing the node again waits for it. A node that has
 * failed gives its failure, since its queues have ended: p2p_node_close closes it, and has nothing to wait for.
 */
p2p_status p2p_node_close_start(p2p_node node,
                                int32_t drain_ms,
                                p2p_operation *operation,
                                p2p_error *error);

/** Writes the node's peer id, such as "12D3KooW...", to a buffer of size bytes; P2P_PEER_ID_SIZE is enough. */
p2p_status p2p_node_peer_id(p2p_node node,
                            char *buffer,
                            size_t size,
                            p2p_error *error);

/**
 * Writes the node's listening addresses to a buffer of size bytes (P2P_ADDRESS_SIZE is enough for most machines): full
 * multiaddrs, comma separated, as another node's p2p_forward and p2p_connect take them. Without a listening address it is
 * the bare peer id.
 */
p2p_status p2p_node_address(p2p_node node,
                            char *buffer,
                            size_t size,
                            p2p_error *error);

/**
 * Connects to a peer and remembers its addresses for as long as the node lives. Returns when it is connected, at once if it
 * is already. timeout_ms: -1 waits for ever, 0 only looks. Errors: P2P_ERROR_UNREACHABLE with every address tried and why,
 * P2P_ERROR_TIMED_OUT, P2P_ERROR_BAD_PEER, P2P_ERROR_BAD_ADDRESS.
 */
p2p_status p2p_connect(p2p_node node,
                       const char *peer,
                       int32_t timeout_ms,
                       p2p_error *error);

/** p2p_connect in the background. */
p2p_status p2p_connect_start(p2p_node node,
                             const char *peer,
                             int32_t timeout_ms,
                             p2p_operation *operation,
                             p2p_error *error);

/**
 * Exposes a local service: streams that peers open for protocol are connected to target_address, each by a connection of
 * its own. Contacts nobody; a target that is down shows in events and the mount's error, and is tried again for each
 * stream.
 *
 * protocol: "name" means "/x/name". target_address: "127.0.0.1:8080", "[::1]:8080", "localhost:8080", "8080" (127.0.0.1),
 * "/ip4/127.0.0.1/tcp/8080", "unix:/path". mount may not be NULL. Errors: P2P_ERROR_ALREADY_REGISTERED,
 * P2P_ERROR_BAD_PROTOCOL, P2P_ERROR_BAD_ADDRESS, P2P_ERROR_BAD_OPTION.
 */
p2p_status p2p_listen(p2p_node node,
                      const char *protocol,
                      const char *target_address,
                      p2p_options options,
                      p2p_mount *mount,
                      p2p_error *error);

/**
 * Ties a local address to a protocol of a peer: each client that connects to listen_address gets a stream of its own to
 * peer. Binds at once. The peer is dialled when the first client comes, or now with the option verify=true: then the call
 * waits up to open.timeout and fails if the peer cannot be reached or does not offer the protocol.
 *
 * listen_address: as for p2p_listen; port 0 takes a free one, which p2p_mount_address tells. peer: full multiaddrs, comma
 * separated, as p2p_node_address gives them, or a peer id that is connected or was given addresses before. Errors:
 * P2P_ERROR_ADDRESS_IN_USE, P2P_ERROR_BAD_PEER, P2P_ERROR_UNREACHABLE, P2P_ERROR_PROTOCOL_REFUSED, P2P_ERROR_TIMED_OUT.
 */
p2p_status p2p_forward(p2p_node node,
                       const char *protocol,
                       const char *listen_address,
                       const char *peer,
                       p2p_options options,
                       p2p_mount *mount,
                       p2p_error *error);

/** p2p_forward in the background. Binds at once, as p2p_forward does; the event of its end carries the mount. */
p2p_status p2p_forward_start(p2p_node node,
                             const char *protocol,
                             const char *listen_address,
                             const char *peer,
                             p2p_options options,
                             p2p_operation *operation,
                             p2p_error *error);

/**
 * Writes a mount's local address to a buffer of size bytes: where clients connect to a forward, with its real port, or the
 * target of a listener. P2P_ADDRESS_SIZE is enough.
 */
p2p_status p2p_mount_address(p2p_mount mount,
                             char *buffer,
                             size_t size,
                             p2p_error *error);

/**
 * Closes one mount and returns when its port is free. Its live streams run on, or are reset with P2P_CLOSE_STREAMS, the
 * only flag.
 */
p2p_status p2p_mount_close(p2p_mount mount,
                           uint32_t flags,
                           p2p_error *error);

/**
 * Closes every mount that fits all the filters given; NULL is no filter. protocol: a name. listen_address: a forward's, or
 * "/p2p/" and the own peer id for listeners. target: "/p2p/" and a peer id for forwards, a listener's target address. Each
 * may be written in any form and must fit exactly: port 0 does not fit a bound port.
 *
 * flags: P2P_CLOSE_ALL closes everything and excludes filters; without it at least one filter is needed.
 * P2P_CLOSE_LISTENERS and P2P_CLOSE_FORWARDS restrict the kind, P2P_CLOSE_STREAMS also resets live streams. closed, which
 * may be NULL, gets the number of mounts closed; none is no error. Returns when the ports are free.
 */
p2p_status p2p_close(p2p_node node,
                     const char *protocol,
                     const char *listen_address,
                     const char *target,
                     uint32_t flags,
                     size_t *closed,
                     p2p_error *error);

/** Resets one stream at both ends; stream_id is the field id of its row. P2P_ERROR_NOT_FOUND if it has ended. */
p2p_status p2p_stream_close(p2p_node node,
                            uint64_t stream_id,
                            p2p_error *error);

/**
 * Lists what a node has: any of the P2P_LIST_ bits, in rows whose field kind tells them apart, forwards before listeners
 * before streams. Of a mount's handle it lists the mount (P2P_LIST_LISTENERS or P2P_LIST_FORWARDS) and its streams. Handle 0
 * will do for P2P_LIST_OPTIONS and P2P_LIST_PROCESS. Never waits for a peer. To be freed with p2p_snapshot_free.
 */
p2p_status p2p_list(uint64_t handle,
                    uint32_t what,
                    p2p_snapshot *snapshot,
                    p2p_error *error);

/** How many rows a snapshot has; an event has one. */
p2p_status p2p_row_count(uint64_t rows, size_t *count, p2p_error *error);

/**
 * The name of a field that a row has, by its index from 0; P2P_ERROR_NOT_FOUND past the last. The string lives until rows
 * is freed.
 */
p2p_status p2p_row_field(uint64_t rows,
                         size_t row,
                         size_t index,
                         const char **name,
                         p2p_error *error);

/**
 * The value of a field as text, numbers in decimal. The string lives until rows is freed. P2P_ERROR_NOT_FOUND if rows of
 * this kind do not have the field, P2P_ERROR_INVALID_ARGUMENT if none have; docs/FIELDS.md lists all.
 */
p2p_status p2p_row_text(uint64_t rows,
                        size_t row,
                        const char *field,
                        const char **value,
                        p2p_error *error);

/** The value of a field that is a number. P2P_ERROR_INVALID_ARGUMENT if the field is text; otherwise as p2p_row_text. */
p2p_status p2p_row_int(uint64_t rows,
                       size_t row,
                       const char *field,
                       int64_t *value,
                       p2p_error *error);

/** Frees a snapshot and the strings read from it. */
p2p_status p2p_snapshot_free(p2p_snapshot snapshot);

/**
 * Changes an option that the table marks as live, of a node or mount in use, or with handle 0 of the process (logging).
 * What is set for a node holds for its mounts, too, unless they have a value of their own. A change of peers.allow or
 * peers.deny also ends the streams that are no longer admitted.
 */
p2p_status p2p_set(uint64_t handle,
                   const char *name,
                   const char *value,
                   p2p_error *error);

/**
 * Tells the value of an option in force for a node or mount, or with handle 0 for the process: a snapshot of one row with
 * the fields name, value and source.
 */
p2p_status p2p_get(uint64_t handle,
                   const char *name,
                   p2p_snapshot *snapshot,
                   p2p_error *error);

/**
 * Makes a queue that gets the node's events of the kinds given (P2P_EVENT_ bits, P2P_EVENT_ALL for every kind) from now on.
 * options: queue.capacity. To be closed with p2p_queue_close.
 */
p2p_status p2p_subscribe(p2p_node node,
                         uint32_t kinds,
                         p2p_options options,
                         p2p_queue *queue,
                         p2p_error *error);

/**
 * Takes the next event from a queue, waiting for it up to timeout_ms (-1: for ever, 0: not at all). P2P_ERROR_TIMED_OUT if
 * none came, P2P_ERROR_CLOSED if none can come any more. The event is a row, read with p2p_row_text and p2p_row_int, and is
 * to be freed with p2p_event_free.
 */
p2p_status p2p_next_event(p2p_queue queue,
                          int32_t timeout_ms,
                          p2p_event *event,
                          p2p_error *error);

/**
 * Gives a descriptor that is readable exactly while events wait in the queue or no more can come. Close-on-exec,
 * non-blocking, the caller's to close. Its bytes mean nothing; a loop that reads them away must do so
 * before it takes the events.
 */
p2p_status p2p_queue_fd(p2p_queue queue,
                        int *fd,
                        p2p_error *error);

/** Closes a queue, forgets its events and wakes who waits on it with P2P_ERROR_CLOSED. */
p2p_status p2p_queue_close(p2p_queue queue);

/** Frees an event and the strings read from it. */
p2p_status p2p_event_free(p2p_event event);

/**
 * Ends an operation early; its event then says P2P_ERROR_CANCELLED and nothing of it is left. One that has ended gives
 * P2P_ERROR_BAD_HANDLE and its event stands. May be called from any thread.
 */
p2p_status p2p_operation_cancel(p2p_operation operation,
                                p2p_error *error);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* P2PMOUNT_H */
