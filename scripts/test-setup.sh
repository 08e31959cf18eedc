#!/usr/bin/env bash
# A Python environment with the packages the tests use, kept in the cache by the hash of their list; build/venv links to it.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
cache=${DARKBLOOM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/darkbloom}
key=$({ cat "$top/tests/requirements.txt"; python3 --version; } | { sha256sum 2>/dev/null || shasum -a 256; } | cut -c1-16)
venv=$cache/venv-$key
if [ ! -f "$venv/.complete" ]; then
	printf '\033[1m==>\033[0m installing the Python packages of the tests\n' >&2
	rm -rf "$venv"
	python3 -m venv "$venv"
	"$venv/bin/pip" install --quiet --disable-pip-version-check -r "$top/tests/requirements.txt" ||
		{ echo "setup: the Python packages could not be installed: check the network connection and run the same command again" >&2; exit 1; }
	touch "$venv/.complete"
fi
mkdir -p "$top/build"
ln -sfn "$venv" "$top/build/venv"
