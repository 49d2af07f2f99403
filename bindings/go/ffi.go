package p2pmount

/*
#cgo !p2pmount_static,!p2pmount_pkgconfig LDFLAGS: -L${SRCDIR}/../../target/release -lp2pmount -Wl,-rpath,${SRCDIR}/../../target/release
#cgo p2pmount_static,!p2pmount_pkgconfig LDFLAGS: -L${SRCDIR}/../../target/release -l:libp2pmount.a -lgcc_s -lutil -lrt -lpthread -lm -ldl
#cgo p2pmount_pkgconfig pkg-config: p2pmount

#include <stdlib.h>
#include "p2pmount.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"unsafe"
)

// Everything that touches C is in this file. Handles leave it as plain numbers, rows as Go values: nothing that the
// library gives out outlives the call that got it, but nodes, mounts, queues and operations.

// headerABI is what this package was made for.
const headerABI = C.P2P_ABI_VERSION

// libraryABI and libraryVersion tell what is loaded.
func libraryABI() uint32     { return uint32(C.p2p_abi_version()) }
func libraryVersion() string { return C.GoString(C.p2p_version()) }

func statusName(code int32) string { return C.GoString(C.p2p_status_name(C.p2p_status(code))) }

// checkLibrary refuses a library of another ABI. Whatever can be called without a node calls it first.
var checkLibrary = sync.OnceValue(func() error {
	if abi := libraryABI(); abi != headerABI {
		return fmt.Errorf("p2pmount: the library %s has ABI version %d (it is version %s), this program was made for ABI version %d",
			libraryFile(), abi, libraryVersion(), headerABI)
	}
	return nil
})

// libraryFile is the file that the library was loaded from; the program itself if it is part of it.
func libraryFile() string {
	maps, err := os.ReadFile("/proc/self/maps")
	if err == nil {
		for _, line := range strings.Split(string(maps), "\n") {
			if at := strings.IndexByte(line, '/'); at >= 0 && strings.Contains(line[at:], "/libp2pmount.so") {
				return line[at:]
			}
		}
	}
	if name, err := os.Executable(); err == nil {
		return name
	}
	return "libp2pmount"
}

func failure(e *C.p2p_error) error {
	return &Error{
		Code:        Code(e.code),
		SystemError: syscall.Errno(e.system_error),
		Flags:       uint32(e.flags),
		Message:     C.GoString(&e.message[0]),
	}
}

func result(status C.p2p_status, e *C.p2p_error) error {
	if status == C.P2P_OK {
		return nil
	}
	return failure(e)
}

// arguments are the strings of one call.
type arguments struct {
	texts []*C.char
	err   error
}

func (a *arguments) text(name, value string) *C.char {
	if at := strings.IndexByte(value, 0); at >= 0 && a.err == nil {
		a.err = &Error{Code: ErrInvalidArgument, Message: fmt.Sprintf("%s has a NUL at byte %d, which no name or address can have", name, at)}
	}
	text := C.CString(value)
	a.texts = append(a.texts, text)
	return text
}

// optional makes NULL of an empty string.
func (a *arguments) optional(name, value string) *C.char {
	if value == "" {
		return nil
	}
	return a.text(name, value)
}

func (a *arguments) free() {
	for _, text := range a.texts {
		C.free(unsafe.Pointer(text))
	}
}

// withOptions calls use with the handle of a set of options, or 0 if there are none, and frees it again.
func withOptions(opts []Options, use func(options uint64) error) error {
	settings, err := settingsOf(opts)
	if err != nil {
		return err
	}
	if len(settings) == 0 {
		return use(0)
	}
	var options C.p2p_options
	var e C.p2p_error
	if err := result(C.p2p_options_new(&options, &e), &e); err != nil {
		return err
	}
	defer C.p2p_options_free(options)
	for _, setting := range settings {
		if err := setOption(options, setting.name, setting.text); err != nil {
			return err
		}
	}
	return use(uint64(options))
}

func setOption(options C.p2p_options, name, value string) error {
	var a arguments
	defer a.free()
	cName, cValue := a.text("the name of an option", name), a.text("option "+name, value)
	if a.err != nil {
		return a.err
	}
	var e C.p2p_error
	return result(C.p2p_options_set(options, cName, cValue, &e), &e)
}

func nodeOpen(options uint64) (uint64, error) {
	var node C.p2p_node
	var e C.p2p_error
	err := result(C.p2p_node_open(C.p2p_options(options), &node, &e), &e)
	return uint64(node), err
}

func nodeClose(node uint64, drainMS int32) error {
	var e C.p2p_error
	return result(C.p2p_node_close(C.p2p_node(node), C.int32_t(drainMS), &e), &e)
}

func nodeCloseStart(node uint64, drainMS int32) (uint64, error) {
	var operation C.p2p_operation
	var e C.p2p_error
	err := result(C.p2p_node_close_start(C.p2p_node(node), C.int32_t(drainMS), &operation, &e), &e)
	return uint64(operation), err
}

// fill calls write with buffers of growing size, beginning with one that is enough as a rule.
func fill(size int, write func(buffer *C.char, size C.size_t) error) (string, error) {
	for ; ; size *= 4 {
		buffer := (*C.char)(C.malloc(C.size_t(size)))
		err := write(buffer, C.size_t(size))
		text := ""
		if err == nil {
			text = C.GoString(buffer)
		}
		C.free(unsafe.Pointer(buffer))
		if err == nil || !errors.Is(err, ErrInvalidArgument) || size > 1<<20 {
			return text, err
		}
	}
}

func nodePeerID(node uint64) (string, error) {
	return fill(C.P2P_PEER_ID_SIZE, func(buffer *C.char, size C.size_t) error {
		var e C.p2p_error
		return result(C.p2p_node_peer_id(C.p2p_node(node), buffer, size, &e), &e)
	})
}

func nodeAddress(node uint64) (string, error) {
	return fill(C.P2P_ADDRESS_SIZE, func(buffer *C.char, size C.size_t) error {
		var e C.p2p_error
		return result(C.p2p_node_address(C.p2p_node(node), buffer, size, &e), &e)
	})
}

func connectStart(node uint64, peer string, timeoutMS int32) (uint64, error) {
	var a arguments
	defer a.free()
	cPeer := a.text("peer", peer)
	if a.err != nil {
		return 0, a.err
	}
	var operation C.p2p_operation
	var e C.p2p_error
	err := result(C.p2p_connect_start(C.p2p_node(node), cPeer, C.int32_t(timeoutMS), &operation, &e), &e)
	return uint64(operation), err
}

func listen(node uint64, protocol, target string, options uint64) (uint64, error) {
	var a arguments
	defer a.free()
	cProtocol, cTarget := a.text("protocol", protocol), a.text("target", target)
	if a.err != nil {
		return 0, a.err
	}
	var mount C.p2p_mount
	var e C.p2p_error
	err := result(C.p2p_listen(C.p2p_node(node), cProtocol, cTarget, C.p2p_options(options), &mount, &e), &e)
	return uint64(mount), err
}

func forwardStart(node uint64, protocol, listen, peer string, options uint64) (uint64, error) {
	var a arguments
	defer a.free()
	cProtocol, cListen, cPeer := a.text("protocol", protocol), a.text("listen", listen), a.text("peer", peer)
	if a.err != nil {
		return 0, a.err
	}
	var operation C.p2p_operation
	var e C.p2p_error
	err := result(C.p2p_forward_start(C.p2p_node(node), cProtocol, cListen, cPeer, C.p2p_options(options), &operation, &e), &e)
	return uint64(operation), err
}

func operationCancel(operation uint64) error {
	var e C.p2p_error
	return result(C.p2p_operation_cancel(C.p2p_operation(operation), &e), &e)
}

func mountAddress(mount uint64) (string, error) {
	return fill(C.P2P_ADDRESS_SIZE, func(buffer *C.char, size C.size_t) error {
		var e C.p2p_error
		return result(C.p2p_mount_address(C.p2p_mount(mount), buffer, size, &e), &e)
	})
}

func mountClose(mount uint64, flags uint32) error {
	var e C.p2p_error
	return result(C.p2p_mount_close(C.p2p_mount(mount), C.uint32_t(flags), &e), &e)
}

func closeMounts(node uint64, protocol, listen, target string, flags uint32) (int, error) {
	var a arguments
	defer a.free()
	cProtocol, cListen, cTarget := a.optional("protocol", protocol), a.optional("listen", listen), a.optional("target", target)
	if a.err != nil {
		return 0, a.err
	}
	var closed C.size_t
	var e C.p2p_error
	err := result(C.p2p_close(C.p2p_node(node), cProtocol, cListen, cTarget, C.uint32_t(flags), &closed, &e), &e)
	return int(closed), err
}

func streamClose(node, stream uint64) error {
	var e C.p2p_error
	return result(C.p2p_stream_close(C.p2p_node(node), C.uint64_t(stream), &e), &e)
}

func list(handle uint64, what uint32) ([]Row, error) {
	var snapshot C.p2p_snapshot
	var e C.p2p_error
	if err := result(C.p2p_list(C.uint64_t(handle), C.uint32_t(what), &snapshot, &e), &e); err != nil {
		return nil, err
	}
	defer C.p2p_snapshot_free(snapshot)
	return readRows(C.uint64_t(snapshot), &e)
}

func set(handle uint64, name, value string) error {
	var a arguments
	defer a.free()
	cName, cValue := a.text("the name of an option", name), a.text("option "+name, value)
	if a.err != nil {
		return a.err
	}
	var e C.p2p_error
	return result(C.p2p_set(C.uint64_t(handle), cName, cValue, &e), &e)
}

func keyExport(identityFile, format, destination string) error {
	var a arguments
	defer a.free()
	cFrom, cFormat, cTo := a.text("the identity file", identityFile), a.text("the format", format), a.text("the destination", destination)
	if a.err != nil {
		return a.err
	}
	var e C.p2p_error
	return result(C.p2p_key_export(cFrom, cFormat, cTo, &e), &e)
}

func get(handle uint64, name string) ([]Row, error) {
	var a arguments
	defer a.free()
	cName := a.text("the name of an option", name)
	if a.err != nil {
		return nil, a.err
	}
	var snapshot C.p2p_snapshot
	var e C.p2p_error
	if err := result(C.p2p_get(C.uint64_t(handle), cName, &snapshot, &e), &e); err != nil {
		return nil, err
	}
	defer C.p2p_snapshot_free(snapshot)
	return readRows(C.uint64_t(snapshot), &e)
}

func subscribe(node uint64, kinds uint32, options uint64) (uint64, error) {
	var queue C.p2p_queue
	var e C.p2p_error
	err := result(C.p2p_subscribe(C.p2p_node(node), C.uint32_t(kinds), C.p2p_options(options), &queue, &e), &e)
	return uint64(queue), err
}

var errNoEvent = &Error{Code: ErrTimedOut, Message: "no event is there"}

// nextEvent takes an event that is there; errNoEvent if none is.
func nextEvent(queue uint64) (Row, error) {
	var event C.p2p_event
	var e C.p2p_error
	status := C.p2p_next_event(C.p2p_queue(queue), 0, &event, &e)
	if status == C.P2P_ERROR_TIMED_OUT {
		return Row{}, errNoEvent
	}
	if err := result(status, &e); err != nil {
		return Row{}, err
	}
	defer C.p2p_event_free(event)
	rows, err := readRows(C.uint64_t(event), &e)
	if err != nil {
		return Row{}, err
	}
	return rows[0], nil
}

func queueFD(queue uint64) (int, error) {
	var fd C.int
	var e C.p2p_error
	err := result(C.p2p_queue_fd(C.p2p_queue(queue), &fd, &e), &e)
	return int(fd), err
}

func queueClose(queue uint64) { C.p2p_queue_close(C.p2p_queue(queue)) }

// readRows copies all rows with all their fields, known to this package or not.
func readRows(rows C.uint64_t, e *C.p2p_error) ([]Row, error) {
	// What C writes to is allocated: once and not for each field.
	var (
		count      C.size_t
		name, text *C.char
		number     C.int64_t
	)
	if err := result(C.p2p_row_count(rows, &count, e), e); err != nil {
		return nil, err
	}
	read := make([]Row, count)
	for row := range read {
		read[row].fields = make([]field, 0, 20) // enough as a rule
		for index := 0; ; index++ {
			status := C.p2p_row_field(rows, C.size_t(row), C.size_t(index), &name, e)
			if status == C.P2P_ERROR_NOT_FOUND {
				break
			}
			if err := result(status, e); err != nil {
				return nil, err
			}
			if err := result(C.p2p_row_text(rows, C.size_t(row), name, &text, e), e); err != nil {
				return nil, err
			}
			field := field{name: C.GoString(name), text: C.GoString(text)}
			if C.p2p_row_int(rows, C.size_t(row), name, &number, nil) == C.P2P_OK {
				field.number, field.isNumber = int64(number), true
			}
			read[row].fields = append(read[row].fields, field)
		}
	}
	return read, nil
}
