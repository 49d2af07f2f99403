package p2pmount

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func headerText(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("p2pmount.h")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestCopiesAreThoseOfTheCheckout(t *testing.T) {
	for own, original := range map[string]string{
		"p2pmount.h": "include/p2pmount.h", "LICENSE-MIT": "LICENSE-MIT", "LICENSE-APACHE": "LICENSE-APACHE",
	} {
		want, err := os.ReadFile(filepath.Join("..", "..", original))
		if err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skip("skipped, missing: the checkout around this module")
		}
		have, err := os.ReadFile(own)
		if err != nil {
			t.Fatal(err)
		}
		if string(have) != string(want) {
			t.Errorf("%s differs from %s: scripts/go.sh fmt copies it", own, original)
		}
	}
}

// The values are those of the header, and the header has no others.
func TestConstantsAreThoseOfTheHeader(t *testing.T) {
	own := map[string]int64{
		"P2P_OK": int64(OK), "P2P_ERROR_INVALID_ARGUMENT": int64(ErrInvalidArgument), "P2P_ERROR_BAD_HANDLE": int64(ErrBadHandle),
		"P2P_ERROR_BAD_OPTION": int64(ErrBadOption), "P2P_ERROR_BAD_ADDRESS": int64(ErrBadAddress),
		"P2P_ERROR_BAD_PROTOCOL": int64(ErrBadProtocol), "P2P_ERROR_BAD_PEER": int64(ErrBadPeer), "P2P_ERROR_BAD_KEY": int64(ErrBadKey),
		"P2P_ERROR_ADDRESS_IN_USE": int64(ErrAddressInUse), "P2P_ERROR_ALREADY_REGISTERED": int64(ErrAlreadyRegistered),
		"P2P_ERROR_NOT_FOUND": int64(ErrNotFound), "P2P_ERROR_UNREACHABLE": int64(ErrUnreachable),
		"P2P_ERROR_PROTOCOL_REFUSED": int64(ErrProtocolRefused), "P2P_ERROR_TARGET_REFUSED": int64(ErrTargetRefused),
		"P2P_ERROR_TIMED_OUT": int64(ErrTimedOut), "P2P_ERROR_CANCELLED": int64(ErrCancelled), "P2P_ERROR_CLOSED": int64(ErrClosed),
		"P2P_ERROR_LIMIT": int64(ErrLimit), "P2P_ERROR_RESET": int64(ErrReset), "P2P_ERROR_FORKED": int64(ErrForked),
		"P2P_ERROR_SYSTEM": int64(ErrSystem), "P2P_ERROR_INTERNAL": int64(ErrInternal),
		"P2P_ERROR_FLAG_TEMPORARY": flagTemporary, "P2P_ERROR_FLAG_TIMED_OUT": flagTimedOut,
		"P2P_LIST_LISTENERS": int64(ListListeners), "P2P_LIST_FORWARDS": int64(ListForwards), "P2P_LIST_STREAMS": int64(ListStreams),
		"P2P_LIST_PEERS": int64(ListPeers), "P2P_LIST_ADDRESSES": int64(ListAddresses), "P2P_LIST_NODE": int64(ListNode),
		"P2P_LIST_OPTIONS": int64(ListOptions), "P2P_LIST_PROCESS": int64(ListProcess),
		"P2P_CLOSE_ALL": closeAll, "P2P_CLOSE_LISTENERS": closeListeners, "P2P_CLOSE_FORWARDS": closeForwards, "P2P_CLOSE_STREAMS": closeStreams,
		"P2P_EVENT_MOUNT": int64(EventMount), "P2P_EVENT_STREAM_OPENED": int64(EventStreamOpened),
		"P2P_EVENT_STREAM_CLOSED": int64(EventStreamClosed), "P2P_EVENT_TARGET_REFUSED": int64(EventTargetRefused),
		"P2P_EVENT_REFUSED": int64(EventRefused), "P2P_EVENT_PEER": int64(EventPeer), "P2P_EVENT_ADDRESS": int64(EventAddress),
		"P2P_EVENT_OPERATION": int64(EventOperation), "P2P_EVENT_NODE": int64(EventNode), "P2P_EVENT_OVERFLOW": int64(EventOverflow),
		"P2P_EVENT_ALL": int64(EventAll),
	}
	defined := regexp.MustCompile(`(?m)^#define (P2P_(?:OK|ERROR_\w+|LIST_\w+|CLOSE_\w+|EVENT_\w+)) (\d+)$`)
	for _, match := range defined.FindAllStringSubmatch(headerText(t), -1) {
		want, _ := strconv.ParseInt(match[2], 10, 64)
		have, ok := own[match[1]]
		switch {
		case !ok:
			t.Errorf("%s of the header is missing here", match[1])
		case have != want:
			t.Errorf("%s is %d in the header, %d here", match[1], want, have)
		}
		delete(own, match[1])
	}
	for name := range own {
		t.Errorf("the header has no %s", name)
	}
}

func TestCodesHaveTheNamesOfTheHeader(t *testing.T) {
	defined := regexp.MustCompile(`(?m)^#define (P2P_(?:OK|ERROR_[A-Z_]+)) (\d+)$`)
	for _, match := range defined.FindAllStringSubmatch(headerText(t), -1) {
		code, _ := strconv.Atoi(match[2])
		if name := Code(code).Name(); !strings.Contains(match[1], "_FLAG_") && name != match[1] {
			t.Errorf("code %d is called %s, in the header %s", code, name, match[1])
		}
	}
	if name := Code(9999).Name(); name != "P2P_ERROR_?" {
		t.Errorf("an unknown code is called %s", name)
	}
}

// cgo holds every call against the header's prototype; this is that none is forgotten. Left out on purpose are the blocking
// forms of calls that are made in their _start form.
func TestEveryFunctionOfTheHeaderIsUsed(t *testing.T) {
	source, err := os.ReadFile("ffi.go")
	if err != nil {
		t.Fatal(err)
	}
	replaced := map[string]string{"p2p_connect": "p2p_connect_start", "p2p_forward": "p2p_forward_start"}
	functions := regexp.MustCompile(`(?m)^(?:const char \*|p2p_status |uint32_t )(p2p_\w+)\(`).FindAllStringSubmatch(headerText(t), -1)
	if len(functions) < 30 {
		t.Fatalf("the header has more functions than the %d found", len(functions))
	}
	for _, function := range functions {
		name := function[1]
		if other, ok := replaced[name]; ok {
			name = other
		}
		if !strings.Contains(string(source), "C."+name+"(") {
			t.Errorf("%s is not used", name)
		}
	}
}
