"""The engine against llama-server built from the same source: same model, same prompts, greedy, run by run in turn.

    tests/bench/bench_engine.py BUILD_FOLDER [smollm2 | gemma3 ...]

Both hold the same number of sequences in the same context. llama-server answers decode runs without streaming, so that no client
takes CPU time from it. Neither reuses earlier prompts where speed is measured; what a prefix cache saves is measured by itself:
time to the first token of a 2,000-token prompt cold, again in the same process, and again after a restart of the process.

BENCH_RUNS (3), BENCH_TOKENS (128), BENCH_STREAMS (1,8,32), BENCH_THREADS (0: what each takes by itself) and
BENCH_SERVER_ARGS change what is measured.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import results

DEPS = results.TOP / "build/deps"
MODELS = {"smollm2": DEPS / "models/SmolLM2-135M-Instruct.Q4_1.gguf", "gemma3": DEPS / "models/gemma-3-270m-q4_k_m.gguf"}
SERVER = DEPS / "src/llama-build/bin/llama-server"
RUNS = int(os.environ.get("BENCH_RUNS", "3"))
TOKENS = int(os.environ.get("BENCH_TOKENS", "128"))
STREAMS = [int(count) for count in os.environ.get("BENCH_STREAMS", "1,8,32").split(",")]
THREADS = os.environ.get("BENCH_THREADS", "0")
SEQUENCES = 32
CONTEXT = 16384
PREFIX_WORDS = 2000
INTRUDER_WORDS = 4000
MIB = 1 << 20


def story(number):
    return f"Tell me story number {number} about the sea."


class LlamaServer:
    def __init__(self, model):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        arguments = os.environ.get("BENCH_SERVER_ARGS", f"-np {SEQUENCES} -c {CONTEXT} -kvu").split()
        if THREADS != "0":
            arguments += ["-t", THREADS]
        self.process = subprocess.Popen([SERVER, "-m", model, "--host", "127.0.0.1", "--port", str(self.port), *arguments],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5)
                return
            except OSError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.1)
        self.stop()
        sys.exit("llama-server did not start")

    def ask(self, prompt, tokens, **more):
        body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": tokens, "temperature": 0, "ignore_eos": True,
                "cache_prompt": False} | more
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/v1/chat/completions", json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=900) as answer:
            return json.load(answer)

    def decode(self, streams, tokens):
        counts = {}

        def one(number):
            counts[number] = self.ask(story(number), tokens)["usage"]["completion_tokens"]

        threads = [threading.Thread(target=one, args=(i,)) for i in range(streams)]
        start = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(counts.values()) == streams * tokens, counts
        return streams * tokens / (time.monotonic() - start)

    def prefill(self, words, salt):
        timings = self.ask(long_prompt(words, salt), 1)["timings"]
        return timings["prompt_n"] / (timings["prompt_ms"] / 1000)

    def memory(self):
        return resident(self.process.pid)

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Engine:
    def __init__(self, build, model, cache=None):
        environment = os.environ | ({"DARKBLOOM_BENCH_CACHE": str(cache)} if cache else {})
        self.process = subprocess.Popen([build / "bench/bench_engine", model, THREADS, str(SEQUENCES), str(CONTEXT)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def order(self, *words):
        self.process.stdin.write(" ".join(str(word) for word in words) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().split()
        assert answer, f"the engine failed at {words}"
        return [float(word) for word in answer]

    def decode(self, streams, tokens):
        total, seconds = self.order("decode", streams, tokens)
        assert total == streams * tokens
        return total / seconds

    def first(self, words, salt):
        return self.order("first", words, salt)[1]

    def prefill(self, words, salt):
        tokens, seconds = self.order("first", words, salt)
        return tokens / seconds

    def gaps(self):
        return self.order("gap", 7, 64, INTRUDER_WORDS)

    def memory(self):
        return self.order("memory")[0]

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def resident(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def long_prompt(words, salt):
    """The same words as bench_engine.c makes."""
    some = ("the", "sea", "is", "calm", "and", "a", "ship", "with", "blue", "water", "was", "there")
    state, text = (salt * 2654435761 + 1) % 2**32, [f"Story {salt}:"]
    for _ in range(words):
        state = (state * 1664525 + 1013904223) % 2**32
        text.append(some[(state >> 16) % len(some)])
    return " ".join(text)


class Recorder:
    """The figures of the first model carry the plain names, those of others end in the model's name."""

    def __init__(self, suffix):
        self.suffix = suffix

    def __call__(self, name, unit, runs):
        results.record(name + self.suffix, unit, runs)


def compare_decode(record, engine, server):
    for streams in STREAMS:
        ours, theirs = [], []
        for _ in range(RUNS):
            theirs.append(server.decode(streams, TOKENS))
            ours.append(engine.decode(streams, TOKENS))
        record(f"engine_tokens_per_s_{streams}", "tokens/s", ours)
        record(f"llama_server_tokens_per_s_{streams}", "tokens/s", theirs)
        record(f"engine_vs_llama_server_{streams}", "ratio", [a / b for a, b in zip(ours, theirs)])


def compare_prefill(record, engine, server):
    ours, theirs = [], []
    for run in range(RUNS):
        theirs.append(server.prefill(PREFIX_WORDS, 100 + run))
        ours.append(engine.prefill(PREFIX_WORDS, 100 + run))
    record("engine_prefill_tokens_per_s", "tokens/s", ours)
    record("llama_server_prefill_tokens_per_s", "tokens/s", theirs)
    record("engine_vs_llama_server_prefill", "ratio", [a / b for a, b in zip(ours, theirs)])


def measure_gaps(record, engine):
    runs = [engine.gaps() for _ in range(RUNS)]
    for at, name in enumerate(("gap_p50_quiet", "gap_p95_quiet", "gap_p50_under_prefill", "gap_p95_under_prefill")):
        record(f"{name}_ms", "ms", [run[at] * 1000 for run in runs])
    record("gap_p95_under_prefill_ratio", "ratio", [run[3] / run[0] for run in runs])


def measure_first_token(record, build, model):
    cold, ram, ssd = [], [], []
    for run in range(RUNS):
        with tempfile.TemporaryDirectory() as cache:
            engine = Engine(build, model, cache)
            engine.decode(1, 8)
            cold.append(engine.first(PREFIX_WORDS, 200 + run))
            ram.append(engine.first(PREFIX_WORDS, 200 + run))
            engine.stop()
            engine = Engine(build, model, cache)
            engine.decode(1, 8)
            ssd.append(engine.first(PREFIX_WORDS, 200 + run))
            engine.stop()
    record("ttft_cold_ms", "ms", [value * 1000 for value in cold])
    record("ttft_ram_ms", "ms", [value * 1000 for value in ram])
    record("ttft_ssd_ms", "ms", [value * 1000 for value in ssd])
    record("ttft_ram_ratio", "ratio", [a / b for a, b in zip(ram, cold)])
    record("ttft_ssd_ratio", "ratio", [a / b for a, b in zip(ssd, cold)])


def compare(build, model, suffix):
    record = Recorder(suffix)
    server, engine = LlamaServer(model), Engine(build, model)
    try:
        for runner in (server, engine):
            runner.decode(1, 16)
        compare_decode(record, engine, server)
        compare_prefill(record, engine, server)
        measure_gaps(record, engine)
        record("engine_resident_mib", "MiB", [engine.memory() / MIB])
        record("llama_server_resident_mib", "MiB", [server.memory() / MIB])
    finally:
        engine.stop()
        server.stop()
    measure_first_token(record, build, model)


def main(build, names):
    if not SERVER.exists():
        sys.exit("llama-server is missing: run `deps/build.sh server` first")
    for name in names or MODELS:
        if not MODELS[name].exists():
            sys.exit(f"{MODELS[name].name} is missing: run `deps/build.sh extra` first")
        compare(build, MODELS[name], "" if name == "smollm2" else f"_{name}")
    print(f"load average at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2:])
