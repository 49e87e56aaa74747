package tidings

// Remote is written next.
type Remote struct{ Notifier }
