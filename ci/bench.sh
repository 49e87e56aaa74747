#!/usr/bin/env bash
# Compares Tidings with others, in one run, and writes docs/benchmarks.md.
#
#   ci/bench.sh              everything; it takes about 25 minutes
#   QUICK=1 ci/bench.sh      everything with small sizes, to see that it works
#   ONLY=burst,idle          some scenarios: idle paced burst unicast mixed storm scale stalled flood
#   CONTENDERS=tidings,floor some servers
#   DOCS=DIR                 where to write the page; "docs", or nowhere with QUICK, ONLY or CONTENDERS
#
# It installs nginx with Nchan where it is missing (Debian, as root or through sudo);
# where that or a C compiler can't be had, it says what is left out. It runs in a
# network namespace of its own where it may: the ports of the last run, which the
# kernel keeps for a minute, are not in the way of this one.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "ci/bench.sh: $*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }

apt() {
	local as=()
	have apt-get || return 1
	if [ "$(id -u)" != 0 ]; then
		have sudo || return 1
		as=(sudo -n)
	fi
	as+=(env DEBIAN_FRONTEND=noninteractive)
	say "installing $* with apt-get"
	"${as[@]}" apt-get install -q -y --no-install-recommends "$@" </dev/null >&2 ||
		{ "${as[@]}" apt-get update -q </dev/null >&2 &&
			"${as[@]}" apt-get install -q -y --no-install-recommends "$@" </dev/null >&2; }
}

if [ "$(go env GOOS)" != linux ]; then
	say "the benchmark reads what servers use from /proc, so it runs on Linux only"
	exit 1
fi
if ! compgen -G '/usr/lib*/nginx/modules/ngx_nchan_module.so' >/dev/null; then
	apt nginx-light libnginx-mod-nchan || say "nginx with Nchan could not be installed"
fi
have cc || apt gcc libc6-dev || say "a C compiler could not be installed"
have ss || apt iproute2 || say "ss (iproute2) could not be installed"

bin=$PWD/bin/bench
mkdir -p "$bin"
rm -f "$bin/floor"
go build -o "$bin/tidings" ./cmd/tidings
(cd bench && go build -o "$bin/" ./cmd/bench ./cmd/benchserver)
if have cc; then cc -O2 -Wall -o "$bin/floor" bench/floor/floor.c; fi

commit=$(git describe --always --dirty 2>/dev/null || true)
args=(-bin "$bin" -commit "$commit" -only "${ONLY:-}" -contenders "${CONTENDERS:-}")
docs=${DOCS-docs}
if [ -n "${QUICK:-}" ] && [ "${QUICK:-}" != 0 ]; then args+=(-quick); fi
if [ -z "${DOCS:-}" ] && [ -n "${QUICK:-}${ONLY:-}${CONTENDERS:-}" ]; then docs=; fi
args+=(-docs "$docs")

unshare=(unshare --net)
[ "$(id -u)" = 0 ] || unshare=(unshare --net --map-root-user)
if have unshare && have ip && "${unshare[@]}" ip link set lo up 2>/dev/null; then
	exec "${unshare[@]}" sh -c 'ip link set lo up && exec "$@"' sh "$bin/bench" "${args[@]}"
fi
say "no network namespace of its own: see unshare(1). Going on without; wait a minute between two runs"
exec "$bin/bench" "${args[@]}"
