#!/usr/bin/env bash
# Installs what the tests need and this machine lacks, and nothing else:
#
#   a C compiler   go test -race needs one on Linux
#   chromium       the browser tests drive it (any Chrome or Chromium on PATH will do)
#   nginx          the configuration in deploy/ is run as it stands there
#   curl           the commands in the documents are run as they stand there
#   node and npm   the tests of npm's SSE clients run under them
#   those clients  from e2e/node/package-lock.json
#
# System packages come from apt-get, as root or through sudo. Where that cannot
# be done, it says what is missing and exits 1; ci/test.sh then goes on without,
# except where CI=true.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=0

# miss reports something that is needed and could not be installed.
miss() {
	missing=1
	echo "ci/install.sh: MISSING: $*" >&2
}

have() { command -v "$1" >/dev/null 2>&1; }

# any reports whether one of the given commands is on PATH.
any() {
	local c
	for c; do
		if have "$c"; then return 0; fi
	done
	return 1
}

updated=0

# apt installs Debian packages. It fails where there is no apt-get, no root and
# no sudo. sudo asks for a password only when a person runs this script in a
# terminal: in the middle of "make test" nobody expects the question.
apt() {
	local as=()
	have apt-get || return 1
	if [ "$(id -u)" != 0 ]; then
		have sudo || return 1
		as=(sudo)
		[ -t 0 ] || as=(sudo -n)
	fi
	as+=(env DEBIAN_FRONTEND=noninteractive)
	echo "ci/install.sh: installing $* with apt-get" >&2
	if [ "$updated" = 0 ]; then
		"${as[@]}" apt-get update -q </dev/null || return 1
		updated=1
	fi
	"${as[@]}" apt-get install -q -y --no-install-recommends "$@" </dev/null
}

can_race() { [ "$(go env GOOS)" != linux ] || [ "$(go env CGO_ENABLED)" = 1 ]; }

has_chrome() {
	any chromium chromium-browser google-chrome google-chrome-stable headless-shell ||
		[ -d "/Applications/Google Chrome.app" ] || [ -d "/Applications/Chromium.app" ]
}

if ! have go; then
	miss "go: see https://go.dev/doc/install; go.mod names the version"
	exit 1
fi

if ! can_race; then
	apt gcc libc6-dev || true
	can_race || miss "a C compiler (gcc): without it the tests run without the race detector"
fi

if ! has_chrome; then
	apt chromium || true
	has_chrome || miss "chromium: install Chromium or Chrome and put it on PATH; until then the browser tests are skipped"
fi

if ! have nginx && ! [ -x /usr/sbin/nginx ]; then
	apt nginx-light || true
	have nginx || [ -x /usr/sbin/nginx ] || miss "nginx: install it; until then the test of deploy/nginx.conf is skipped"
fi

if ! have curl; then
	apt curl || true
	have curl || miss "curl: until it is there the tests of the documents' commands fail"
fi

if ! have node || ! have npm; then
	apt nodejs npm || true
fi
if ! have node || ! have npm; then
	miss "node and npm: install Node.js 20 or newer; until then the tests of npm's SSE clients are skipped"
elif [ -f e2e/node/package.json ]; then
	# The lock file is copied beside what was installed from it, so that a change
	# to it is noticed whatever the files' times say.
	if ! cmp -s e2e/node/package-lock.json e2e/node/node_modules/.installed-from; then
		echo "ci/install.sh: installing npm's SSE clients in e2e/node" >&2
		if (cd e2e/node && npm ci --ignore-scripts --no-audit --no-fund </dev/null); then
			cp e2e/node/package-lock.json e2e/node/node_modules/.installed-from
		else
			miss "npm's SSE clients: 'npm ci' in e2e/node failed; until it works their tests are skipped"
		fi
	fi
fi

exit "$missing"
