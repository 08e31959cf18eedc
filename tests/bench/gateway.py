"""The coordinator under load: it on core 0, the swarm on core 1 (where there are two), loopback, an SQLite database on disk."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

import results

SERVER_CORE, LOAD_CORE = ("0", "1") if (os.cpu_count() or 1) > 1 else ("0", "0")
SECONDS = os.environ.get("BENCH_SECONDS", "5")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def can_connect(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Coordinator:
    """A fresh coordinator with an empty database, stopped and removed at the end."""

    def __init__(self, build, tls=False):
        self.build, self.port = build, free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="darkbloom-bench-"))
        tls_lines = ""
        self.ca = None
        if tls:
            self.ca = self.folder / "cert.pem"
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
                            "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", self.folder / "key.pem", "-out", self.ca], check=True, capture_output=True)
            tls_lines = f'tls_cert = "{self.ca}"\ntls_key = "{self.folder / "key.pem"}"\n'
        (self.folder / "config.toml").write_text(
            f'[server]\nport = {self.port}\n{tls_lines}[data]\ndir = "{self.folder / "data"}"\n[trust]\nmin_trust = "self_signed"\n'
            '[accounts]\nfirst_grant_usd = "1000000"\n'
            '[limits]\nrequests_per_minute = 0\ninput_tokens_per_minute = 0\noutput_tokens_per_minute = 0\nconcurrent_requests = 0\n')
        self.start()

    def start(self):
        begun = time.monotonic()
        self.process = subprocess.Popen(["taskset", "-c", SERVER_CORE, self.build / "bin/darkbloom-coordinator", "serve", "--config", self.folder / "config.toml",
                                         "--key-file", self.folder / "key"], stdout=subprocess.DEVNULL, stderr=open(self.folder / "log", "w"))
        while not can_connect(self.port):
            if self.process.poll() is not None or time.monotonic() - begun > 20:
                raise SystemExit(f"the coordinator did not start:\n{(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.0005)
        self.start_ms = (time.monotonic() - begun) * 1000

    def key(self):
        return (self.folder / "key").read_text().strip()

    def swarm(self, *arguments):
        command = ["taskset", "-c", LOAD_CORE, self.build / "bin/darkbloom-swarm", *arguments, "--port", str(self.port)]
        if self.ca:
            command += ["--ca", self.ca]
        result = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=os.environ | {"DARKBLOOM_API_KEY": self.key()}, timeout=300)
        if result.returncode:
            raise SystemExit(f"the swarm failed:\n{result.stderr[-2000:]}")
        return json.loads(result.stdout)

    def loop_thread_us(self):
        """CPU time of the main thread, which runs the loop."""
        return int(Path(f"/proc/{self.process.pid}/task/{self.process.pid}/schedstat").read_text().split()[0]) / 1000

    def inline_key_us(self):
        """CPU time of the loop's thread for X25519: request keys that the workers had not made ahead."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith("darkbloom_request_keys_inline_microseconds_total "):
                    return float(line.split()[1])

    def process_us(self):
        return sum(int((task / "schedstat").read_text().split()[0]) / 1000 for task in Path(f"/proc/{self.process.pid}/task").iterdir())

    def rss_kb(self):
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def started(build, runs):
    times = []
    for _ in range(runs):
        coordinator = Coordinator(build)
        times.append(coordinator.start_ms)
        coordinator.stop()
    results.record("coordinator_start_ms", "ms", times)


def added_latency(build, runs):
    p50, p99 = [], []
    for _ in range(runs):
        coordinator = Coordinator(build)
        answer = coordinator.swarm("run", "--providers", "1", "--clients", "1", "--chunks", "1", "--warmup", "1", "--seconds", SECONDS)
        assert answer["failed"] == 0, answer
        p50.append(answer["latency_us"]["p50"])
        p99.append(answer["latency_us"]["p99"])
        coordinator.stop()
    results.record("gateway_added_p50_us", "us", p50)
    results.record("gateway_added_p99_us", "us", p99)


def dialects(build, runs):
    """The worst dialect's added latency over chat's, side by side on one coordinator, whole and streamed: of short turns, as what
    else runs on the machine only ever adds, each dialect's best."""
    ratios = []
    for _ in range(runs):
        coordinator = Coordinator(build)
        best = {}
        for form in ((), ("--stream",)):
            for name in ("chat", "responses", "completions", "messages") * 4:
                answer = coordinator.swarm("run", "--providers", "1", "--clients", "1", "--chunks", "1", "--seconds", "1", "--dialect", name, *form)
                assert answer["failed"] == 0 and answer["incomplete"] == 0, answer
                best[name, form] = min(answer["latency_us"]["p50"], best.get((name, form), float("inf")))
        coordinator.stop()
        ratios.append(max(taken / best["chat", form] for (name, form), taken in best.items() if name != "chat"))
    results.record("dialect_added_ratio_max", "ratio", ratios)


def throughput(build, runs, providers, suffix):
    rates, loop_us, process_us = [], [], []
    clients = min(24 * providers, 64)  # a provider takes 24 at once
    for _ in range(runs):
        coordinator = Coordinator(build)
        loop, process = coordinator.loop_thread_us(), coordinator.process_us()
        answer = coordinator.swarm("run", "--providers", providers, "--clients", clients, "--chunks", "1", "--warmup", "1", "--seconds", SECONDS)
        assert answer["failed"] == 0, answer
        rates.append(answer["requests_per_s"])
        served = answer["fleet"]["requests"]
        loop_us.append((coordinator.loop_thread_us() - loop - coordinator.inline_key_us()) / served)
        process_us.append((coordinator.process_us() - process) / served)
        coordinator.stop()
    results.record(f"gateway_rps_per_core{suffix}", "requests/s", rates)
    results.record(f"gateway_loop_us_per_request{suffix}", "us", loop_us)
    results.record(f"gateway_process_us_per_request{suffix}", "us", process_us)


def relay(build, runs):
    rates = []
    for _ in range(runs):
        coordinator = Coordinator(build)
        answer = coordinator.swarm("run", "--providers", "64", "--clients", "512", "--stream", "--chunks", "200", "--chunk-bytes", "16", "--warmup", "1",
                                   "--seconds", SECONDS)
        assert answer["failed"] == 0 and answer["incomplete"] == 0, answer
        rates.append(answer["events_per_s"])
        coordinator.stop()
    results.record("relay_chunks_per_s_per_core", "chunks/s", rates)


def idle_providers(build, runs, tls, name, count=4000):
    sizes = []
    for _ in range(runs):
        coordinator = Coordinator(build, tls=tls)
        before = coordinator.rss_kb()
        command = ["taskset", "-c", LOAD_CORE, build / "bin/darkbloom-swarm", "providers", "--providers", count, "--port", coordinator.port]
        if tls:
            command += ["--ca", coordinator.ca]
        swarm = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        swarm.stderr.readline()  # every provider has answered its challenge
        time.sleep(6)            # one heartbeat of each, and buffers given back
        sizes.append((coordinator.rss_kb() - before) / count)
        swarm.kill()
        swarm.wait()
        coordinator.stop()
    results.record(name, "KB", sizes)


def main(build, runs):
    started(build, runs)
    added_latency(build, runs)
    dialects(build, runs)
    throughput(build, runs, 1, "")
    throughput(build, runs, 1000, "_1000_providers")
    relay(build, runs)
    idle_providers(build, runs, False, "idle_provider_kb_clear")
    idle_providers(build, runs, True, "idle_provider_kb_tls")
