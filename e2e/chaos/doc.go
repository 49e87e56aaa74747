// Package chaos tests that nothing is lost when things break: servers of NATS and nodes of Tidings, as processes, are
// killed, paused and cut off, under load, and what clients got is held against what was acknowledged. It has no code of its
// own but tests.
//
//	go test ./e2e/chaos                    the short form
//	TIDINGS_CHAOS=full go test -v ./e2e/chaos   each server and each node in turn, twice: "make chaos"
package chaos
