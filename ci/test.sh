#!/usr/bin/env bash
# Runs everything that has to pass before a change is merged: installs what the
# tests need and is missing, lints, and runs the tests with the race detector.
#
#   ci/test.sh [go test flags and packages]     packages default to ./...
#
# What was skipped is listed at the end with what would make it run. With CI=true
# a skipped test fails the run: there everything is installed, so it is a mistake.
# TEST_FORMAT=testname, or another of gotestsum's formats, shows more.
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -gt 0 ] || set -- ./...

if ! ci/install.sh </dev/null; then
	if [ "${CI:-}" = true ]; then exit 1; fi
	echo "ci/test.sh: going on without what is missing" >&2
fi

ci/lint.sh --quick

race=(-race)
if [ "$(go env GOOS)" = linux ] && [ "$(go env CGO_ENABLED)" != 1 ]; then
	race=()
	echo "ci/test.sh: NO RACE DETECTOR: there is no C compiler; ci/install.sh says how to get one" >&2
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT

# -shuffle also keeps go test from answering out of its cache.
go tool gotestsum --format "${TEST_FORMAT:-pkgname}" --format-hide-empty-pkg --jsonfile "$log" -- \
	"${race[@]}" -shuffle=on -timeout 9m "$@"

# bench is a module of its own. Its tests run what "make bench" runs, with tiny sizes.
if [ "$*" = ./... ] && [ "$(go env GOOS)" = linux ]; then
	(cd bench && go test -count=1 -timeout 5m ./...)
fi

if [ "${CI:-}" = true ] && grep '"Action":"skip"' "$log" | grep '"Test":'; then
	echo "ci/test.sh: FAIL: these tests were skipped, and with CI=true none may be" >&2
	exit 1
fi
