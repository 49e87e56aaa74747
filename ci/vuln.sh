#!/usr/bin/env bash
# Looks for known vulnerabilities in what the code calls.
#
#   ci/vuln.sh [packages]     packages default to ./...
#
#   GOVULNDB=URL        the database; https://vuln.go.dev by default, or
#                       file:///path of a copy of it
#   VULN_REQUIRED=1     fail, too, where the default database can't be reached
#
# It exits 0 without having looked in one case only: the default database can't
# be reached and VULN_REQUIRED is not set. A finding, or any other error, fails.
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -gt 0 ] || set -- ./...
db=${GOVULNDB:-https://vuln.go.dev}

# govulncheck takes any directory for a database, and finds nothing in it.
if [[ $db == file://* ]] && ! compgen -G "${db#file://}/index/modules.json*" >/dev/null; then
	echo "ci/vuln.sh: GOVULNDB=$db is not a vulnerability database: it has no index/modules.json" >&2
	exit 1
fi

errors=$(mktemp)
trap 'rm -f "$errors"' EXIT

status=0
go tool govulncheck -db "$db" "$@" 2>"$errors" || status=$?
cat "$errors" >&2

# What govulncheck prints when the request itself failed: no such host, no route,
# connection refused, a proxy in the way. An answer with an error status, or one
# that can't be read, is worded otherwise and fails.
if [ "$status" = 1 ] && [ -z "${GOVULNDB:-}" ] && [ "${VULN_REQUIRED:-0}" != 1 ] &&
	grep -q "^govulncheck: fetching vulnerabilities: Get \"$db/" "$errors"; then
	cat >&2 <<-END

		*** NOT CHECKED FOR VULNERABILITIES ***
		The database at $db can't be reached from this machine.
		To run the check: allow the network to that host, or set
		GOVULNDB=file:///path/to/a/copy/of/the/database

	END
	exit 0
fi
exit "$status"
