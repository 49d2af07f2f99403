package p2pmount

// MountsCloser closes mounts by their numbers, without a reference to their nodes.
func MountsCloser(listener *Listener, forward *Forward) func() {
	handles := []uint64{listener.handle, forward.handle}
	return func() {
		for _, handle := range handles {
			_ = mountClose(handle, 0)
		}
	}
}
