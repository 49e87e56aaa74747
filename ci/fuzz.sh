#!/usr/bin/env bash
# Runs each fuzz target for FUZZTIME (default 30s).
#
#   ci/fuzz.sh [packages]     packages default to ./...
#
# An input that fails is written to testdata/fuzz in the target's package. Commit
# it with the fix: from then on every "go test" runs it.
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -gt 0 ] || set -- ./...
fuzztime=${FUZZTIME:-30s}

# go test lists a package's targets first and names the package after them.
targets=$(go test -list '^Fuzz' "$@" | awk '
	/^Fuzz/    { name[n++] = $1 }
	$1 == "ok" { for (i = 0; i < n; i++) print $2, name[i]; n = 0 }')

if [ -z "$targets" ]; then
	echo "ci/fuzz.sh: there are no fuzz targets in $*" >&2
	exit 1
fi

failed=()
while read -r pkg name; do
	echo "ci/fuzz.sh: $pkg $name for $fuzztime" >&2
	go test -run "^$name\$" -fuzz "^$name\$" -fuzztime "$fuzztime" "$pkg" </dev/null || failed+=("$pkg $name")
done <<<"$targets"

if [ ${#failed[@]} -gt 0 ]; then
	echo "ci/fuzz.sh: failed; the inputs are in testdata/fuzz of these packages:" >&2
	printf '  %s\n' "${failed[@]}" >&2
	exit 1
fi
