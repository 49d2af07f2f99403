//go:build !cgo

package p2pmount

// This package is made with cgo: set CGO_ENABLED=1 and have a C compiler.
var _ = p2pmount_needs_cgo_set_CGO_ENABLED_1_and_have_a_C_compiler
