#!/usr/bin/env bash
# A PostgreSQL server of a test's own, in a temporary folder, reached over a socket in it and as durable as a real one.
# usage: tests/postgres.sh [--no-fsync]
# --no-fsync waits for no disk: what was committed survives any kill of the server, as the system has it, but no loss of power.
# Says `ready ADDRESS`, then follows the words it reads, one a line:
#   crash   kill -9 the server and all its processes, then say `crashed`
#   start   start it again on what is left, then say `ready ADDRESS`
#   freeze  let all its processes stand still, connected as they are, then say `frozen`; `thaw` lets them go on, then says `thawed`
#   stop    stop it in order, then say `stopped`
#   sql S   run the SQL S, then say `done`
# It ends, and leaves nothing behind, when its standard input does: so no test can forget it.
set -euo pipefail
fsync=on
[ "${1:-}" != --no-fsync ] || fsync=off
die() { printf 'postgres.sh: %s\n' "$*" >&2; exit 3; }

bin=
for place in "${DARKBLOOM_POSTGRES_BIN:-}" /usr/lib/postgresql/*/bin /opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin; do
	[ -x "$place/initdb" ] && bin=$place
done
[ -n "$bin" ] || { command -v initdb >/dev/null && bin=$(dirname "$(command -v initdb)"); } || die "PostgreSQL is not installed: run make setup"

folder=$(mktemp -d "${TMPDIR:-/tmp}/db_pg_XXXXXX")
as=()
if [ "$(id -u)" -eq 0 ]; then # initdb refuses root
	user=nobody
	getent passwd postgres >/dev/null 2>&1 && user=postgres
	chown "$user" "$folder"
	as=(setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups)
	command -v setpriv >/dev/null || as=(runuser -u "$user" --)
fi
address="postgres://test@/test?host=$(printf '%s' "$folder" | sed 's|/|%2F|g')&sslmode=disable"

server=
launch() {
	(cd "$folder" && exec "${as[@]}" "$bin/postgres" -D "$folder/data" -k "$folder" -c listen_addresses= -c max_connections=60 \
		-c shared_buffers=64MB -c "fsync=$fsync" -c full_page_writes=on -c max_wal_size=512MB) </dev/null >>"$folder/log" 2>&1 &
	server=$!
}
start() {
	local tries=20
	launch
	for _ in $(seq 600); do
		"$bin/pg_isready" -q -h "$folder" && { echo "ready $address"; return; }
		if ! kill -0 "$server" 2>/dev/null; then # a process of the killed one may be there for a moment, and have its memory
			[ $((tries -= 1)) -gt 0 ] || { cat "$folder/log" >&2; die "the server did not start"; }
			launch
		fi
		sleep 0.05
	done
	die "the server is not ready after 30 s"
}
children() { ps -o pid= --ppid "$server" 2>/dev/null || pgrep -P "$server" || true; }
crash() {
	[ -n "$server" ] || return 0
	local all # what it starts between this and its end, ends by itself
	all=$(children)
	# shellcheck disable=SC2086
	kill -KILL "$server" $all 2>/dev/null || true
	wait "$server" 2>/dev/null || true
	server=
}
freeze() {
	kill -STOP "$server" # first: it starts no more of them
	# shellcheck disable=SC2046
	kill -STOP $(children)
}
thaw() {
	# shellcheck disable=SC2046
	kill -CONT $(children) "$server"
}
finish() {
	trap '' INT TERM HUP # nothing keeps it from ending what it started
	crash
	rm -rf "$folder"
}
trap finish EXIT
trap 'exit 1' INT TERM HUP

"${as[@]}" "$bin/initdb" -D "$folder/data" -U test -A trust -E UTF8 --no-locale --no-instructions -N >"$folder/initdb" 2>&1 ||
	{ cat "$folder/initdb" >&2; die "initdb failed"; }
start >/dev/null
"$bin/createdb" -h "$folder" -U test test
echo "ready $address"
while read -r word rest; do
	case $word in
	crash) crash && echo crashed ;;
	start) start ;;
	freeze) freeze && echo frozen ;;
	thaw) thaw && echo thawed ;;
	stop) kill -INT "$server" && wait "$server" 2>/dev/null || true; server=; echo stopped ;;
	sql) "$bin/psql" -q -X -v ON_ERROR_STOP=1 -d "$address" -c "$rest" >/dev/null && echo "done" ;;
	*) die "unknown word: $word" ;;
	esac
done
