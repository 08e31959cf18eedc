#!/usr/bin/env bash
# Installs the system packages that are missing. Asks for root through sudo only when something is.
set -euo pipefail

die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

if [ "$(uname)" = Darwin ]; then
	command -v brew >/dev/null || die "Homebrew is missing: install it from its home page, then run the same command again"
	packages=(cmake ninja pkgconf ccache clang-format libuv libnghttp2 openssl@3 libsodium sqlite curl cmocka libpq postgresql@16 python@3)
	missing=()
	for package in "${packages[@]}"; do brew list --versions "$package" >/dev/null 2>&1 || missing+=("$package"); done
	[ ${#missing[@]} -eq 0 ] || brew install "${missing[@]}"
	exit 0
fi

command -v apt-get >/dev/null || die "this system has neither apt nor Homebrew: install the libraries that CONTRIBUTING.md lists by hand"
packages=(build-essential cmake ninja-build pkg-config git ccache clang clang-format libclang-rt-14-dev
	libuv1-dev libnghttp2-dev libssl-dev libsodium-dev libsqlite3-dev libpq-dev libcurl4-openssl-dev libcmocka-dev
	postgresql
	python3 python3-venv python3-pip nghttp2-client curl sqlite3 gdb ca-certificates)
missing=()
for package in "${packages[@]}"; do
	dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

printf '\033[1m==>\033[0m installing %s\n' "${missing[*]}" >&2
root=()
if [ "$(id -u)" -ne 0 ]; then
	command -v sudo >/dev/null || die "these packages are missing and there is no sudo: run as root: apt-get install ${missing[*]}"
	root=(sudo)
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
{ "${root[@]}" apt-get update && "${root[@]}" apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 ||
	{ tail -n 20 "$log" >&2; die "apt-get could not install the packages: check the network connection, then run the same command again"; }
rm -f "$log"
