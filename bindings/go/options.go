package p2pmount

import (
	"fmt"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Options are options by name, for a node, mount or queue:
//
//	p2pmount.Options{"network": "local", "open.timeout": 5 * time.Second, "transports": []string{"quic"}}
//
// The manual has them all; what is not given has the library's default. A value is a bool, a whole number, a string, a
// [time.Duration] (to the millisecond, rounded up), anything with a method String, or a slice of these; bytes are text. nil
// is as good as not given. Calls take any number of Options; of options of the same name the last holds.
type Options map[string]any

// Option is a single option, for calls that need only one or two.
func Option(name string, value any) Options { return Options{name: value} }

// setting is an option as the library takes it.
type setting struct{ name, text string }

// settingsOf gives the options in the order of their names, so that of several mistakes always the same is reported.
func settingsOf(all []Options) ([]setting, error) {
	values := map[string]any{}
	for _, opts := range all {
		for name, value := range opts {
			values[name] = value
		}
	}
	var settings []setting
	for name, value := range values {
		if value != nil {
			settings = append(settings, setting{name: name})
		}
	}
	sort.Slice(settings, func(a, b int) bool { return settings[a].name < settings[b].name })
	for at := range settings {
		text, err := optionText(settings[at].name, values[settings[at].name])
		if err != nil {
			return nil, err
		}
		settings[at].text = text
	}
	return settings, nil
}

// optionText writes a value as the library reads it.
func optionText(name string, value any) (string, error) {
	switch value := value.(type) {
	case string:
		return value, nil
	case time.Duration:
		ms := value / time.Millisecond
		if value%time.Millisecond > 0 {
			ms++
		}
		return strconv.FormatInt(int64(ms), 10) + "ms", nil
	}
	of := reflect.ValueOf(value)
	if stringer, ok := value.(fmt.Stringer); ok && !(of.Kind() == reflect.Pointer && of.IsNil()) {
		return stringer.String(), nil
	}
	switch of.Kind() {
	case reflect.Bool:
		return strconv.FormatBool(of.Bool()), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.FormatInt(of.Int(), 10), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return strconv.FormatUint(of.Uint(), 10), nil
	case reflect.String:
		return of.String(), nil
	case reflect.Slice, reflect.Array:
		if of.Type().Elem() == reflect.TypeOf(byte(0)) {
			text := make([]byte, of.Len())
			reflect.Copy(reflect.ValueOf(text), of)
			return string(text), nil
		}
		texts := make([]string, of.Len())
		for at := range texts {
			text, err := optionText(name, of.Index(at).Interface())
			if err != nil {
				return "", err
			}
			texts[at] = text
		}
		return strings.Join(texts, ","), nil
	}
	return "", &Error{Code: ErrBadOption, Message: fmt.Sprintf(
		"option %s cannot be a %T; it is given as a bool, whole number, string, time.Duration or a slice of these", name, value)}
}

// Setting is an option in force, as Get tells it.
type Setting struct {
	Row
	// Name is the option's name.
	Name string `p2p:"name"`
	// Value is the value in force.
	Value string `p2p:"value"`
	// Source says where it came from: default, environment, options or set.
	Source string `p2p:"source"`
}

func setText(handle uint64, name string, value any) error {
	if value == nil {
		return &Error{Code: ErrBadOption, Message: "option " + name + " cannot be set to nil; give the value it is to have"}
	}
	text, err := optionText(name, value)
	if err != nil {
		return err
	}
	return set(handle, name, text)
}

func getSetting(handle uint64, name string) (Setting, error) {
	rows, err := get(handle, name)
	if err != nil {
		return Setting{}, err
	}
	return typed[Setting](rows[0]), nil
}

// Set changes an option of the process that may be changed in use, for example the log:
//
//	p2pmount.Set("log.fd", 2)
//	p2pmount.Set("log.level", "info")
func Set(name string, value any) error {
	if err := checkLibrary(); err != nil {
		return err
	}
	return setText(0, name, value)
}

// Get tells the value of an option of the process.
func Get(name string) (Setting, error) {
	if err := checkLibrary(); err != nil {
		return Setting{}, err
	}
	return getSetting(0, name)
}

// The formats of ExportKey, named as by ipfs key export.
const (
	// KeyProtobuf is how the option identity.file makes a file.
	KeyProtobuf = "libp2p-protobuf-cleartext"
	// KeyPKCS8 is PKCS #8 in PEM, which other programs read, too.
	KeyPKCS8 = "pem-pkcs8-cleartext"
	// KeyBase64 is how Kubo's configuration has it.
	KeyBase64 = "base64"
)

// ExportKey writes the private key in identityFile, in any form that the option identity.file takes, to the new file
// destination, which is its owner's alone. No file is ever overwritten.
func ExportKey(identityFile, format, destination string) error {
	if err := checkLibrary(); err != nil {
		return err
	}
	return keyExport(identityFile, format, destination)
}
