"""Prompts and answers leave no trace: not in logs, not in files, not in the memory of a process that is idle again; and nobody
can look into a running one."""

import hashlib
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from harness import BIN, MODEL, PATIENCE, SANITIZER, wait_until
from test_failover import in_background, stream_events

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="looking into another process's memory needs root")
needs_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
whole_memory = pytest.mark.skipif(bool(SANITIZER), reason="a sanitizer keeps copies of what was freed")


class Canary:
    """A text that occurs nowhere else, found again even when a piece of it was overwritten."""

    def __init__(self, text=None, pieces=None):
        self.text = text or secrets.token_hex(48)
        data = self.text.encode()
        self.pieces = pieces or [data[at:at + 16] for at in range(0, len(data) - 15, 16)]

    def found_in(self, data):
        return [at for piece in self.pieces for at in (match.start() for match in re.finditer(re.escape(piece), data))]


def answers_of(canaries):
    """What the scripted engine answers when its script has no text: words of the prompt's digest, each sent by itself."""
    answers = {}
    for name, canary in canaries.items():
        digest = hashlib.sha256(prompt_of(canary).encode()).hexdigest()
        words = [digest[at:at + 8] for at in (0, 8, 16)]
        answers[f"answer {name}"] = Canary(" ".join(words), [word.encode() for word in words])
    return answers


def prompt_of(canary):
    return f"Please repeat {canary.text}"


def files_below(*folders):
    return [path for folder in folders for path in folder.rglob("*") if path.is_file()]


def memory_of(pid):
    """(address, bytes) of everything readable and writable in a process, as a core image would hold it."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            span, rights, *rest = line.split(maxsplit=5)
            if not rights.startswith("rw") or "[vvar" in line:
                continue
            start, end = (int(number, 16) for number in span.split("-"))
            memory.seek(start)
            for at in range(start, end, 1 << 22):
                try:
                    yield at, memory.read(min(1 << 22, end - at))
                except OSError:
                    break


def traces(program, canaries):
    found = []
    for at, data in memory_of(program.pid):
        for name, canary in canaries.items():
            for offset in canary.found_in(data):
                around = data[max(0, offset - 120):offset + 120]
                found.append(f"{name} at {at + offset:#x}: {around!r}")
    return found


def assert_not_in_memory(program, canaries):
    """Looked for until the program has come to rest: what it still wipes then is no trace that stays."""
    until = time.monotonic() + 20 * PATIENCE
    while (found := traces(program, canaries)) and time.monotonic() < until:
        time.sleep(0.5)
    assert not found, f"{program.name}, {len(found)} traces:\n" + "\n".join(found[:8])


def exercise(node, model, canaries):
    """Requests of every kind with a canary in them: good ones, refused ones, and those that are left."""
    prompts = {name: prompt_of(canary) for name, canary in canaries.items()}
    whole = node.chat(model, prompts["whole"], max_tokens=8)
    assert whole.status_code == 200
    if model == "scripted":
        assert whole.json()["choices"][0]["message"]["content"] == "echo " + answers_of(canaries)["answer whole"].text
    assert list(stream_events(node.client, model, messages=[{"role": "user", "content": prompts["stream"]}], max_tokens=8))[-1] == "[DONE]"
    assert node.chat("no-such-model", prompts["unknown model"]).status_code == 404
    assert node.chat(model, prompts["two answers"], n=9).status_code == 400
    broken = json.dumps({"model": model, "messages": [{"role": "user", "content": prompts["broken"]}]})[:-1]
    assert node.client.post("/v1/chat/completions", content=broken).status_code == 400
    large = node.chat(model, prompts["large"] + " x" * 100000, max_tokens=8)
    assert large.status_code in (200, 400, 429, 503), large.text
    stopped = node.client.send(node.client.build_request("POST", "/v1/chat/completions", json={
        "model": model, "stream": True, "max_tokens": 4000, "messages": [{"role": "user", "content": prompts["left"]}]}), stream=True)
    next(stopped.iter_lines())
    stopped.close()
    unauthorised = node.client.post("/v1/chat/completions", headers={"Authorization": "Bearer wrong"}, json={
        "model": model, "messages": [{"role": "user", "content": prompts["unauthorised"]}]})
    assert unauthorised.status_code == 401
    wait_until(lambda: node.metrics()["darkbloom_jobs_open"] == 0, "the provider to be idle")
    node.check_books()


def new_canaries():
    return {name: Canary() for name in ("whole", "stream", "unknown model", "two answers", "broken", "large", "left", "unauthorised")}


def start(coordinator, provider, **more):
    """Both programs as talkative as they can be."""
    node = coordinator({"log": {"level": "debug"}})
    return node, provider(node, options=("--log-level", "debug"), **more)


def check_no_trace_in_files(node, serving, canaries):
    node.get("/v1/payments/usage")
    files = files_below(node.data, serving.state) + [node.log_path, node.out_path, serving.log_path, serving.out_path]
    assert any(path.name.endswith("-wal") for path in files), "the write-ahead log is looked at too"
    assert node.log_path.stat().st_size > 0 and serving.log_path.stat().st_size > 0
    for path in files:
        data = path.read_bytes()
        for name, canary in canaries.items():
            assert not canary.found_in(data), f"{name} in {path}"
        assert node.key.encode() not in data, f"the API key in {path}"


def test_no_trace_in_logs_and_files(coordinator, provider):
    node, serving = start(coordinator, provider, script={"token_delay_ms": 5})
    canaries = new_canaries()
    answers = answers_of(canaries)
    exercise(node, "scripted", canaries)
    check_no_trace_in_files(node, serving, canaries | answers)


def test_no_trace_of_a_failed_provider_in_logs_and_files(coordinator, provider):
    """What a provider says about its failure is logged, so it must hold nothing of the prompt."""
    node, serving = start(coordinator, provider, script={"text": "a b c d", "fail_status": 500, "fail_text": "internal error", "fail_after_tokens": 2})
    canary = Canary()
    for stream in (False, True):
        node.chat("scripted", canary.text, stream=stream)
    node.check_books()
    check_no_trace_in_files(node, serving, {"prompt": canary})


@needs_root
@needs_linux
@whole_memory
def test_no_trace_in_the_memory_of_idle_programs(coordinator, provider):
    node, serving = start(coordinator, provider, script={"token_delay_ms": 5})
    canaries = new_canaries()
    answers = answers_of(canaries)
    exercise(node, "scripted", canaries)
    node.close_client()
    assert_not_in_memory(node, canaries | answers)
    assert_not_in_memory(serving, canaries | answers)


@needs_root
@needs_linux
@whole_memory
def test_no_trace_of_the_real_model_in_memory(coordinator, provider):
    node, serving = start(coordinator, provider)
    canaries = new_canaries()
    exercise(node, MODEL, canaries)
    node.close_client()
    assert_not_in_memory(node, canaries)
    assert_not_in_memory(serving, canaries)


@needs_root
@needs_linux
@whole_memory
def test_the_search_finds_what_is_there(coordinator, provider):
    """While an answer runs, the prompt is in memory: a search that finds nothing then is no search."""
    node = coordinator()
    serving = provider(node, {"text": "word", "tokens": 100000, "token_delay_ms": 20})
    canary = Canary()
    looked = threading.Event()

    def read():
        for _ in stream_events(node.client, "scripted", messages=[{"role": "user", "content": canary.text}]):
            if looked.is_set():
                return
    answer = in_background(read)
    wait_until(lambda: node.metrics()["darkbloom_relayed_chunks_total"] > 2, "the answer to run")
    assert any(canary.found_in(data) for _, data in memory_of(node.pid)) or any(canary.found_in(data) for _, data in memory_of(serving.pid))
    assert any(node.key.encode() in data for _, data in memory_of(os.getpid())), "and it reads whole memories"
    looked.set()
    answer()


@needs_root
@needs_linux
@whole_memory
def test_the_api_key_does_not_stay_in_memory(coordinator, provider):
    node = coordinator()
    provider(node, {"text": "hi"})
    assert node.chat("scripted").status_code == 200
    node.close_client()
    assert_not_in_memory(node, {"key": Canary(node.key)})


# --- looking into a running process ---

PEEP = """
import ctypes, os, sys
pid = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
def attach():
    if libc.ptrace(16, pid, None, None) != 0:
        return os.strerror(ctypes.get_errno())
    os.waitpid(pid, 0)
    libc.ptrace(17, pid, None, None)
    return "ok"
def read(name):
    try:
        open(f"/proc/{pid}/{name}", "rb").read(0)
        return "ok"
    except OSError as error:
        return error.strerror
print(attach(), read("mem"), read("maps"), read("environ"), sep=",")
"""


@pytest.fixture
def plain_user(tmp_path_factory):
    """A user without rights, and a folder that it may use."""
    user = pwd.getpwnam("nobody")
    folder = Path(tempfile.mkdtemp(prefix="darkbloom-test-"))
    folder.chmod(0o755)
    yield user, folder
    shutil.rmtree(folder)


def as_user(user, command, **options):
    return subprocess.Popen([str(word) for word in command], user=user.pw_uid, group=user.pw_gid, extra_groups=[], **options)


@needs_root
@needs_linux
def test_another_process_of_the_same_user_cannot_look_inside(coordinator, plain_user):
    if not Path("/usr/bin/python3").exists():
        pytest.skip("the plain user needs a Python of the system")
    user, folder = plain_user
    home = folder / "home"
    home.mkdir()
    os.chown(home, user.pw_uid, user.pw_gid)
    for name in ("darkbloom", "darkbloom-coordinator"):
        shutil.copy(BIN / name, folder / name)
    shutil.copy(shutil.which("sleep"), folder / "sleep")
    (home / "script.json").write_text('{"text":"hi"}')
    node = coordinator()
    clean = {"HOME": str(home), "PATH": os.environ["PATH"]}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": clean, "cwd": home}
    commands = {
        "control": [folder / "sleep", "600"],
        "coordinator": [folder / "darkbloom-coordinator", "serve", "--port", "0", "--port-file", home / "port"],
        "provider": [folder / "darkbloom", "start", "--foreground", "--coordinator-url", node.ws_url, "--scripted-engine", home / "script.json"],
    }
    running = {name: as_user(user, command, **quiet) for name, command in commands.items()}
    try:
        wait_until((home / "port").exists, "the coordinator of the plain user")
        node.wait_routable("scripted")
        seen = {}
        for name, process in running.items():
            peep = as_user(user, ["/usr/bin/python3", "-c", PEEP, process.pid], stdout=subprocess.PIPE, env=clean, cwd="/", text=True)
            seen[name] = peep.communicate(timeout=60 * PATIENCE)[0].strip().split(",")
        if seen["control"][1] != "ok":
            pytest.skip("this system lets no process look into another, ours or not")
        for name in ("coordinator", "provider"):
            assert "ok" not in seen[name], (name, seen[name])
    finally:
        for process in running.values():
            process.send_signal(signal.SIGKILL)
            process.wait()


@needs_linux
def test_core_dumps_are_off(coordinator, provider):
    node = coordinator()
    serving = provider(node, {"text": "hi"})
    for program in (node, serving):
        limits = Path(f"/proc/{program.pid}/limits").read_text()
        assert re.search(r"Max core file size +0 +0 ", limits), program.name


@needs_root
@needs_linux
@whole_memory
def test_a_preloaded_library_is_thrown_out_of_the_provider(coordinator, provider):
    library = next(Path("/lib").glob("*/libBrokenLocale.so.1"), None)
    if library is None:
        pytest.skip("there is no library at hand that is not linked anyway")
    node = coordinator()
    serving = provider(node, {"text": "hi"}, LD_PRELOAD=str(library))
    assert node.chat("scripted").status_code == 200
    assert library.name not in Path(f"/proc/{serving.pid}/maps").read_text()
    assert b"LD_PRELOAD" not in Path(f"/proc/{serving.pid}/environ").read_bytes()
