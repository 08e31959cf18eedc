#!/usr/bin/env bash
# make demo: a coordinator and two providers on this machine, one real question over the whole private path.
#
#   ASK="..."        the question (default: What is the capital of France?)
#   DEMO_ONCE=1      end after the answer, with status 0
#   DEMO_PORT=8080   where the coordinator listens
set -euo pipefail

bin=$(cd "${1:?usage: demo.sh BIN_FOLDER}" && pwd)
top=$(cd "$(dirname "$0")/.." && pwd)
port=${DEMO_PORT:-8080}
ask=${ASK:-What is the capital of France?}
model=smollm2-135m
gguf=$top/build/deps/models/SmolLM2-135M-Instruct.Q4_1.gguf
url=http://127.0.0.1:$port

bold() { printf '\033[1m%s\033[0m\n' "$*"; }
step() { printf '\033[1m==>\033[0m %s\n' "$*"; }
die() { printf '\ndemo: %s\n' "$*" >&2; exit 1; }

folder=$(mktemp -d "${TMPDIR:-/tmp}/darkbloom-demo.XXXXXX")
pids=()
stop() {
	trap - EXIT INT TERM
	for pid in "${pids[@]:-}"; do [ -n "$pid" ] && kill "$pid" 2>/dev/null || true; done
	for pid in "${pids[@]:-}"; do [ -n "$pid" ] && wait "$pid" 2>/dev/null || true; done
	rm -rf "$folder"
}
trap stop EXIT
trap 'stop; exit 0' INT TERM

[ -f "$gguf" ] || die "the model is missing: run \`make deps\`, then \`make demo\` again"
if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
	die "port $port is in use: stop what listens there, or choose another with \`make demo DEMO_PORT=8090\`"
fi

alive() { kill -0 "$1" 2>/dev/null || { tail -n 15 "$2" >&2; die "$3 stopped; its last lines are above"; }; }
wait_for() { # wait_for SECONDS PID LOG NAME COMMAND...
	local tries=$(($1 * 10)) pid=$2 log=$3 name=$4
	shift 4
	until "$@" >/dev/null 2>&1; do
		alive "$pid" "$log" "$name"
		tries=$((tries - 1))
		[ "$tries" -gt 0 ] || { tail -n 15 "$log" >&2; die "$name did not get ready; its last lines are above"; }
		sleep 0.1
	done
}
api() { curl -sS --max-time 10 -H "Authorization: Bearer $(cat "$folder/key")" "$url$1"; }

step "starting the coordinator on $url (trust floor: self_signed, because this machine has no Secure Enclave)"
cat >"$folder/coordinator.toml" <<TOML
[server]
port = $port
[data]
dir = "$folder/coordinator"
[trust]
min_trust = "self_signed"
TOML
"$bin/darkbloom-coordinator" serve --config "$folder/coordinator.toml" --key-file "$folder/key" >"$folder/coordinator.log" 2>&1 &
pids+=($!)
coordinator=$!
wait_for 10 "$coordinator" "$folder/coordinator.log" "the coordinator" curl -fsS "$url/health"
export DARKBLOOM_API_KEY
DARKBLOOM_API_KEY=$(cat "$folder/key")

step "linking the model"
"$bin/darkbloom" models pull "$gguf" --id "$model" --models-dir "$folder/models" >/dev/null 2>"$folder/pull.log" ||
	{ tail -n 3 "$folder/pull.log" >&2; die "the model could not be linked"; }

for n in 1 2; do
	step "starting provider $n"
	"$bin/darkbloom" start --foreground --coordinator-url "ws://127.0.0.1:$port" --model "$model" --models-dir "$folder/models" \
		--state-dir "$folder/provider$n" >"$folder/provider$n.log" 2>&1 &
	pids+=($!)
done
ready() { api /v1/models | grep -q '"routable_providers":2'; }
wait_for 60 "${pids[2]}" "$folder/provider2.log" "a provider" ready

echo
bold "$ask"
"$bin/darkbloom" chat --url "$url" --model "$model" --system "You are a helpful assistant." --temperature 0 --max-tokens 200 --json-stats "$ask" 2>"$folder/stats" ||
	{ cat "$folder/stats" >&2; die "no answer came"; }

"$bin/darkbloom-coordinator" ledger show --config "$folder/coordinator.toml" --latest >"$folder/ledger.json" 2>/dev/null || echo '{}' >"$folder/ledger.json"
api /v1/providers/attestation >"$folder/attestation.json"
api /v1/payments/usage >"$folder/usage.json"
api /v1/payments/balance >"$folder/balance.json"
echo
python3 "$top/scripts/demo_report.py" "$folder" "$url" "$model"

if [ -n "${DEMO_ONCE:-}" ]; then
	exit 0
fi
echo
echo "Serving until Ctrl-C. Talk to it: DARKBLOOM_API_KEY=$(cat "$folder/key") $bin/darkbloom chat --url $url"
while true; do
	for pid in "${pids[@]}"; do alive "$pid" "$folder/coordinator.log" "a process of the demo"; done
	sleep 1
done
