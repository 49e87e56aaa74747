//go:build !race

package tidings_test

// burst is how many events a burst has.
const burst = 20_000
