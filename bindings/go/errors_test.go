package p2pmount

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"syscall"
	"testing"
)

func number(name string, value int64) field {
	return field{name: name, number: value, isNumber: true}
}

func TestTheErrorOfAnEventHasEverythingThatTheEventSays(t *testing.T) {
	row := Row{[]field{number("code", 20), {name: "message", text: "no"}, number("system_error", int64(syscall.EACCES)), number("flags", 3)}}
	err := rowError(row)
	var failed *Error
	if !errors.As(err, &failed) || failed.Error() != "no" || !failed.Temporary() || !failed.Timeout() {
		t.Errorf("%#v", err)
	}
	for _, kind := range []error{ErrSystem, syscall.EACCES, fs.ErrPermission} {
		if !errors.Is(err, kind) {
			t.Errorf("%v is not %v", err, kind)
		}
	}
	if err := rowError(Row{[]field{number("code", 0), {name: "message"}}}); err != nil {
		t.Errorf("success is the error %v", err)
	}
	// An older library says less.
	if err := rowError(Row{[]field{number("code", 17), {name: "message", text: "full"}}}); !errors.Is(err, ErrLimit) {
		t.Errorf("%v", err)
	}
}

// A newer library has kinds that this package does not know.
func TestAnEventOfAnUnknownKindSaysWhatItIs(t *testing.T) {
	event := typed[Event](Row{[]field{{name: "kind", text: "comet"}, number("event", 1<<20), {name: "tail", text: "long"}}})
	if tail, _ := event.Text("tail"); event.Name != "comet" || event.Kind != 1<<20 || event.Kind.String() != "1048576" || tail != "long" {
		t.Errorf("%+v", event)
	}
}

func TestErrorsAreOnlyWhatTheyAre(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	kinds := []error{
		ErrClosed, ErrBadHandle, ErrCancelled, ErrTimedOut, ErrLimit, net.ErrClosed, os.ErrClosed, context.Canceled,
		context.DeadlineExceeded, syscall.EACCES,
	}
	for _, test := range []struct {
		err error
		is  []error
	}{
		{&Error{Code: ErrClosed}, []error{ErrClosed, net.ErrClosed, os.ErrClosed}},
		{&Error{Code: ErrBadHandle}, []error{ErrClosed, ErrBadHandle, net.ErrClosed, os.ErrClosed}},
		{&Error{Code: ErrLimit}, []error{ErrLimit}},
		{&Error{Code: ErrSystem, SystemError: syscall.EACCES}, []error{syscall.EACCES}},
		{contextError(ctx, "enough"), []error{ErrCancelled, context.Canceled}},
	} {
		for _, kind := range kinds {
			want := false
			for _, is := range test.is {
				want = want || is == kind
			}
			if errors.Is(test.err, kind) != want {
				t.Errorf("%#v is %v: %v", test.err, kind, !want)
			}
		}
	}
}
