"""llama-server of the pinned source, asked over HTTP."""

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

SERVER = results.TOP / "build/deps/src/llama-build/bin/llama-server"
THREADS = os.environ.get("BENCH_THREADS", "0")
SEQUENCES = 32
CONTEXT = 16384
QUIET_TOKENS = 64


def story(number):
    return f"Tell me story number {number} about the sea."


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

    def first(self, words, salt):
        """Seconds to the first token; what it remembers of an earlier prompt is used."""
        return self.ask(long_prompt(words, salt), 1, cache_prompt=True)["timings"]["prompt_ms"] / 1000

    def say(self, number, tokens):
        return self.ask(story(number), tokens)["choices"][0]["message"]["content"]

    def gaps(self, streams, words):
        """The same as bench_engine.c's order of that name: p50 undisturbed before and after, p50 and p95 while a long prompt runs, and
        the p95 over the undisturbed gap of streams as long."""
        times, stop = [[] for _ in range(streams)], threading.Event()

        def stream(number):
            for _ in self.deltas(story(number), 2048):
                times[number].append(time.monotonic())
                if stop.is_set():
                    return

        def alone():
            start, so_far = time.monotonic(), len(times[0])
            while len(times[0]) < so_far + QUIET_TOKENS:
                time.sleep(0.01)
            return start, time.monotonic(), so_far + QUIET_TOKENS // 2

        threads = [threading.Thread(target=stream, args=(i,)) for i in range(streams)]
        for thread in threads:
            thread.start()
        while not all(len(each) >= 8 for each in times):
            time.sleep(0.01)
        before_from, begin, before = alone()
        self.ask(long_prompt(words, QUIET_TOKENS + words), 1)
        end, after_to, after = alone()
        stop.set()
        for thread in threads:
            thread.join()
        quiet, later = (percentile(gaps_between(times, *period), 50) for period in ((before_from, begin), (end, after_to)))
        under = gaps_between(times, begin, end)
        ratios = [(each[i] - each[i - 1]) / (quiet + (later - quiet) * (i - before) / (after - before))
                  for each in times for i in range(1, len(each)) if begin < each[i] <= end]
        return [quiet, later, percentile(under, 50), percentile(under, 95), percentile(ratios, 95)]

    def deltas(self, prompt, tokens):
        body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": tokens, "temperature": 0, "ignore_eos": True,
                "cache_prompt": False, "stream": True}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/v1/chat/completions", json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=900) as answer:
            for line in answer:
                if b'"content":"' in line:
                    yield line


def gaps_between(times, start, end):
    return [b - a for each in times for a, b in zip(each, each[1:]) if start < b <= end]


def percentile(values, percent):
    values = sorted(values)
    return values[(len(values) - 1) * percent // 100] if values else 0
