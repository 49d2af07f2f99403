// Package packaging has only tests: that the module works the ways its users build with it, and that the manual does what
// it says.
package packaging
