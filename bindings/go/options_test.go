package p2pmount

import (
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

type (
	ownString string
	ownByte   byte
)

func TestOptionValuesBecomeTheTextThatTheLibraryReads(t *testing.T) {
	for _, test := range []struct {
		value any
		text  string
	}{
		{"tcp,quic", "tcp,quic"}, {"", ""}, {ownString("quic"), "quic"},
		{true, "true"}, {false, "false"},
		{7, "7"}, {int64(-1), "-1"}, {uint16(65535), "65535"}, {uint64(1) << 63, "9223372036854775808"},
		{1500 * time.Millisecond, "1500ms"}, {2 * time.Hour, "7200000ms"}, {time.Duration(0), "0ms"},
		{time.Nanosecond, "1ms"}, {1500 * time.Microsecond, "2ms"}, {-time.Second, "-1000ms"},
		{[]string{"tcp", "quic"}, "tcp,quic"}, {[]string{}, ""}, {[2]int{1, 2}, "1,2"}, {[]any{"a", true, 3}, "a,true,3"},
		{[]byte("abc"), "abc"}, {json.RawMessage("abc"), "abc"}, {[3]byte{'a', 'b', 'c'}, "abc"}, {[]ownByte{1, 2}, "1,2"},
		{net.IPv4(127, 0, 0, 1), "127.0.0.1"}, {netip.MustParseAddrPort("127.0.0.1:80"), "127.0.0.1:80"},
	} {
		text, err := optionText("x", test.value)
		if err != nil || text != test.text {
			t.Errorf("%#v became %q, %v; expected %q", test.value, text, err, test.text)
		}
	}
	for _, value := range []any{1.5, struct{}{}, map[string]string{}, []any{1.5}, (*netip.Addr)(nil), new(int)} {
		_, err := optionText("open.timeout", value)
		if !errors.Is(err, ErrBadOption) || !strings.Contains(err.Error(), "open.timeout") {
			t.Errorf("%#v was not refused by name: %v", value, err)
		}
	}
}

func TestTheLastOfSeveralOptionsHoldsAndNilIsNotGiven(t *testing.T) {
	settings, err := settingsOf([]Options{{"b": 1, "a": 1, "c": nil}, Option("b", 2), nil})
	if err != nil || len(settings) != 2 || settings[0] != (setting{"a", "1"}) || settings[1] != (setting{"b", "2"}) {
		t.Errorf("%v, %v", settings, err)
	}
}
