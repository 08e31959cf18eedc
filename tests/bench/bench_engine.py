"""The engine against llama-server built from the same source: same model, same prompts, greedy, run by run in turn.

    tests/bench/bench_engine.py BUILD_FOLDER

Both are measured from the first request to the last end, prompts included. llama-server answers without streaming, so that no
client takes CPU time from it; it may not reuse prompts of earlier runs, because the engine does not either. Both have eight
sequences that share 8,192 tokens of context.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import results

DEPS = results.TOP / "build/deps"
MODEL = DEPS / "models/SmolLM2-135M-Instruct.Q4_1.gguf"
SERVER = DEPS / "src/llama-build/bin/llama-server"
RUNS = int(os.environ.get("BENCH_RUNS", "3"))
TOKENS = int(os.environ.get("BENCH_TOKENS", "128"))
THREADS = os.environ.get("BENCH_THREADS", "0")  # 0: as many as each takes by itself
STREAMS = (1, 8)


class LlamaServer:
    def __init__(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        arguments = os.environ.get("BENCH_SERVER_ARGS", "-np 8 -c 8192 -kvu").split()
        if THREADS != "0":
            arguments += ["-t", THREADS]
        self.process = subprocess.Popen([SERVER, "-m", MODEL, "--host", "127.0.0.1", "--port", str(self.port), *arguments],
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

    def ask(self, number, tokens, counts):
        body = {"messages": [{"role": "user", "content": f"Tell me story number {number} about the sea."}], "max_tokens": tokens,
                "temperature": 0, "ignore_eos": True, "cache_prompt": False}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/v1/chat/completions", json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=600) as answer:
            counts[number] = json.load(answer)["usage"]["completion_tokens"]

    def run(self, streams, tokens):
        counts = {}
        threads = [threading.Thread(target=self.ask, args=(i, tokens, counts)) for i in range(streams)]
        start = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(counts.values()) == streams * tokens, counts
        return streams * tokens / (time.monotonic() - start)

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Engine:
    def __init__(self, build):
        self.process = subprocess.Popen([build / "bench/bench_engine", MODEL, THREADS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, streams, tokens):
        self.process.stdin.write(f"{streams} {tokens}\n")
        self.process.stdin.flush()
        total, seconds = self.process.stdout.readline().split()
        assert int(total) == streams * tokens
        return int(total) / float(seconds)

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def main(build):
    if not SERVER.exists():
        sys.exit("llama-server is missing: run `deps/build.sh server` first")
    server, engine = LlamaServer(), Engine(build)
    try:
        for runner in (server, engine):
            runner.run(1, 16)
        for streams in STREAMS:
            ours, theirs = [], []
            for _ in range(RUNS):
                theirs.append(server.run(streams, TOKENS))
                ours.append(engine.run(streams, TOKENS))
            results.record(f"engine_tokens_per_s_{streams}", "tokens/s", ours)
            results.record(f"llama_server_tokens_per_s_{streams}", "tokens/s", theirs)
            results.record(f"engine_vs_llama_server_{streams}", "ratio", [a / b for a, b in zip(ours, theirs)])
    finally:
        engine.stop()
        server.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
