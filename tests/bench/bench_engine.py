"""The engine against llama-server built from the same source: same model, same prompts, greedy, run by run in turn.

    tests/bench/bench_engine.py BUILD_FOLDER [smollm2 | gemma3 ...] [--only PART,...]

Parts: decode prefill gaps answers guessing first memory (of each model), saving writing identical (of the prefix cache). All of it
takes about half an hour on two cores; a part alone a few minutes.

Both hold the same number of sequences in the same context. llama-server answers decode runs without streaming, so that no client
takes CPU time from it. Neither reuses earlier prompts where speed is measured; what a prefix cache saves is measured by itself:
time to the first token of a 2,000-token prompt cold, again in the same process, and again after a restart of the process.
Greedy answers of both are compared word for word. What guessing ahead gives is seen on text that repeats and on text that does not,
against the same engine without it. The prefix cache is measured by bench_cache, run from here.

BENCH_RUNS (3), BENCH_TOKENS (128), BENCH_STREAMS (1,8,32), BENCH_THREADS (0: what each takes by itself), BENCH_SAME_ANSWERS (16),
BENCH_CONVERSATIONS (200, of each tier and kind of model; 0: none) and BENCH_SERVER_ARGS change what is measured.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import results
from llama_server import CONTEXT, SEQUENCES, SERVER, THREADS, LlamaServer

DEPS = results.TOP / "build/deps"
MODELS = {"smollm2": DEPS / "models/SmolLM2-135M-Instruct.Q4_1.gguf", "gemma3": DEPS / "models/gemma-3-270m-q4_k_m.gguf"}
RUNS = int(os.environ.get("BENCH_RUNS", "3"))
TOKENS = int(os.environ.get("BENCH_TOKENS", "128"))
STREAMS = [int(count) for count in os.environ.get("BENCH_STREAMS", "1,8,32").split(",")]
CONVERSATIONS = os.environ.get("BENCH_CONVERSATIONS", "200")
SAME_ANSWERS = int(os.environ.get("BENCH_SAME_ANSWERS", "16"))
PREFIX_WORDS = 2000
INTRUDER_WORDS = 4000
MIB = 1 << 20


class Engine:
    def __init__(self, build, model, cache=None, guesses=True):
        self.build, self.model = build, model
        environment = os.environ | ({"DARKBLOOM_BENCH_CACHE": str(cache)} if cache else {})
        if not guesses:
            environment["DARKBLOOM_BENCH_GUESSES"] = "0"
        self.process = subprocess.Popen([build / "bench/bench_engine", model, THREADS, str(SEQUENCES), str(CONTEXT)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def answer(self, *words):
        self.process.stdin.write(" ".join(str(word) for word in words) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, f"the engine failed at {words}"
        return answer

    def order(self, *words):
        return [float(word) for word in self.answer(*words).split()]

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

    def say(self, number, tokens):
        return json.loads(self.answer("say", number, tokens))

    def repeat(self, tokens):
        total, seconds = self.order("repeat", tokens)
        return total / seconds

    def memory(self):
        return self.order("memory")[0]

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


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


GAP_NAMES = ("gap_p50_quiet", "gap_p50_quiet_after", "gap_p50_under_prefill", "gap_p95_under_prefill")


def measure_gaps(record, engine, server):
    """Without guesses: those that come true give several tokens at once, so that the gap would tell nothing of the step."""
    runs, theirs, plain = [], [], Engine(engine.build, engine.model, guesses=False)
    try:
        plain.decode(1, 16)
        for _ in range(RUNS):
            theirs.append(server.gaps(7, INTRUDER_WORDS))
            runs.append(plain.gaps())
    finally:
        plain.stop()
    for at, name in enumerate(GAP_NAMES):
        record(f"{name}_ms", "ms", [run[at] * 1000 for run in runs])
        record(f"llama_server_{name}_ms", "ms", [run[at] * 1000 for run in theirs])
    record("gap_p95_under_prefill_ratio", "ratio", [run[4] for run in runs])
    record("llama_server_gap_p95_under_prefill_ratio", "ratio", [run[4] for run in theirs])


def compare_answers(record, engine, server):
    same = 0
    for number in range(SAME_ANSWERS):
        ours, theirs = engine.say(number, 64), server.say(number, 64)
        same += ours == theirs
        if ours != theirs:
            print(f"answer {number} differs from llama-server's:\n  {ours!r}\n  {theirs!r}", file=sys.stderr)
    record("engine_identical_to_llama_server_pct", "percent", [100 * same / SAME_ANSWERS])


def measure_guessing(record, build, model):
    """Tokens per second with guesses over those without, run by run in turn."""
    guessing, plain = Engine(build, model), Engine(build, model, guesses=False)
    copied, told = [], []
    try:
        for runner in (guessing, plain):
            runner.decode(1, 16)
        for _ in range(RUNS):
            copied.append(guessing.repeat(TOKENS) / plain.repeat(TOKENS))
            told.append(guessing.decode(1, TOKENS) / plain.decode(1, TOKENS))
    finally:
        guessing.stop()
        plain.stop()
    record("speculation_speedup_repetitive", "ratio", copied)
    record("speculation_speedup_plain", "ratio", told)


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


def measure_server_first_token(record, server):
    runs = [(server.first(PREFIX_WORDS, 300 + run), server.first(PREFIX_WORDS, 300 + run)) for run in range(RUNS)]
    record("llama_server_ttft_cold_ms", "ms", [cold * 1000 for cold, _ in runs])
    record("llama_server_ttft_ram_ms", "ms", [warm * 1000 for _, warm in runs])


def cache_figures(build, *words):
    output = subprocess.run([build / "bench/bench_cache", *words], stdout=subprocess.PIPE, text=True, check=True).stdout
    return {line.split()[1]: float(line.split()[2]) for line in output.splitlines() if line.startswith("bench ")}


def measure_identity(record, build, models):
    """With all models, and with small random ones of every way of remembering."""
    same = []
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, results.TOP / "tests/models/make_tiny_models.py", folder], check=True)
        for model in [*sorted(Path(folder).glob("*.gguf")), *models]:
            figures = cache_figures(build, "identical", "ram,ssd", CONVERSATIONS, str(model))
            for tier in ("ram", "ssd"):
                same.append(figures[f"cache_identical_pct_{tier}"])
                record(f"cache_identical_pct_{model.stem}_{tier}", "percent", same[-1:])
    record("cache_identical_pct", "percent", [min(same)])


def compare_memory(record, engine, server):
    record("engine_resident_mib", "MiB", [engine.memory() / MIB])
    record("llama_server_resident_mib", "MiB", [server.memory() / MIB])


COMPARISONS = {"decode": compare_decode, "prefill": compare_prefill, "gaps": measure_gaps, "answers": compare_answers,
               "memory": compare_memory}
PARTS = (*COMPARISONS, "guessing", "first", "saving", "writing", "identical")


def compare(build, model, suffix, parts):
    record = Recorder(suffix)
    if parts & {*COMPARISONS, "first"}:
        server, engine = LlamaServer(model), Engine(build, model)
        try:
            for runner in (server, engine):
                runner.decode(1, 16)
            for part, measure in COMPARISONS.items():
                if part in parts:
                    measure(record, engine, server)
            if "first" in parts:
                measure_server_first_token(record, server)
        finally:
            engine.stop()
            server.stop()
    if "guessing" in parts:
        measure_guessing(record, build, model)
    if "first" in parts:
        measure_first_token(record, build, model)


def measure_cache(build, models, parts):
    record = Recorder("")
    if "saving" in parts:
        record("ssd_save_overhead_pct", "percent", [cache_figures(build, "saving")["ssd_save_overhead_pct"]])
    if "writing" in parts:
        record("ssd_write_amplification", "ratio", [cache_figures(build, "writing")["ssd_write_amplification"]])
    if "identical" in parts and CONVERSATIONS != "0":
        measure_identity(record, build, models)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path)
    parser.add_argument("models", nargs="*", choices=[*MODELS, []])
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    asked = parser.parse_args()
    unknown = set(asked.only.split(",")) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    return asked.build.resolve(), asked.models or list(MODELS), set(asked.only.split(","))


def main():
    build, names, parts = arguments()
    if parts & {*COMPARISONS, "first"} and not SERVER.exists():
        sys.exit("llama-server is missing: run `deps/build.sh server` first")
    for name in names:
        if not MODELS[name].exists():
            sys.exit(f"{MODELS[name].name} is missing: run `deps/build.sh extra` first")
        compare(build, MODELS[name], "" if name == "smollm2" else f"_{name}", parts)
    measure_cache(build, [MODELS[name] for name in names], parts)
    print(f"load average at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
