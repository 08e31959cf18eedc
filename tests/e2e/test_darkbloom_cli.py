"""The commands of `darkbloom` as a person types them: exit statuses, the terminal chat, models, status."""

import functools
import hashlib
import http.server
import json
import os
import pty
import re
import select
import subprocess
import threading
import time

import pytest

from harness import BIN, PATIENCE, Failed, environment, wait_until

DARKBLOOM = BIN / "darkbloom"
USAGE, CONFIG, AUTH, NETWORK = 2, 3, 4, 5  # provider-node 2.1


@pytest.fixture
def darkbloom(tmp_path):
    """Runs one command to its end."""
    def run(*words, stdin="", **more):
        return subprocess.run([str(word) for word in (DARKBLOOM, *words)], input=stdin, capture_output=True, text=True, cwd=tmp_path,
                              env=environment(tmp_path, **more), timeout=60 * PATIENCE)
    return run


# --- exit statuses ---

@pytest.mark.parametrize("words, status, sentence", [
    (["strat"], USAGE, "start"),
    (["start"], USAGE, "--foreground"),
    (["start", "--foreground"], USAGE, "--coordinator-url"),
    (["start", "--foreground", "--coordinator-url", "example"], USAGE, "not a coordinator's address"),
    (["start", "--foreground", "--coordinator-url", "ws://127.0.0.1:1", "--threads", "many"], USAGE, "--threads"),
    (["start", "--foreground", "--coordinator-url", "ws://127.0.0.1:1", "--heartbeat-ms", "1"], USAGE, "--heartbeat-ms"),
    (["start", "--foreground", "--coordinator-url", "ws://127.0.0.1:1", "--model", "a", "--model", "a"], USAGE, "twice"),
    (["start", "--foreground", "--coordinator-url", "ws://127.0.0.1:1", *(["--model", "a"] * 65)], USAGE, "64 times"),
    (["start", "--foreground", "--coordinator-url", "ws://127.0.0.1:1", "--log-level", "loud"], USAGE, "log level"),
    (["start", "--foreground", "--coordinator-url", "ws://127.0.0.1:1", "--scripted-engine", "x", "--model", "a", "--model", "b"], 1, "could not be read"),
    (["start", "--foreground", "--coordinator-url", "ws://127.0.0.1:1", "--token-file", "missing"], CONFIG, "missing"),
    (["start", "--foreground", "--coordinator-url", "ws://127.0.0.1:1", "--state-dir", "/proc/none"], CONFIG, "/proc/none"),
    (["start", "--foreground", "--coordinator-url", "ws://127.0.0.1:1"], 1, "no model"),
    (["start", "--foreground", "--coordinator-url", "ws://127.0.0.1:1", "--model", "acme/none"], 1, "acme/none"),
    (["start", "--foreground", "--coordinator-url", "ws://127.0.0.1:1", "--model", "../x"], 1, "not a model id"),
    (["start", "--foreground", "--coordinator-url", "ws://127.0.0.1:1", "--scripted-engine", "missing.json"], 1, "missing.json"),
    (["chat", "hello"], AUTH, "API key"),
    (["chat", "--key-file", "missing", "hello"], AUTH, "missing"),
    (["chat", "--temperature", "hot", "hello"], USAGE, "--temperature"),
    (["chat", "--temperature", "2.5", "hello"], USAGE, "--temperature"),
    (["chat", "--max-tokens", "0", "hello"], USAGE, "--max-tokens"),
    (["chat", "--url", "localhost:8080", "hello"], USAGE, "localhost:8080"),
    (["models", "pull"], USAGE, ""),
    (["models", "pull", "file.gguf"], USAGE, "--id"),
    (["models", "pull", "file.gguf", "--id", "m"], 1, "file.gguf"),
    (["models", "pull", "http://127.0.0.1:1/manifest.json"], NETWORK, "could not be fetched"),
    (["models", "pull", "http://127.0.0.1:1"], 1, "not the address of a manifest"),
    (["models", "verify", "none"], 1, "none"),
])
def test_mistakes_end_with_their_status_and_a_sentence(darkbloom, words, status, sentence):
    result = darkbloom(*words)
    assert result.returncode == status, result.stderr
    assert sentence in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("words", [
    ["models", "pull", "/no/such.gguf", "--id", "m"],
    ["models", "pull", "http://127.0.0.1:1/manifest.json"],
])
def test_what_never_began_shows_no_progress(darkbloom, words):
    result = darkbloom(*words)
    assert result.returncode != 0
    assert result.stderr.startswith("darkbloom models pull: ") and "%" not in result.stderr, result.stderr


def test_a_coordinator_that_cannot_be_reached_is_a_network_failure(darkbloom):
    result = darkbloom("chat", "--url", "http://127.0.0.1:1", "--model", "m", "hello", DARKBLOOM_API_KEY="sk-test")
    assert result.returncode == NETWORK
    assert "darkbloom chat:" in result.stderr


def test_a_wrong_key_is_an_authentication_failure(darkbloom, coordinator):
    started = coordinator()
    result = darkbloom("chat", "--url", started.url, "--model", "m", "hello", DARKBLOOM_API_KEY="sk-wrong")
    assert result.returncode == AUTH
    assert "key" in result.stderr.lower()


# --- one answer ---

SHORT = {"text": "one two three four five"}


def test_a_prompt_prints_one_answer_and_nothing_else(darkbloom, coordinator, provider):
    started = coordinator()
    provider(started, script=SHORT)
    result = darkbloom("chat", "--url", started.url + "/", "--key-file", started.key_file, "hello")
    assert result.returncode == 0, result.stderr
    assert result.stdout == "one two three four five\n"
    assert result.stderr == ""


def test_a_prompt_on_standard_input_and_numbers_on_request(darkbloom, coordinator, provider):
    started = coordinator()
    provider(started, script=SHORT)
    result = darkbloom("chat", "--url", started.url, "--json-stats", stdin="good morning there\n", DARKBLOOM_API_KEY=started.key)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "one two three four five\n"
    numbers = json.loads(result.stderr)
    assert numbers["completion_tokens"] == 5
    assert numbers["prompt_tokens"] == 3
    assert numbers["trust_level"] == "self_signed"


def test_max_tokens_and_system_prompt_reach_the_model(darkbloom, coordinator, provider):
    started = coordinator()
    provider(started, script=SHORT)
    result = darkbloom("chat", "--url", started.url, "--max-tokens", "2", "--system", "be brief and kind", "--json-stats", "hello",
                       DARKBLOOM_API_KEY=started.key)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "one two \n" or result.stdout == "one two\n"
    assert json.loads(result.stderr)["prompt_tokens"] == 5


def test_nothing_to_ask_is_a_mistake(darkbloom, coordinator, provider):
    started = coordinator()
    provider(started, script=SHORT)
    result = darkbloom("chat", "--url", started.url, stdin="  \n", DARKBLOOM_API_KEY=started.key)
    assert result.returncode == USAGE
    assert "nothing to ask" in result.stderr


def test_an_answer_that_fails_in_the_middle_says_so(darkbloom, coordinator, provider):
    started = coordinator()
    provider(started, script={"text": "a b c d e f", "fail_status": 500, "fail_text": "internal error", "fail_after_tokens": 3})
    result = darkbloom("chat", "--url", started.url, "hello", DARKBLOOM_API_KEY=started.key)
    assert result.returncode == 1
    assert result.stdout.startswith("a b c")
    assert "darkbloom chat:" in result.stderr


def test_an_unknown_model_is_named(darkbloom, coordinator):
    started = coordinator()
    result = darkbloom("chat", "--url", started.url, "--model", "acme/none", "hello", DARKBLOOM_API_KEY=started.key)
    assert result.returncode == 1
    assert "offers this model" in result.stderr


# --- a conversation on a terminal ---

class Terminal:
    """A program on a pseudo-terminal of its own, so that Ctrl-C is a signal as a person sends it."""

    def __init__(self, words, env, cwd):
        self.seen = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            os.execve(words[0], words, env)
        self.status = None

    def type(self, text):
        os.write(self.fd, text.encode())

    def read(self, seconds):
        ready, _, _ = select.select([self.fd], [], [], seconds)
        if not ready:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # the other side is closed
            return False
        self.seen += data.decode(errors="replace")
        return bool(data)

    def expect(self, pattern, seconds=60):
        """Waits for the pattern in what comes from now on; what is before it is forgotten."""
        deadline = time.monotonic() + seconds * PATIENCE
        while True:
            found = re.search(pattern, self.seen)
            if found:
                self.seen = self.seen[found.end():]
                return found
            if time.monotonic() > deadline:
                raise Failed(f"waited for {pattern!r}, saw {self.seen!r}")
            self.read(0.1)

    def ended(self):
        if self.status is None:
            self.read(0.01)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = status
                while self.read(1):  # what it said last
                    pass
        return self.status is not None

    def close(self):
        if not self.ended():
            os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)
        os.close(self.fd)


@pytest.fixture
def terminal(tmp_path):
    opened = []

    def make(*words, **more):
        opened.append(Terminal([str(word) for word in (DARKBLOOM, *words)], environment(tmp_path, TERM="xterm", **more), tmp_path))
        return opened[-1]
    yield make
    for one in opened:
        one.close()


PROMPT = r"> \x1b\[0m"
SLOW = {"text": "again and ", "tokens": 100000, "token_delay_ms": 20}


def test_ctrl_c_stops_the_answer_and_the_conversation_goes_on(terminal, coordinator, provider):
    started = coordinator()
    made = provider(started, script=SLOW)
    chat = terminal("chat", "--url", started.url, DARKBLOOM_API_KEY=started.key)
    chat.expect(PROMPT)
    chat.type("hello\n")
    chat.expect("again and again")
    chat.type("\x03")
    chat.expect(r"\(stopped\)")
    chat.expect(PROMPT)
    wait_until(lambda: made.status()["requests_active"] == 0, "the engine to be free again")
    chat.type("once more\n")
    chat.expect("again and again")
    chat.type("\x03")
    chat.expect(PROMPT)
    chat.type("\x04")
    wait_until(chat.ended, "the chat to end")
    assert os.waitstatus_to_exitcode(chat.status) == 0


def test_ctrl_c_at_the_prompt_forgets_the_line_and_ctrl_d_leaves(terminal, coordinator, provider):
    started = coordinator()
    provider(started, script={})
    chat = terminal("chat", "--url", started.url, DARKBLOOM_API_KEY=started.key)
    chat.expect(PROMPT)
    chat.type("half a que")
    chat.type("\x03")
    chat.expect(PROMPT)
    chat.type("hello\n")
    answer = chat.expect(r"echo [0-9a-f ]+").group().strip()
    digest = hashlib.sha256(b"hello").hexdigest()
    assert answer.replace("echo ", "").replace(" ", "").startswith(digest[:6])
    chat.expect(PROMPT)
    chat.type("\x04")
    wait_until(chat.ended, "the chat to end")


def test_commands_of_the_conversation(terminal, coordinator, provider):
    started = coordinator()
    provider(started, script=SHORT)
    chat = terminal("chat", "--url", started.url, DARKBLOOM_API_KEY=started.key)
    chat.expect(PROMPT)
    chat.type("/help\n")
    chat.expect("/model ID")
    chat.type("/stats\n")
    chat.expect(PROMPT)
    chat.type("one two\n")
    chat.expect(r"\[2 \+ 5 tokens")
    chat.expect(PROMPT)
    chat.type("three\n")
    chat.expect(r"\[8 \+ 5 tokens")  # the first question and its answer are part of it
    chat.type("/new\n")
    chat.type("one two\n")
    chat.expect(r"\[2 \+ 5 tokens")
    chat.type("/model acme/none\n")
    chat.type("hello\n")
    chat.expect("acme/none")
    chat.expect("darkbloom chat:")
    chat.expect(PROMPT)
    chat.type("/quit\n")
    wait_until(chat.ended, "the chat to end")
    assert os.waitstatus_to_exitcode(chat.status) == 0


def test_an_interrupted_single_answer_ends_by_the_signal(terminal, coordinator, provider):
    started = coordinator()
    provider(started, script=SLOW)
    chat = terminal("chat", "--url", started.url, "hello", DARKBLOOM_API_KEY=started.key)
    chat.expect("again and again")
    chat.type("\x03")
    wait_until(chat.ended, "the chat to end")
    assert os.waitstatus_to_exitcode(chat.status) == -2


def test_an_answer_cannot_drive_the_terminal(terminal, darkbloom, coordinator, provider):
    started = coordinator()
    provider(started, script={"text": "red \x1b[31malert \x07bell \u009b2Jclear end"})
    chat = terminal("chat", "--url", started.url, "hello", DARKBLOOM_API_KEY=started.key)
    wait_until(chat.ended, "the chat to end")
    assert "red [31malert bell 2Jclear end" in chat.seen
    piped = darkbloom("chat", "--url", started.url, "hello", DARKBLOOM_API_KEY=started.key)
    assert piped.stdout == "red \x1b[31malert \x07bell \u009b2Jclear end\n"  # a file gets what the model said


# --- status ---

def test_status_follows_the_provider(darkbloom, coordinator, provider):
    started = coordinator()
    made = provider(started, script=SHORT)
    wait_until(lambda: made.status().items() >= {"connection": "registered", "trust_level": "self_signed"}.items(), "the state file")
    text = darkbloom("status", "--state-dir", made.state)
    assert text.returncode == 0
    for word in ("running", started.ws_url, "registered", "self_signed", "scripted"):
        assert word in text.stdout
    assert made.terminate() == 0
    result = darkbloom("status", "--state-dir", made.state)
    assert result.returncode == 0
    assert "not running" in result.stdout


def test_status_of_a_killed_provider_says_that_it_does_not_run(darkbloom, coordinator, provider):
    started = coordinator()
    made = provider(started, script=SHORT)
    wait_until(lambda: made.status().get("pid") == made.pid, "the state file")
    made.kill()
    assert made.status()["running"] is False


def test_status_of_a_damaged_state_file_is_an_error(darkbloom, tmp_path):
    (tmp_path / "daemon-state.json").write_text('{"schema": 1, ')
    result = darkbloom("status", "--state-dir", tmp_path)
    assert result.returncode == 1
    assert "daemon-state.json" in result.stderr


# --- models ---

class Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass


@pytest.fixture
def served(tmp_path):
    """A folder with a model and its manifest, served over HTTP; the URL of the manifest."""
    folder = tmp_path / "served"
    folder.mkdir()
    content = os.urandom(3_000_000)
    (folder / "tiny.Q4_1.gguf").write_bytes(content)
    digest = hashlib.sha256(content)
    (folder / "manifest.json").write_text(json.dumps({
        "schema_version": 1, "model_id": "acme/tiny", "version": "1", "aggregate_sha256": hashlib.sha256(digest.digest()).hexdigest(),
        "total_size_bytes": len(content), "file_count": 1, "created_at": "2026-01-01T00:00:00Z",
        "files": [{"path": "tiny.Q4_1.gguf", "size_bytes": len(content), "sha256": digest.hexdigest(), "role": "weight"}]}))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Files, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/manifest.json", folder
    server.shutdown()
    thread.join()
    server.server_close()


def test_pull_list_verify(darkbloom, served, tmp_path):
    url, folder = served
    models = tmp_path / "models"
    result = darkbloom("models", "pull", url, "--models-dir", models)
    assert result.returncode == 0, result.stderr
    assert "acme/tiny is in" in result.stdout
    listed = json.loads(darkbloom("models", "list", "--json", "--models-dir", models).stdout)["models"]
    assert [(entry["id"], entry["quantization"], entry["size_bytes"]) for entry in listed] == [("acme/tiny", "Q4_1", 3_000_000)]
    assert listed[0]["weight_hash"] == json.loads((folder / "manifest.json").read_text())["aggregate_sha256"]
    assert darkbloom("models", "verify", "--models-dir", models).returncode == 0
    weights = models / "acme--tiny/tiny.Q4_1.gguf"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    changed = darkbloom("models", "verify", "acme/tiny", "--models-dir", models)
    assert changed.returncode == 1
    assert "differs from its manifest" in changed.stderr
    assert darkbloom("models", "pull", url, "--models-dir", models).returncode == 0
    assert darkbloom("models", "verify", "acme/tiny", "--models-dir", models).returncode == 0
    assert sorted(path.name for path in models.iterdir()) == ["acme--tiny"]


def test_a_file_that_the_server_lacks_is_a_network_failure(darkbloom, served, tmp_path):
    url, folder = served
    (folder / "tiny.Q4_1.gguf").unlink()
    result = darkbloom("models", "pull", url, "--models-dir", tmp_path / "models")
    assert result.returncode == NETWORK
    assert "404" in result.stderr
    assert "goes on from there" in result.stderr


def test_a_file_that_differs_from_the_manifest_fails(darkbloom, served, tmp_path):
    url, folder = served
    (folder / "tiny.Q4_1.gguf").write_bytes(os.urandom(3_000_000))
    result = darkbloom("models", "pull", url, "--models-dir", tmp_path / "models")
    assert result.returncode == 1
    assert "hash" in result.stderr
    assert json.loads(darkbloom("models", "list", "--json", "--models-dir", tmp_path / "models").stdout)["models"] == []
