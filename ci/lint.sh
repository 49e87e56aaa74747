#!/usr/bin/env bash
# Checks what can be checked without running the code.
#
#   ci/lint.sh [--quick] [packages]     packages default to ./...
#
# --quick, which ci/test.sh uses, stops after gofmt, go vet and staticcheck.
# Without it, go.mod and the shell scripts are checked as well, and the code is
# type-checked for the systems that this machine is not.
set -euo pipefail
cd "$(dirname "$0")/.."

quick=0
if [ "${1:-}" = --quick ]; then
	quick=1
	shift
fi
[ $# -gt 0 ] || set -- ./...

say() { echo "ci/lint.sh: $*" >&2; }

say "gofmt"
unformatted=$(gofmt -l .)
if [ -n "$unformatted" ]; then
	say "these files need 'gofmt -w':"
	echo "$unformatted" >&2
	exit 1
fi

say "go vet"
go vet "$@"

say "staticcheck"
go tool staticcheck "$@"

# bench is a module of its own, and for Linux only. Its tools are this module's.
if [ "$(go env GOOS)" = linux ]; then
	say "go vet and staticcheck in bench"
	staticcheck=$(go tool -n staticcheck)
	(cd bench && go vet ./... && "$staticcheck" ./...)
else
	say "SKIPPED: bench was not checked, because it is for Linux only"
fi

if [ "$quick" = 1 ]; then exit 0; fi

say "go mod tidy -diff"
go mod tidy -diff
(cd bench && go mod tidy -diff)

if command -v shellcheck >/dev/null 2>&1; then
	say "shellcheck"
	shellcheck ci/*.sh .ci/run
else
	say "SKIPPED: shellcheck is not installed, so the shell scripts were not checked"
fi

for os in linux darwin windows; do
	[ "$os" != "$(go env GOHOSTOS)" ] || continue
	say "go vet for $os"
	GOOS=$os CGO_ENABLED=0 go vet "$@"
done
