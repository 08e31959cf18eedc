#!/usr/bin/env bash
# The Python and Node packages the tests use, each kept in the cache by the hash of its list. build/venv links to the Python
# environment (which has node and npm too), tests/node/node_modules to the Node packages.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
cache=${DARKBLOOM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/darkbloom}
hash_of() { { sha256sum 2>/dev/null || shasum -a 256; } | cut -c1-16; }
step() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

venv=$cache/venv-$({ cat "$top/tests/requirements.txt"; python3 --version; } | hash_of)
if [ ! -f "$venv/.complete" ]; then
	step "installing the Python packages of the tests"
	rm -rf "$venv"
	python3 -m venv "$venv"
	"$venv/bin/pip" install --quiet --disable-pip-version-check -r "$top/tests/requirements.txt" ||
		die "the Python packages could not be installed: check the network connection and run the same command again"
	touch "$venv/.complete"
fi
mkdir -p "$top/build"
ln -sfn "$venv" "$top/build/venv"

node=$cache/node-$({ cat "$top/tests/node/package.json"; "$venv/bin/node" --version; } | hash_of)
if [ ! -f "$node/.complete" ]; then
	step "installing the Node packages of the tests"
	rm -rf "$node"
	mkdir -p "$node"
	cp "$top/tests/node/package.json" "$node/"
	log=$(mktemp)
	(cd "$node" && PATH=$venv/bin:$PATH npm install --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel=error) >"$log" 2>&1 ||
		{ tail -n 20 "$log" >&2; die "the Node packages could not be installed: check the network connection and run the same command again"; }
	rm -f "$log"
	touch "$node/.complete"
fi
ln -sfn "$node/node_modules" "$top/tests/node/node_modules"

# Stripe's own stripe-mock, which checks requests and answers against Stripe's description of its API. Without Go, or without
# the module, the tests that need it say so.
mock_version=v0.197.0
mock=$cache/stripe-mock-$mock_version
if [ ! -x "$mock/stripe-mock" ] && command -v go >/dev/null; then
	step "building stripe-mock $mock_version"
	mkdir -p "$mock"
	GOBIN=$mock GOFLAGS=-mod=mod go install "github.com/stripe/stripe-mock@$mock_version" >"$mock/log" 2>&1 ||
		{ tail -n 5 "$mock/log" >&2; printf 'setup: stripe-mock could not be built: tests/e2e/test_stripe_shapes.py is skipped\n' >&2; }
fi
if [ -x "$mock/stripe-mock" ]; then
	ln -sfn "$mock/stripe-mock" "$top/build/stripe-mock"
fi
