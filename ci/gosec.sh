#!/usr/bin/env bash
# Looks for patterns of code that are often a mistake in security.
#
#   ci/gosec.sh [packages]     packages default to ./...
#
# gosec is a tool of a module of its own, ci/gosec: it brings much that nothing
# else here needs. What is left out, and why, stands below; a single place is
# left out beside it, with a "#nosec" and its reason.
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -gt 0 ] || set -- ./...

exclude=(
	G104 # an error that is not looked at: "_ =" says so, and staticcheck and vet look for others
	G115 # a number that is converted to one of fewer bits: it reports each, whatever bounds it
	G404 # math/rand: it jitters times and tags records; ids, keys and secrets are made by crypto/rand
	G103 # unsafe: none is used; x/sys is where it would be
	G304 # a file whose name is a variable: the one who runs the program names it
	G602 # an index out of range: it doesn't see that two slices are of one length
	G307 # a deferred Close whose error is not looked at: what was read is read
)
list=$(IFS=, && echo "${exclude[*]}")
gosec=$(go tool -modfile=ci/gosec/go.mod -n gosec)
exec "$gosec" -quiet -exclude="$list" -exclude-dir=bench -exclude-dir=internal/load "$@"
