//go:build race

package tidings_test

// burst is how many events a burst has. The race detector makes each of them about 15 times as expensive.
const burst = 3000
