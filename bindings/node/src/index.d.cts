/// <reference types="node" />
// The types of the package, by hand. Rows and events may have more fields than are named here: a newer library adds some,
// and they arrive under their name in camel case.

import { EventEmitter } from "node:events";

/** A port of 127.0.0.1, a written address ("127.0.0.1:8080", "[::1]:8080", "localhost:8080", "unix:/path", a multiaddr), its
 *  parts, or what the address() of a net.Server that listens on a port gives. */
export type Address =
    | number
    | string
    | { host?: string | undefined; port: number | string; path?: undefined }
    | { address: string; port: number | string; path?: undefined }
    | { path: string; port?: undefined; host?: undefined };

/** A peer id, full multiaddrs separated by commas, or an array of these. */
export type Peer = string | readonly string[];

/** Of a duration in milliseconds, a size in bytes, a list, or plain text. */
export type OptionValue = string | number | bigint | boolean | readonly (string | number | bigint | boolean)[];

/** Options of the library by name; docs/OPTIONS.md has them all. One that is undefined is left out. */
export interface Options {
    [name: string]: OptionValue | undefined;
}

export interface ForwardOptions {
    /** Gives the attempt up; nothing of it is left then. */
    signal?: AbortSignal | undefined;
    [name: string]: OptionValue | AbortSignal | undefined;
}

export interface ConnectOptions {
    /** Milliseconds; 0 only looks whether the node is connected. Without it: as long as it takes. */
    timeout?: number | undefined;
    signal?: AbortSignal | undefined;
}

export interface CloseOptions {
    /** Milliseconds that streams get to finish; Infinity: as long as they take. Without it none. */
    drain?: number | undefined;
    /** Ends the draining: the streams that are left are reset, and the node is closed all the same. */
    signal?: AbortSignal | undefined;
}

export interface MountFilters {
    protocol?: string | undefined;
    /** A forward's listen address, or "/p2p/" and the own peer id for listeners. */
    listen?: Address | undefined;
    /** A listener's target address, or "/p2p/" and the peer id for forwards. */
    target?: Address | undefined;
    /** Every mount; excludes the filters above. */
    all?: boolean | undefined;
    /** Only listeners. */
    listeners?: boolean | undefined;
    /** Only forwards. */
    forwards?: boolean | undefined;
    /** Also resets the live streams of what is closed; without it they run on. */
    streams?: boolean | undefined;
}

/** A row of a list. */
export interface Row {
    kind: string;
    // biome-ignore lint/suspicious/noExplicitAny: the fields of newer libraries are numbers or text
    [field: string]: any;
}

interface MountRow extends Row {
    /** The mount's number, as Mount's `id`. */
    id: number;
    protocol: string;
    listen: string;
    target: string;
    state: string;
    /** Sentence of the last error, "" if there was none. */
    error: string;
    /** Status of the last error, 0 if there was none. */
    errorCode: number;
    /** The last error's errno, 0 if it was not the system's. */
    systemError: number;
    /** P2P_ERROR_FLAG_ bits of the last error. */
    flags: number;
    streams: number;
    streamsTotal: number;
    /** Of those that have ended: the peer reset them, or their connection was lost. */
    streamsCut: number;
    bytesIn: number;
    bytesOut: number;
}

export interface ListenerRow extends MountRow {
    kind: "listener";
    access: string;
}

export interface ForwardRow extends MountRow {
    kind: "forward";
    peer: string;
    allInterfaces: number;
}

export interface StreamRow extends Row {
    kind: "stream";
    /** The number that closeStream takes. */
    id: number;
    mount: number;
    side: "listener" | "forward";
    protocol: string;
    origin: string;
    target: string;
    peer: string;
    bytesIn: number;
    bytesOut: number;
    ageMs: number;
    path: string;
    transport: string;
}

export interface PeerRow extends Row {
    kind: "peer";
    peer: string;
    address: string;
    direction: string;
    transport: string;
    path: string;
    connections: number;
    streams: number;
    /** Microseconds, -1 if not known yet. */
    rttUs: number;
    agent: string;
    ageMs: number;
}

export interface AddressRow extends Row {
    kind: "address";
    address: string;
}

export interface NodeRow extends Row {
    kind: "node";
    id: number;
    peer: string;
    state: string;
    network: string;
    listeners: number;
    forwards: number;
    streams: number;
    peers: number;
    connections: number;
}

export interface OptionRow extends Row {
    kind: "option";
    name: string;
    type: string;
    default: string;
    scope: string;
    live: number;
    secret: number;
    doc: string;
}

export interface ProcessRow extends Row {
    kind: "process";
    version: string;
    nodes: number;
    handles: number;
    threads: number;
    logDropped: number;
    descriptors: number;
    descriptorsMax: number;
}

/** An option in force, and where its value came from. */
export interface Setting extends Row {
    name: string;
    value: string;
    source: "default" | "environment" | "options" | "set";
}

/** The rows of each list. */
export interface Lists {
    listeners: ListenerRow;
    forwards: ForwardRow;
    streams: StreamRow;
    peers: PeerRow;
    addresses: AddressRow;
    node: NodeRow;
    options: OptionRow;
    process: ProcessRow;
}

/** What every event has. */
export interface EventRow extends Row {
    /** The kind as a bit, P2P_EVENT_ of `constants`. */
    event: number;
    /** Its number among the events of one call of events(), from 1; a gap is what was lost. Says nothing to listeners: it
     *  starts again when kinds of events are listened for or not any more. */
    sequence: number;
    /** Milliseconds since 1970, as Date.now(). */
    timeMs: number;
}

/** What events have that may tell of a failure. */
interface FailureEvent extends EventRow {
    /** Status, 0 if nothing failed. */
    code: number;
    /** The system's errno, 0 if the failure was not the system's. */
    systemError: number;
    /** P2P_ERROR_FLAG_ bits. */
    flags: number;
    /** A sentence, "" if nothing failed. */
    message: string;
}

export interface MountEvent extends FailureEvent {
    kind: "mount";
    mount: number;
    state: string;
    protocol: string;
    listen: string;
    target: string;
    /** Of a forward. */
    peer?: string;
}

interface StreamEvent {
    stream: number;
    mount: number;
    protocol: string;
    peer: string;
    origin: string;
    target: string;
    path: string;
    transport: string;
}

export interface StreamOpenedEvent extends EventRow, StreamEvent {
    kind: "stream opened";
}

export interface StreamClosedEvent extends FailureEvent, StreamEvent {
    kind: "stream closed";
    reason: string;
    bytesIn: number;
    bytesOut: number;
}

export interface TargetRefusedEvent extends FailureEvent {
    kind: "target refused";
    mount: number;
    protocol: string;
    origin: string;
    target: string;
}

/** Without a mount: a connection of a peer was turned away. With `origin`: a client or stream. Else accepting paused. */
export interface RefusedEvent extends FailureEvent {
    kind: "refused";
    mount?: number;
    protocol?: string;
    origin?: string;
    target?: string;
    listen?: string;
    state?: "paused";
}

export interface PeerEvent extends EventRow {
    kind: "peer";
    state: "connected" | "disconnected";
    peer: string;
    /** The fields of the connection are those of one that was made. */
    address?: string;
    direction?: "inbound" | "outbound";
    transport?: string;
    path?: string;
    /** Why it was lost. */
    message?: string;
}

export interface AddressEvent extends EventRow {
    kind: "address";
    state: "new" | "gone";
    address: string;
}

export interface OperationEvent extends FailureEvent {
    kind: "operation";
    operation: number;
    /** That a forward made, else 0. */
    mount: number;
}

export interface NodeEvent extends FailureEvent {
    kind: "node";
    state: "closing" | "closed" | "failed";
    peer: string;
}

export interface OverflowEvent extends EventRow {
    kind: "overflow";
    /** How many events were lost. */
    count: number;
    message: string;
}

/** The events of a node by the names that `on` and `events` take. */
export interface Events {
    mount: MountEvent;
    streamOpened: StreamOpenedEvent;
    streamClosed: StreamClosedEvent;
    targetRefused: TargetRefusedEvent;
    refused: RefusedEvent;
    peer: PeerEvent;
    address: AddressEvent;
    operation: OperationEvent;
    node: NodeEvent;
    overflow: OverflowEvent;
}

export type AnyEvent = Events[keyof Events];

/** The names above, and "event" for every event, whatever its kind. */
export interface ListenableEvents extends Events {
    event: AnyEvent;
}

export interface EventsOptions<Kind extends keyof Events> {
    /** Which kinds; all without it. Numbers are P2P_EVENT_ bits. */
    kinds?: Kind | readonly Kind[] | undefined;
    signal?: AbortSignal | undefined;
    "queue.capacity"?: OptionValue | undefined;
}

/** Events in order, until the node is closed. Leaving the loop ends it. */
export interface EventStream<T> extends AsyncIterableIterator<T> {
    next(): Promise<IteratorResult<T, undefined>>;
    /** Ends it. */
    return(): Promise<IteratorResult<T, undefined>>;
    [Symbol.asyncIterator](): EventStream<T>;
    [Symbol.asyncDispose](): Promise<void>;
}

/** A listener or a forward. */
export class Mount {
    private constructor();
    /** Its number in lists and events. */
    readonly id: number;
    readonly kind: "listener" | "forward";
    /** The protocol's whole name, such as "/x/web". */
    readonly protocol: string;
    /** Where clients connect to a forward, with its real port; the target of a listener. */
    readonly address: string;
    /** The address in the form that net.connect takes; undefined for a target that has no such form. */
    readonly endpoint: { host: string; port: number } | { path: string } | undefined;
    /** Its own row; with names, these of its lists. */
    list(): (ListenerRow | ForwardRow)[];
    list<Name extends "listeners" | "forwards" | "streams" | "options" | "process">(...what: Name[]): Lists[Name][];
    list(...what: (string | number)[]): Row[];
    /** Changes an option while the mount is in use. */
    set(name: string, value: OptionValue): void;
    get(name: string): Setting;
    /** Closes the mount; its port is free then. Its streams run on, unless `streams` is true. Closing again does nothing. */
    close(options?: { streams?: boolean | undefined }): void;
    [Symbol.dispose](): void;
}

/** A node of the network. */
export class Node extends EventEmitter {
    private constructor();
    /** Opens a node. Without options: a new key, a free port of every transport, listeners that admit every peer. */
    static open(options?: Options): Promise<Node>;

    readonly peerId: string;
    /** The multiaddrs at which other nodes reach this one now; empty if it does not listen. */
    readonly addresses: string[];
    /** True from the first call of close(). */
    readonly closed: boolean;

    /** Exposes a local service under a protocol name. */
    listen(protocol: string, target: Address, options?: Options): Mount;
    /** Ties a local address to a protocol of a peer. */
    forward(protocol: string, listen: Address, peer: Peer, options?: ForwardOptions): Promise<Mount>;
    /** Connects to a peer and remembers its addresses. */
    connect(peer: Peer, options?: ConnectOptions): Promise<void>;

    /** Closes every mount that fits all filters, and tells how many. */
    closeMounts(filters: MountFilters): number;
    /** Resets one stream at both ends. */
    closeStream(id: number): void;

    /** The mounts; with names, these lists. */
    list(): (ListenerRow | ForwardRow)[];
    list<Name extends keyof Lists>(...what: Name[]): Lists[Name][];
    list(...what: (string | number)[]): Row[];
    /** Changes an option while the node is in use. */
    set(name: string, value: OptionValue): void;
    get(name: string): Setting;

    /** Events from now on, from a queue of their own. */
    events<Kind extends keyof Events = keyof Events>(
        options?: EventsOptions<Kind>,
    ): EventStream<Events[Kind] | OverflowEvent>;
    events(options: {
        kinds: string | number | readonly (string | number)[];
        signal?: AbortSignal | undefined;
        [option: string]: unknown;
    }): EventStream<EventRow>;

    on<Name extends keyof ListenableEvents>(name: Name, listener: (event: ListenableEvents[Name]) => void): this;
    // biome-ignore lint/suspicious/noExplicitAny: as EventEmitter has it
    on(name: string | symbol, listener: (...values: any[]) => void): this;
    once<Name extends keyof ListenableEvents>(name: Name, listener: (event: ListenableEvents[Name]) => void): this;
    // biome-ignore lint/suspicious/noExplicitAny: as EventEmitter has it
    once(name: string | symbol, listener: (...values: any[]) => void): this;

    /** An open node with mounts keeps the process running; this is the default. */
    ref(): this;
    /** The node does not keep the process running. Calls that somebody waits for do so all the same. */
    unref(): this;

    /** Closes the node and all it has. Resolves when its ports are free and its listeners have heard the last event. */
    close(options?: CloseOptions): Promise<void>;
    [Symbol.asyncDispose](): Promise<void>;
}

/** A failure that the library reported. */
export class P2pError extends Error {
    constructor(message: string, details: { status: number; code: string; systemError?: number; flags?: number });
    /** The name of the status, such as "P2P_ERROR_LIMIT". */
    code: string;
    status: number;
    /** The system's errno, or 0. */
    systemError: number;
    /** The same call can succeed later without a change on this side. */
    temporary: boolean;
    timedOut: boolean;
}

/** The numbers of p2pmount.h under their names there. */
export const constants: Readonly<{
    P2P_ABI_VERSION: number;
    P2P_PEER_ID_SIZE: number;
    P2P_ADDRESS_SIZE: number;
    P2P_OK: number;
    P2P_ERROR_INVALID_ARGUMENT: number;
    P2P_ERROR_BAD_HANDLE: number;
    P2P_ERROR_BAD_OPTION: number;
    P2P_ERROR_BAD_ADDRESS: number;
    P2P_ERROR_BAD_PROTOCOL: number;
    P2P_ERROR_BAD_PEER: number;
    P2P_ERROR_BAD_KEY: number;
    P2P_ERROR_ADDRESS_IN_USE: number;
    P2P_ERROR_ALREADY_REGISTERED: number;
    P2P_ERROR_NOT_FOUND: number;
    P2P_ERROR_UNREACHABLE: number;
    P2P_ERROR_PROTOCOL_REFUSED: number;
    P2P_ERROR_TARGET_REFUSED: number;
    P2P_ERROR_TIMED_OUT: number;
    P2P_ERROR_CANCELLED: number;
    P2P_ERROR_CLOSED: number;
    P2P_ERROR_LIMIT: number;
    P2P_ERROR_RESET: number;
    P2P_ERROR_FORKED: number;
    P2P_ERROR_SYSTEM: number;
    P2P_ERROR_INTERNAL: number;
    P2P_ERROR_FLAG_TEMPORARY: number;
    P2P_ERROR_FLAG_TIMED_OUT: number;
    P2P_LIST_LISTENERS: number;
    P2P_LIST_FORWARDS: number;
    P2P_LIST_STREAMS: number;
    P2P_LIST_PEERS: number;
    P2P_LIST_ADDRESSES: number;
    P2P_LIST_NODE: number;
    P2P_LIST_OPTIONS: number;
    P2P_LIST_PROCESS: number;
    P2P_CLOSE_ALL: number;
    P2P_CLOSE_LISTENERS: number;
    P2P_CLOSE_FORWARDS: number;
    P2P_CLOSE_STREAMS: number;
    P2P_EVENT_MOUNT: number;
    P2P_EVENT_STREAM_OPENED: number;
    P2P_EVENT_STREAM_CLOSED: number;
    P2P_EVENT_TARGET_REFUSED: number;
    P2P_EVENT_REFUSED: number;
    P2P_EVENT_PEER: number;
    P2P_EVENT_ADDRESS: number;
    P2P_EVENT_OPERATION: number;
    P2P_EVENT_NODE: number;
    P2P_EVENT_OVERFLOW: number;
    P2P_EVENT_ALL: number;
}>;

/** Loads the library, which otherwise happens at the first call, and returns the file. */
export function load(file?: string): string;
/** The version of the loaded library. */
export function version(): string;
/** The name of a status, such as "P2P_ERROR_LIMIT" for 17. */
export function statusName(status: number): string;
/** Lists the options there are, or the library in this process. */
export function list<Name extends "options" | "process">(...what: Name[]): Lists[Name][];
export function list(...what: (string | number)[]): Row[];
/** Changes an option of the process, such as "log.level". */
export function set(name: string, value: OptionValue): void;
export function get(name: string): Setting;
/**
 * Writes the private key of a file, in any form that the option "identity.file" takes, to a new file, its owner's alone.
 * "base64" is how Kubo's configuration has it.
 */
export function exportKey(
    identityFile: string,
    format: "libp2p-protobuf-cleartext" | "pem-pkcs8-cleartext" | "base64",
    destination: string,
): void;
