"""The prefix cache of a provider: what is found again, by whom, after a restart, and what lies on the disk."""

import json
import os
import re
import subprocess
import sys

import pytest

from harness import BIN, BUILD, PATIENCE, TOP, Failed, environment, wait_until

KINDS = ("full", "swa", "recurrent", "hybrid")
CANARY = "quixotic-canary-of-the-cache"
LONG = f"{CANARY} " + "the ship carried letters from a town where people light lamps. " * 8


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A folder with small random models, one for each way of remembering."""
    folder = tmp_path_factory.mktemp("tiny")
    subprocess.run([sys.executable, TOP / "tests/models/make_tiny_models.py", folder], check=True, timeout=120 * PATIENCE)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("tier", ["ram", "ssd"])
@pytest.mark.parametrize("kind", KINDS)
def test_greedy_answers_are_the_same_with_the_cache_as_without(tiny, tmp_path, kind, tier):
    result = subprocess.run([BUILD / "bench/bench_cache", "identical", tier, "2", tiny / f"{kind}.gguf"], capture_output=True, text=True,
                            env=environment(tmp_path, BENCH_THREADS="1", TMPDIR=str(tmp_path)), timeout=180 * PATIENCE)
    assert result.returncode == 0, result.stderr
    assert f"bench cache_identical_pct_{tier} 100.00 percent" in result.stdout, result.stderr


@pytest.mark.slow
def test_the_real_model_answers_the_same_with_the_cache_as_without(tmp_path):
    model = TOP / "build/deps/models/SmolLM2-135M-Instruct.Q4_1.gguf"
    result = subprocess.run([BUILD / "bench/bench_cache", "identical", "ssd", "1", model], capture_output=True, text=True,
                            env=environment(tmp_path, BENCH_THREADS="1", TMPDIR=str(tmp_path)), timeout=300 * PATIENCE)
    assert "bench cache_identical_pct_ssd 100.00 percent" in result.stdout, result.stderr


@pytest.fixture
def served(tiny, tmp_path, coordinator, provider):
    """A provider of the tiny model with its cache in a folder of this test; (coordinator, provider, cache folder)."""
    models = tmp_path / "models"
    subprocess.run([BIN / "darkbloom", "models", "pull", tiny / "full.gguf", "--id", "tiny", "--models-dir", models], check=True,
                   capture_output=True, env=environment(tmp_path), timeout=60 * PATIENCE)
    cache = tmp_path / "cache"
    node = coordinator()
    # No state is dropped because the disk is slow.
    made = provider(node, model="tiny", models_dir=models, DARKBLOOM_PREFIX_CACHE_DIR=str(cache), DARKBLOOM_KV_CAPTURE_MAX_INFLIGHT="64")
    return node, made, cache


def cached_tokens(node, text=LONG, **body):
    answer = node.chat("tiny", text, max_tokens=4, temperature=0, **body)
    assert answer.status_code == 200, answer.text
    usage = answer.json()["usage"]
    return usage["prompt_tokens_details"]["cached_tokens"] if "prompt_tokens_details" in usage else 0, usage["prompt_tokens"]


def files_of(cache):
    return [path for path in cache.rglob("*.darkbloom-kv") if path.is_file()]


def wait_for_files(made, cache, count):
    """A state that was dropped and one that is late look the same on the disk: the counters tell them apart."""
    try:
        wait_until(lambda: len(files_of(cache)) == count, f"{count} states on disk", 30 * PATIENCE)
    except Failed as late:
        raise Failed(f"{late}: {made.status()['prefix_cache']}\n{made.log()[-4000:]}") from None


def test_a_prompt_is_found_again_by_its_own_key_only_and_after_a_restart(served):
    node, made, cache = served
    cached, prompt = cached_tokens(node, prompt_cache_key="one")
    assert cached == 0 and prompt > 512
    cached, _ = cached_tokens(node, prompt_cache_key="one")
    assert prompt - 64 <= cached < prompt
    assert cached_tokens(node, prompt_cache_key="two")[0] == 0
    assert cached_tokens(node)[0] == 0
    wait_for_files(made, cache, 3)
    # A call that a busy machine had to begin again is looked up again.
    wait_until(lambda: made.status()["prefix_cache"]["misses"] >= 3, "the counters of the cache", 30 * PATIENCE)
    counters = made.status()["prefix_cache"]
    assert counters["on"] and counters["lookups"] >= 4 and counters["hits_ram"] >= 1 and counters["write_drops"] == 0, counters
    assert counters["tokens_saved"] >= prompt - 64 and counters["bytes_written"] >= counters["disk_bytes"] > 0
    assert counters["secret"] == "file"  # what guards it, for `darkbloom status`
    assert made.terminate() == 0
    made.start()
    node.wait_routable("tiny", 1)
    cached, _ = cached_tokens(node, prompt_cache_key="one")
    assert prompt - 64 <= cached < prompt
    assert cached_tokens(node, prompt_cache_key="three")[0] == 0


def test_nothing_of_a_prompt_can_be_read_in_the_cache_folder(served):
    node, made, cache = served
    cached_tokens(node, prompt_cache_key="secret-key-of-the-user")
    wait_until(lambda: files_of(cache), "a state on disk", 30 * PATIENCE)
    assert made.terminate() == 0
    # The model's tokens are bytes, with 4 added: as text, as 32-bit and as 64-bit numbers.
    needles = [CANARY.encode(), b"secret-key-of-the-user", b"letters from"]
    for width in (4, 8):
        needles.append(b"".join((byte + 4).to_bytes(width, "little") for byte in CANARY.encode()[:8]))
    everything = [path for path in cache.rglob("*") if path.is_file()]
    assert everything
    for path in everything:
        content = path.read_bytes() + str(path).encode()
        for needle in needles:
            assert needle not in content, path
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_damaged_cache_is_a_cold_start_and_nothing_worse(served):
    node, made, cache = served
    first = node.chat("tiny", LONG, max_tokens=8, temperature=0, prompt_cache_key="one").json()["choices"][0]["message"]["content"]
    wait_until(lambda: files_of(cache), "a state on disk", 30 * PATIENCE)
    assert made.terminate() == 0
    for path in files_of(cache):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0x10
        path.write_bytes(content)
    made.start()
    node.wait_routable("tiny", 1)
    answer = node.chat("tiny", LONG, max_tokens=8, temperature=0, prompt_cache_key="one").json()
    assert answer["choices"][0]["message"]["content"] == first
    assert answer["usage"].get("prompt_tokens_details", {}).get("cached_tokens", 0) == 0


def run(tmp_path, *words, **more):
    return subprocess.run([BIN / "darkbloom", *words], capture_output=True, text=True, env=environment(tmp_path, **more), timeout=60 * PATIENCE)


@pytest.mark.parametrize("choice", ["secure", "tpm", "secure_enclave"])
def test_a_provider_whose_secret_must_be_sealed_does_not_start_without_hardware(tmp_path, choice):
    if sys.platform == "darwin" and choice != "tpm":
        pytest.skip("this Mac may have a Secure Enclave")
    started = run(tmp_path, "start", "--foreground", "--coordinator-url", "ws://127.0.0.1:9", "--state-dir", tmp_path / "state",
                  DARKBLOOM_PREFIX_CACHE_SECRET=choice, DARKBLOOM_PREFIX_CACHE_TPM="device:/nonexistent/tpm")
    assert started.returncode != 0
    assert f'cache.secret = "{choice}"' in started.stderr, started.stderr
    assert not list((tmp_path / "state").glob("kv_secret*"))


def test_what_is_kept_can_be_shown_and_erased(served, tmp_path):
    node, made, cache = served
    cached_tokens(node, prompt_cache_key="one")
    wait_until(lambda: files_of(cache), "a state on disk", 30 * PATIENCE)
    settings = {"DARKBLOOM_PREFIX_CACHE_DIR": str(cache)}
    shown = json.loads(run(tmp_path, "cache", "status", "--json", **settings).stdout)
    assert shown["enabled"] and shown["slots"] == [{"files": 1, "bytes": files_of(cache)[0].stat().st_size, "in_use": True}]
    erased = run(tmp_path, "cache", "erase", **settings)
    assert erased.returncode == 0, erased.stderr
    wait_until(lambda: not files_of(cache), "the files to go", 30 * PATIENCE)
    assert cached_tokens(node, prompt_cache_key="one")[0] == 0


def test_the_cache_can_be_turned_off(tiny, tmp_path, coordinator, provider):
    models = tmp_path / "models"
    subprocess.run([BIN / "darkbloom", "models", "pull", tiny / "full.gguf", "--id", "tiny", "--models-dir", models], check=True,
                   capture_output=True, env=environment(tmp_path), timeout=60 * PATIENCE)
    node = coordinator()
    provider(node, model="tiny", models_dir=models, DARKBLOOM_PREFIX_CACHE="off")
    assert cached_tokens(node, prompt_cache_key="one")[0] == 0
    assert cached_tokens(node, prompt_cache_key="one")[0] == 0


@pytest.mark.parametrize("settings, word", [
    ({"DARKBLOOM_PREFIX_CACHE": "perhaps"}, "cache.enabled"),
    ({"DARKBLOOM_PREFIX_CACHE_DISK_GB": "much"}, "cache.disk_gb"),
    ({"DARKBLOOM_PREFIX_CACHE_MAX_GB": "-1"}, "cache.ram_gb"),
])
def test_settings_that_make_no_sense_are_refused_with_their_name(tmp_path, settings, word):
    result = run(tmp_path, "cache", "status", **settings)
    assert result.returncode != 0
    assert re.search(re.escape(word), result.stderr), result.stderr


def test_the_settings_can_come_from_a_file(tmp_path):
    config = tmp_path / "provider.toml"
    config.write_text('[cache]\nenabled = "off"\nram_gb = "0.5"\n')
    shown = json.loads(run(tmp_path, "cache", "status", "--json", "--config", str(config)).stdout)
    assert shown["enabled"] is False
    assert os.path.basename(shown["folder"]) == "kv"
