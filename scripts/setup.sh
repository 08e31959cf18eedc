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
# For secrets that a TPM seals: the headers, and a TPM in software for the tests. Without them the program is built without, and
# those tests are skipped.
extras=(libtss2-dev swtpm)
tried=${DARKBLOOM_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/darkbloom}/no-tpm-packages

missing_of() {
	local package
	for package in "$@"; do
		dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || echo "$package"
	done
}
mapfile -t missing < <(missing_of "${packages[@]}")
mapfile -t wanted < <(missing_of "${extras[@]}")
[ -e "$tried" ] && wanted=()
[ ${#missing[@]} -eq 0 ] && [ ${#wanted[@]} -eq 0 ] && exit 0

printf '\033[1m==>\033[0m installing %s\n' "${missing[*]} ${wanted[*]}" >&2
root=()
if [ "$(id -u)" -ne 0 ]; then
	root=(sudo)
	if [ ${#missing[@]} -gt 0 ]; then
		command -v sudo >/dev/null || die "these packages are missing and there is no sudo: run as root: apt-get install ${missing[*]}"
	else
		root=(sudo -n) # nobody is asked for a password because of what is not needed
	fi
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
install() { "${root[@]}" apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "$@"; }
if [ ${#missing[@]} -gt 0 ]; then
	{ "${root[@]}" apt-get update && install "${missing[@]}"; } >"$log" 2>&1 ||
		{ tail -n 20 "$log" >&2; die "apt-get could not install the packages: check the network connection, then run the same command again"; }
fi
if [ ${#wanted[@]} -gt 0 ]; then
	{ install "${wanted[@]}" || { "${root[@]}" apt-get update && install "${wanted[@]}"; }; } >"$log" 2>&1 || {
		{ mkdir -p "$(dirname "$tried")" && touch "$tried"; } || true # then it is tried again next time
		printf 'setup: %s could not be installed: built without the TPM, its tests are skipped (remove %s to try again)\n' "${wanted[*]}" "$tried" >&2
	}
fi
rm -f "$log"
