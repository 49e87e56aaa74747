// Package e2e tests the whole with real parts: sockets, processes, a browser, and SSE clients that this project did not
// write. It has no code of its own but tests.
//
//	go test ./e2e                                     all of it, a short soak
//	TIDINGS_SOAK=60s go test -run '^TestSoak$' -v ./e2e   the soak, with its figures
//	TIDINGS_SOAK_SEED=1 ...                           with the choices of an earlier run
//	TIDINGS_FLOOD=1 go test -run '^TestAFlood' -v ./e2e  the delays of live streams under floods, compared; wants an idle machine
//
// What needs a browser, Node.js or npm's clients is skipped, and says so, where they are missing: ci/install.sh gets them.
package e2e
