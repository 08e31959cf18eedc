"""The programs from their first start to their last: configuration, keys, drain, restarts, and what the command line says."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import time

import httpx
import pytest

import patient
from harness import BIN, BUILD, GGUF, MODEL, PATIENCE, TOP, Program, environment, free_port, wait_until
from test_failover import contents, in_background, stream_events


def darkbloom(home, *arguments, text=None, **more):
    """Runs a command of the provider's program to its end."""
    return subprocess.run([BIN / "darkbloom", *map(str, arguments)], capture_output=True, text=True, input=text, cwd=home,
                          env=environment(home, **more), timeout=60 * PATIENCE)


def coordinator_command(home, *arguments, **more):
    return subprocess.run([BIN / "darkbloom-coordinator", *map(str, arguments)], capture_output=True, text=True, cwd=home,
                          env=environment(home, **more), timeout=60 * PATIENCE)


def run_coordinator(programs, folder, name, *arguments, **more):
    """A coordinator as a user starts it, without the harness's settings."""
    program = Program(name, folder)
    programs.append(program)
    program.launch([BIN / "darkbloom-coordinator", *arguments], **more)
    return program


# --- the first start ---


def test_it_starts_with_no_configuration_and_shows_a_key_once(programs, tmp_path):
    first = run_coordinator(programs, tmp_path, "first", "--port", "0", "--port-file", tmp_path / "port")
    wait_until((tmp_path / "port").exists, "the first start")
    key = re.search(r"shown this once: (sk-db-\S+)", first.out()).group(1)
    port = int((tmp_path / "port").read_text())
    assert f"http://127.0.0.1:{port}" in first.out()
    headers = {"Authorization": f"Bearer {key}"}
    balance = patient.get(f"http://127.0.0.1:{port}/v1/payments/balance", headers=headers).json()
    assert balance["balance_micro_usd"] == 10_000_000
    assert key not in first.log()
    database = tmp_path / ".local/share/darkbloom/coordinator/coordinator.db"
    assert stat.S_IMODE(database.stat().st_mode) == 0o600
    assert stat.S_IMODE(database.parent.stat().st_mode) == 0o700
    assert first.terminate() == 0

    (tmp_path / "port").unlink()
    second = run_coordinator(programs, tmp_path, "second", "--port", "0", "--port-file", tmp_path / "port")
    wait_until((tmp_path / "port").exists, "the second start")
    assert "sk-db-" not in second.out() + second.log()
    port = int((tmp_path / "port").read_text())
    assert patient.get(f"http://127.0.0.1:{port}/v1/payments/balance", headers=headers).json() == balance


def test_the_key_file_is_for_the_owner_only(coordinator):
    node = coordinator()
    assert re.fullmatch(r"sk-db-\S{30,}", node.key)
    assert stat.S_IMODE(node.key_file.stat().st_mode) == 0o600
    assert node.key not in node.out() + node.log()
    first = node.key_file.stat().st_ino
    node.restart()
    assert node.key_file.stat().st_ino == first, "a second start writes no key"
    assert node.balance() == 10_000_000


def test_more_keys_and_credit_come_from_the_command_line(coordinator, tmp_path, api):
    node = coordinator()
    assert node.terminate() == 0
    made = node.command("keys", "create", "--name", "laptop", "--key-file", str(tmp_path / "second.key"))
    assert made.returncode == 0, made.stderr
    credited = node.command("credit", "owner", "2.50")
    assert credited.returncode == 0, credited.stderr
    assert node.command("credit", "nobody", "1").returncode != 0
    assert node.command("credit", "owner", "lots").returncode != 0
    node.start()
    assert node.balance() == 12_500_000
    second = api(node, key=(tmp_path / "second.key").read_text().strip())
    assert second.get("/v1/payments/balance").json()["balance_micro_usd"] == 12_500_000
    node.check_books()


# --- configuration ---


def test_check_config_accepts_what_is_right(tmp_path):
    (tmp_path / "good.toml").write_text('[server]\nport = 9000\n[trust]\nmin_trust = "none"\nbackends = ["mlx-swift"]\n')
    checked = coordinator_command(tmp_path, "--config", "good.toml", "--check-config")
    assert checked.returncode == 0, checked.stderr
    assert "right" in checked.stdout
    assert not (tmp_path / ".local").exists(), "nothing is made"
    assert coordinator_command(tmp_path, "--check-config").returncode == 0


@pytest.mark.parametrize("text, words", [("[server]\nprot = 1\n", ["prot", "port"]), ("[server]\nport = 70000\n", ["server.port", "65535"]),
                                         ("[server]\nport = \"x\"\n", ["server.port"]), ("[trust]\nmin_trust = \"total\"\n", ["trust.min_trust", "self_signed"]),
                                         ("[server\n", ["line 1"]), ("[nothing]\nx = 1\n", ["nothing"]), ("[server]\nport = 1\nport = 2\n", ["port"]),
                                         ("[server]\ntls_cert = \"x.pem\"\n", ["tls_key"]), ("[accounts]\nfirst_grant_usd = \"lots\"\n", ["first_grant_usd"])])
def test_check_config_names_what_is_wrong(tmp_path, text, words):
    (tmp_path / "bad.toml").write_text(text)
    checked = coordinator_command(tmp_path, "--config", "bad.toml", "--check-config")
    assert checked.returncode == 3
    for word in words:
        assert word in checked.stderr
    assert coordinator_command(tmp_path, "--config", "bad.toml").returncode == 3, "and it does not start with it"


def test_a_missing_configuration_file_is_an_error(tmp_path):
    checked = coordinator_command(tmp_path, "--config", "absent.toml", "--check-config")
    assert checked.returncode == 3
    assert "absent.toml" in checked.stderr


def test_the_environment_overrides_the_file(tmp_path):
    (tmp_path / "good.toml").write_text("[server]\nport = 9000\n")
    wrong = coordinator_command(tmp_path, "--config", "good.toml", "--check-config", DARKBLOOM_PORT="x")
    assert wrong.returncode == 3
    assert "DARKBLOOM_PORT" in wrong.stderr
    assert coordinator_command(tmp_path, "--config", "good.toml", "--check-config", DARKBLOOM_PORT="0").returncode == 0


def test_a_port_in_use_is_said_in_a_sentence(coordinator, programs, tmp_path):
    node = coordinator()
    second = coordinator_command(tmp_path, "--port", node.port)
    assert second.returncode == 5
    assert str(node.port) in second.stderr and "in use" in second.stderr
    assert node.client.get("/health").status_code == 200


def test_a_second_coordinator_on_the_same_books_is_refused(coordinator):
    node = coordinator()
    second = node.command("serve", "--port", "0")
    assert second.returncode != 0
    assert len(second.stderr.strip().splitlines()[-1]) > 20
    assert node.client.get("/health").status_code == 200


# --- serving and stopping ---


WORDS = "one two three four five six seven eight nine ten"
LONG = {"text": WORDS, "token_delay_ms": 300}  # an answer that is still under way when the test has looked at it


UNSAID = {"version": "", "build_commit": "", "build_date": ""}  # these depend on the build


def test_health_and_readiness(coordinator, provider):
    node = coordinator()
    assert patient.get(node.url + "/health").json() | UNSAID == {"status": "ok", "providers": 0} | UNSAID
    assert patient.get(node.url + "/readyz").json() == {"draining": False, "inflight": 0, "ready": True}
    provider(node, {"text": "hi"})
    assert patient.get(node.url + "/health").json()["providers"] == 1
    assert patient.head(node.url + "/health").status_code == 200


def test_encryption_key_comes_from_the_mnemonic(coordinator):
    words = "abandon " * 11 + "about"
    node = coordinator(MNEMONIC=words)
    answer = patient.get(node.url + "/v1/encryption-key")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "public, max-age=300"
    assert answer.json()["algorithm"] == "x25519-nacl-box"
    # chapter protocol-and-trust 4.6, computed with other libraries
    import base64
    import hashlib

    import nacl.public
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    seed = hashlib.pbkdf2_hmac("sha512", words.encode(), b"mnemonic", 2048, 64)
    private = HKDF(SHA256(), 32, None, b"eigeninference-coordinator-e2e-v1").derive(seed)
    public = bytes(nacl.public.PrivateKey(private).public_key)
    assert answer.json()["public_key"] == base64.b64encode(public).decode()
    assert answer.json()["kid"] == hashlib.sha256(public).hexdigest()[:16]
    without = coordinator()
    assert patient.get(without.url + "/v1/encryption-key").status_code == 503


def test_sigterm_lets_running_streams_finish(coordinator, provider):
    node = coordinator({"server": {"drain_grace_s": 120}})
    serving = provider(node, LONG)
    answer = in_background(lambda: list(stream_events(node.client, "scripted")))
    wait_until(lambda: node.metrics()["darkbloom_relayed_chunks_total"] > 1, "content")
    serving.freeze()
    node.send(signal.SIGTERM)
    wait_until(lambda: patient.get(node.url + "/readyz").status_code == 503, "it to drain")
    assert patient.get(node.url + "/readyz").json() == {"draining": True, "inflight": 1, "ready": False}
    assert patient.get(node.url + "/health").json()["draining"] is True
    refused = patient.post(node.url + "/v1/chat/completions", json={})
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "3"
    serving.thaw()
    events = answer()
    assert contents(events) == WORDS
    assert events[-1] == "[DONE]"
    assert node.wait() == 0
    assert node.audit()["open_holds"] == 0
    node.start()
    assert len(node.usage()) == 1


def test_drain_ends_with_its_grace(coordinator, provider):
    node = coordinator({"server": {"drain_grace_s": 1}})
    provider(node, {"text": "word", "tokens": 100000, "token_delay_ms": 20})
    answer = in_background(lambda: list(stream_events(node.client, "scripted")))
    wait_until(lambda: node.metrics()["darkbloom_relayed_chunks_total"] > 1, "content")
    assert node.terminate() == 0
    with pytest.raises((httpx.HTTPError, AssertionError)):
        events = answer()
        assert "[DONE]" in events
    assert node.audit()["open_holds"] == 0
    node.start()
    assert node.balance() == 10_000_000 - node.audit()["charged_micro_usd"]


def test_a_second_signal_ends_at_once(coordinator, provider):
    node = coordinator({"server": {"drain_grace_s": 600}})
    provider(node, {"text": "word", "tokens": 100000, "token_delay_ms": 20})
    answer = in_background(lambda: list(stream_events(node.client, "scripted")))
    wait_until(lambda: node.metrics()["darkbloom_relayed_chunks_total"] > 1, "content")
    node.send(signal.SIGTERM)
    wait_until(lambda: patient.get(node.url + "/readyz").status_code == 503, "it to drain")
    node.send(signal.SIGINT)
    assert node.wait() == 0
    try:
        answer()
    except httpx.HTTPError:
        pass


def test_providers_come_back_after_a_restart(coordinator, provider):
    node = coordinator()
    serving = provider(node, {"text": "hi"})
    before = serving.pid
    for count, end in enumerate((node.terminate, node.kill, node.terminate), 1):
        end()
        node.start()
        node.wait_routable("scripted")
        assert node.chat("scripted").status_code == 200
        assert len(node.usage()) == count
    assert serving.pid == before
    node.check_books()


def test_a_provider_finishes_its_answers_before_it_leaves(coordinator, provider):
    node = coordinator()
    serving = provider(node, LONG)
    answer = in_background(lambda: list(stream_events(node.client, "scripted")))
    wait_until(lambda: node.metrics()["darkbloom_relayed_chunks_total"] > 1, "content")
    serving.send(signal.SIGTERM)
    wait_until(lambda: node.routable("scripted") == 0, "it to be passed over")
    events = answer()
    assert contents(events) == WORDS
    assert events[-1] == "[DONE]"
    assert serving.wait() == 0
    wait_until(lambda: not node.providers(), "it to be gone")
    node.check_books()
    assert node.usage()[0]["completion_tokens"] == 10


def test_a_second_signal_makes_a_provider_leave_now(coordinator, provider):
    node = coordinator()
    serving = provider(node, {"text": "word", "tokens": 100000, "token_delay_ms": 20})
    answer = in_background(lambda: list(stream_events(node.client, "scripted")))
    wait_until(lambda: node.metrics()["darkbloom_relayed_chunks_total"] > 1, "content")
    serving.send(signal.SIGTERM)
    wait_until(lambda: "finishing" in serving.log(), "it to drain")
    serving.send(signal.SIGTERM)
    assert serving.wait() == 0
    answer()
    node.check_books()


# --- the provider's command line ---


def test_a_second_provider_on_the_same_state_folder_is_refused(coordinator, provider):
    node = coordinator()
    first = provider(node, {"text": "one"})
    second = subprocess.run(first.words, capture_output=True, text=True, env=environment(first.folder), timeout=60 * PATIENCE)
    assert second.returncode == 3, second.stderr
    assert f"process {first.pid}" in second.stderr
    assert node.chat("scripted").status_code == 200, "the first goes on"
    first.kill()
    first.kill()
    first.start()
    wait_until(lambda: first.status()["pid"] == first.pid, "a new one to take the folder over")


def test_status_tells_what_the_provider_does(coordinator, provider, tmp_path):
    node = coordinator()
    serving = provider(node, {"text": "one two"})
    assert node.chat("scripted").status_code == 200
    status = wait_until(lambda: (now := serving.status())["requests_served"] == 1 and now, "the provider to report it")
    assert status["running"] is True
    assert status["pid"] == serving.pid
    assert [(model["id"], model["state"]) for model in status["models"]] == [("scripted", "loaded")]
    assert status["trust_level"] == "self_signed"
    assert status["tokens_generated"] == 2
    text = darkbloom(tmp_path, "status", "--state-dir", serving.state).stdout
    assert "running" in text and "scripted" in text and "self_signed" in text
    assert stat.S_IMODE(serving.state.stat().st_mode) == 0o700
    assert serving.terminate() == 0
    stopped = darkbloom(tmp_path, "status", "--state-dir", serving.state)
    assert stopped.returncode == 0
    assert "not running" in stopped.stdout
    assert serving.status()["running"] is False


def test_status_of_a_killed_provider_is_not_running(coordinator, provider):
    node = coordinator()
    serving = provider(node, {"text": "hi"})
    wait_until(lambda: serving.status()["running"], "the state to be written")
    serving.kill()
    assert serving.status()["running"] is False


def test_chat_prints_one_answer(coordinator, provider, tmp_path):
    node = coordinator()
    provider(node, {"text": "The answer is 42."})
    answer = darkbloom(tmp_path, "chat", "--url", node.url, "--json-stats", "What is it?", DARKBLOOM_API_KEY=node.key)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == "The answer is 42.\n"
    stats = json.loads(answer.stderr.splitlines()[-1])
    assert stats["completion_tokens"] == 4
    piped = darkbloom(tmp_path, "chat", "--url", node.url, "--key-file", node.key_file, "--model", "scripted", text="What is it?\n")
    assert piped.stdout == "The answer is 42.\n"


def test_chat_says_what_is_wrong(coordinator, provider, tmp_path):
    node = coordinator()
    asked = ("chat", "--url", node.url, "hello")
    assert darkbloom(tmp_path, *asked).returncode != 0
    wrong = darkbloom(tmp_path, *asked, DARKBLOOM_API_KEY="sk-db-wrong")
    assert wrong.returncode == 4
    assert "key" in wrong.stderr.lower()
    empty = darkbloom(tmp_path, *asked, DARKBLOOM_API_KEY=node.key)
    assert empty.returncode != 0
    assert empty.stderr.strip()
    nobody = darkbloom(tmp_path, "chat", "--url", f"http://127.0.0.1:{free_port()}", "hello", DARKBLOOM_API_KEY=node.key)
    assert nobody.returncode == 5
    assert nobody.stderr.strip()


def test_start_says_what_is_missing(tmp_path):
    for arguments, word in ((["start"], "--foreground"), (["start", "--foreground"], "--coordinator-url"),
                            (["start", "--foreground", "--coordinator-url", "ftp://x"], "ftp"),
                            (["start", "--foreground", "--coordinator-url", "ws://127.0.0.1:1", "--models-dir", "empty"], "models pull"),
                            (["start", "--foreground", "--coordinator-url", "ws://127.0.0.1:1", "--model", "absent"], "absent"),
                            (["strat"], "start"), (["start", "--foregroundd"], "--foreground")):
        answer = darkbloom(tmp_path, *arguments)
        assert answer.returncode in (1, 2), arguments
        assert word in answer.stderr, (arguments, answer.stderr)


def test_a_provider_waits_for_its_coordinator(coordinator, provider):
    node = coordinator(start=False)
    serving = provider(node, {"text": "hi"}, wait=False)
    wait_until(lambda: serving.status().get("connection") == "connecting", "it to try")
    node.start()
    node.wait_routable("scripted")
    assert node.chat("scripted").status_code == 200


def test_models_are_pulled_listed_and_verified(tmp_path):
    folder = tmp_path / "models"
    assert darkbloom(tmp_path, "models", "list", "--models-dir", folder).returncode == 0
    pulled = darkbloom(tmp_path, "models", "pull", GGUF, "--id", "org/tiny", "--models-dir", folder)
    assert pulled.returncode == 0, pulled.stderr
    listed = json.loads(darkbloom(tmp_path, "models", "list", "--json", "--models-dir", folder).stdout)
    assert "org/tiny" in json.dumps(listed)
    assert "org/tiny" in darkbloom(tmp_path, "models", "list", "--models-dir", folder).stdout
    assert darkbloom(tmp_path, "models", "verify", "--models-dir", folder).returncode == 0
    assert darkbloom(tmp_path, "models", "verify", "absent", "--models-dir", folder).returncode != 0


def test_a_damaged_model_is_found(tmp_path):
    folder, copy = tmp_path / "models", tmp_path / "copy.gguf"
    data = bytearray(GGUF.read_bytes())
    copy.write_bytes(data)
    assert darkbloom(tmp_path, "models", "pull", copy, "--id", "tiny", "--models-dir", folder).returncode == 0
    data[len(data) // 2] ^= 1
    copy.write_bytes(data)
    verified = darkbloom(tmp_path, "models", "verify", "tiny", "--models-dir", folder)
    assert verified.returncode != 0
    assert "tiny" in verified.stdout + verified.stderr


def test_what_is_no_model_is_refused(tmp_path):
    (tmp_path / "text.gguf").write_text("this is no model")
    for source in ("text.gguf", "absent.gguf", "http://127.0.0.1:1/manifest.json"):
        pulled = darkbloom(tmp_path, "models", "pull", source, "--id", "tiny", "--models-dir", tmp_path / "models")
        assert pulled.returncode != 0, source
        assert pulled.stderr.strip(), source


def test_every_program_explains_itself(tmp_path):
    for program in ("darkbloom", "darkbloom-coordinator", "darkbloom-swarm"):
        for arguments, word in ((["--help"], "Usage:"), (["--version"], program), (["--man"], ".Dt")):
            said = subprocess.run([BIN / program, *arguments], capture_output=True, text=True, env=environment(tmp_path), timeout=60 * PATIENCE)
            assert said.returncode == 0, (program, arguments)
            assert word in said.stdout


# --- the demo ---


@pytest.mark.slow
def test_the_demo_answers_and_shows_the_path(tmp_path):
    demo = subprocess.run([TOP / "scripts/demo.sh", BIN], capture_output=True, text=True, timeout=200,
                          env=os.environ | {"DEMO_ONCE": "1", "DEMO_PORT": str(free_port()), "TMPDIR": str(tmp_path)})
    assert demo.returncode == 0, demo.stdout + demo.stderr
    for word in ("Paris", "self_signed", "signing key: software", "prompt +", "curl", "from openai import OpenAI"):
        assert word in demo.stdout, demo.stdout
    assert not list(tmp_path.iterdir()), "nothing is left behind"


@pytest.mark.slow
def test_the_demo_says_that_its_port_is_in_use(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        demo = subprocess.run([TOP / "scripts/demo.sh", BIN], capture_output=True, text=True, timeout=60,
                              env=os.environ | {"DEMO_ONCE": "1", "DEMO_PORT": str(taken.getsockname()[1]), "TMPDIR": str(tmp_path)})
    assert demo.returncode != 0
    assert "in use" in demo.stderr and "DEMO_PORT" in demo.stderr
