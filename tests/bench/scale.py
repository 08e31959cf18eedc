"""One coordinator and as many simulated providers as the system has descriptors for: heartbeats every 5 s, churn, requests meanwhile,
and then all of them lost at once.

    tests/bench/run BUILD scale          SCALE_PROVIDERS (40000), SCALE_CHURN (50 sessions a second), SCALE_SECONDS (20)

The coordinator needs a descriptor for each provider: where `ulimit -Hn` is lower, as many as that allows are connected, and it is said.
The swarm spreads over 127.0.0.1, 127.0.0.2 and so on, and over several processes where one has not descriptors enough."""

import json
import os
import resource
import subprocess
import time
import urllib.request

import results
from gateway import LOAD_CORE, Coordinator

DESCRIPTORS = resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 500  # for what is not a provider
WANTED = int(os.environ.get("SCALE_PROVIDERS", "40000"))
PROVIDERS = min(WANTED, DESCRIPTORS)
CHURN = int(os.environ.get("SCALE_CHURN", "50"))
SECONDS = int(os.environ.get("SCALE_SECONDS", "20"))
HEARTBEAT_S = 5
RECONNECT_S = 5
ENOUGH = 0.97 * (PROVIDERS - CHURN * RECONNECT_S)  # some are always on their way back


def connected(coordinator):
    with urllib.request.urlopen(f"http://127.0.0.1:{coordinator.port}/metrics") as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith("darkbloom_providers "):
                return int(float(line.split()[1]))
    return 0


def wait_for(coordinator, count, what):
    begun = time.monotonic()
    while connected(coordinator) < count:
        if time.monotonic() - begun > 600:
            raise SystemExit(f"{what}: {connected(coordinator)} of {count:.0f} after 600 s")
        time.sleep(0.2)
    return time.monotonic() - begun


def cpu_share(coordinator, seconds):
    loop, process = coordinator.loop_thread_us(), coordinator.process_us()
    time.sleep(seconds)
    return (coordinator.loop_thread_us() - loop) / (seconds * 1e4), (coordinator.process_us() - process) / (seconds * 1e4)


def start_swarm(coordinator, first, count, churn):
    command = ["taskset", "-c", LOAD_CORE, coordinator.build / "bin/darkbloom-swarm", "providers", "--port", coordinator.port, "--providers", count, "--first-index", first,
               "--churn", churn, "--heartbeat-ms", HEARTBEAT_S * 1000, "--reconnect-ms", RECONNECT_S * 1000, "--chunks", 4]
    return subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def start_swarms(coordinator):
    processes = -(-PROVIDERS // DESCRIPTORS)
    each = -(-PROVIDERS // processes)
    return [start_swarm(coordinator, first, min(each, PROVIDERS - first), CHURN // processes) for first in range(0, PROVIDERS, each)]


def requests(coordinator, seconds):
    """p99 of whole answers of four chunks, of eight consumers."""
    return coordinator.swarm("load", "--clients", "8", "--client-think-us", "50000", "--seconds", seconds)


def main(build, runs):
    if PROVIDERS < WANTED:
        print(f"# {PROVIDERS} providers in place of {WANTED}: a process may open {DESCRIPTORS + 500} files here")
    coordinator = Coordinator(build)
    swarms = start_swarms(coordinator)
    try:
        results.record("scale_connect_s", "s", [wait_for(coordinator, ENOUGH, "connecting")])
        time.sleep(HEARTBEAT_S)
        loop, process = cpu_share(coordinator, SECONDS)
        count = connected(coordinator)
        results.record("scale_connected", "providers", [count])
        results.record("scale_heartbeats_per_s", "1/s", [count / HEARTBEAT_S])
        results.record("scale_loop_cpu_pct", "%", [loop])
        results.record("scale_process_cpu_pct", "%", [process])
        results.record("scale_kb_per_provider", "KiB", [coordinator.rss_kb() / max(1, count)])
        answer = requests(coordinator, SECONDS)
        results.record("scale_request_p50_ms", "ms", [answer["latency_us"]["p50"] / 1000])
        results.record("scale_request_p99_ms", "ms", [answer["latency_us"]["p99"] / 1000])
        results.record("scale_requests_failed", "requests", [answer["failed"]])
        coordinator.process.kill()
        coordinator.process.wait()
        coordinator.start()
        results.record("scale_all_back_s", "s", [wait_for(coordinator, ENOUGH, "coming back")])
        answer = requests(coordinator, SECONDS)
        results.record("scale_request_p99_after_ms", "ms", [answer["latency_us"]["p99"] / 1000])
    finally:
        for swarm in swarms:
            swarm.terminate()
        outputs = [swarm.communicate(timeout=60)[0] for swarm in swarms]
        coordinator.stop()
    lost = sum(json.loads(out)["fleet"]["sessions_lost"] for out in outputs)
    print(f"# sessions lost and made again: {lost}")
