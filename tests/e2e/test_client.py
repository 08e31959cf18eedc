"""`darkbloom chat --sealed | --blind`, the C library, and the examples, against real programs."""

import json
import subprocess
import sys

import pytest

from harness import BIN, BUILD, NODE, PATIENCE, TOP, environment
from sealing import MNEMONIC

SCRIPT = {"text": "a scripted answer of several words"}


@pytest.fixture
def house(coordinator, provider):
    made = coordinator(MNEMONIC=MNEMONIC)
    provider(made, script=SCRIPT)
    return made


def chat(house, *words):
    return subprocess.run([BIN / "darkbloom", "chat", "--url", house.url, "--json-stats", *words, "hello there"], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, env=environment(house.folder, DARKBLOOM_API_KEY=house.key), timeout=60 * PATIENCE)


@pytest.mark.parametrize("mode", [[], ["--sealed"], ["--blind"]])
def test_chat_answers_in_every_mode(house, mode):
    result = chat(house, *mode)
    assert (result.returncode, result.stdout) == (0, "a scripted answer of several words\n"), result.stderr
    stats = json.loads(result.stderr)
    assert stats["prompt_tokens"] == 2 and stats["completion_tokens"] == 6 and stats["trust_level"] == "self_signed"
    counts = house.metrics()
    assert counts.get('darkbloom_sealed_total{outcome="opened"}', 0) == (mode == ["--sealed"])
    house.check_books()


def test_chat_talks_blind_to_the_provider_with_a_known_key_only(house):
    key = house.providers()[0]["se_public_key"]
    assert chat(house, "--blind", "--provider-key", key).returncode == 0
    refused = chat(house, "--blind", "--provider-key", "A" * 86 + "==")
    assert refused.returncode == 1 and "not among the trusted ones" in refused.stderr
    assert chat(house, "--provider-key", key).returncode == 2
    assert chat(house, "--sealed", "--blind").returncode == 2


def test_more_tokens_may_be_allowed_than_a_context_has_room_for(coordinator, provider):
    made = coordinator()
    provider(made, options=("--context", "2048"))
    for mode in ([], ["--blind"]):
        result = chat(made, *mode, "--temperature", "0")  # without --max-tokens: 8,192
        assert result.returncode == 0 and result.stdout.strip(), result.stderr


def test_chat_says_what_went_wrong_under_seal(coordinator, house):
    for mode in ("--sealed", "--blind"):
        result = chat(house, mode, "--model", "no-such-model")
        assert result.returncode == 1 and "model" in result.stderr.lower(), result.stderr
    unsealed = coordinator()
    result = chat(unsealed, "--sealed", "--model", "scripted")
    assert result.returncode == 1 and "no key for the sealed transport" in result.stderr


# --- the examples, as a reader runs them ---

EXAMPLES = ["sealed.py", "blind.py", "sealed.mjs", "blind.mjs"]


def example(house, tmp_path, name, *words):
    """Runs a copy of the example, beside the packages that its first lines say to install."""
    folder = tmp_path / "examples"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text((TOP / "examples" / name).read_text())
    packages = folder / "node_modules"
    if not packages.exists():
        packages.symlink_to(TOP / "tests/node/node_modules")
    program = [NODE] if name.endswith(".mjs") else [sys.executable]
    return subprocess.run([*program, folder / name, *words], capture_output=True, text=True, timeout=120 * PATIENCE,
                          env=environment(tmp_path, DARKBLOOM_URL=house.url, DARKBLOOM_API_KEY=house.key))


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_short_and_works(house, tmp_path, name):
    assert len((TOP / "examples" / name).read_text().splitlines()) < 100
    result = example(house, tmp_path, name, "scripted", "What is the capital of France?")
    assert (result.returncode, result.stdout) == (0, "a scripted answer of several words\n"), result.stderr
    opened = house.metrics().get('darkbloom_sealed_total{outcome="opened"}', 0)
    assert opened == name.startswith("sealed")
    refused = example(house, tmp_path, name, "no-such-model", "hello")
    assert refused.returncode == 1 and "model" in refused.stderr.lower(), refused.stderr
    house.check_books()


@pytest.mark.parametrize("name", ["blind.py", "blind.mjs"])
def test_an_example_of_blind_mode_keeps_to_a_known_provider(house, tmp_path, name):
    key = house.providers()[0]["se_public_key"]
    assert example(house, tmp_path, name, "scripted", "hello", key).returncode == 0
    refused = example(house, tmp_path, name, "scripted", "hello", "A" * 86 + "==")
    assert refused.returncode == 1 and "no provider with this key" in refused.stderr


# --- the C library, from outside ---


def library(house, mode, model="scripted", *more):
    result = subprocess.run([BUILD / "testbin/client_chat", house.url + "/", house.key, mode, model, "hello there", *more], capture_output=True, text=True,
                            env=environment(house.folder), timeout=60 * PATIENCE)
    assert result.returncode == 0, result.stdout + result.stderr
    lines = result.stdout.splitlines()
    said = [json.loads(line[6:]) for line in lines if line.startswith("event {")]
    return "".join(choice["delta"].get("content") or "" for one in said for choice in one["choices"]), [line for line in lines if line.startswith("result ")]


@pytest.mark.parametrize("mode", ["clear", "sealed", "blind"])
def test_the_library_answers_in_every_mode(house, mode):
    text, results = library(house, mode)
    assert text.startswith("a scripted answer of several words")
    assert results[0] == f"result 0 status 200 tokens {'2+6' if mode == 'blind' else '0+0'} error "
    assert results[1].startswith("result -1") and results[1].endswith("error stopped")
    house.check_books()


def test_the_library_says_what_went_wrong(house):
    for mode in ("clear", "sealed", "blind"):
        text, results = library(house, mode, "no-such-model")
        assert text == "" and results[0].startswith("result -1 status 404"), results
    text, results = library(house, "blind", "scripted", "A" * 86 + "==")
    assert text == "" and "not among the trusted ones" in results[0]
