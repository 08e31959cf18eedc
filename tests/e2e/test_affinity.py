"""A conversation goes on where its beginning is kept, and only as long as that makes nobody wait."""

import concurrent.futures
import subprocess
import sys

import pytest

from harness import BIN, PATIENCE, TOP, environment, wait_until

TOWN = "the ship carried letters from a town where people light lamps. " * 8


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder of models with a small random one."""
    folder = tmp_path_factory.mktemp("tiny")
    subprocess.run([sys.executable, TOP / "tests/models/make_tiny_models.py", folder], check=True, timeout=120 * PATIENCE)
    subprocess.run([BIN / "darkbloom", "models", "pull", folder / "full.gguf", "--id", "tiny", "--models-dir", folder / "models"], check=True,
                   capture_output=True, env=environment(folder), timeout=60 * PATIENCE)
    return folder / "models"


@pytest.fixture
def machines(models, tmp_path, coordinator, provider):
    node = coordinator()
    return node, [provider(node, model="tiny", models_dir=models, DARKBLOOM_PREFIX_CACHE_DIR=str(tmp_path / name)) for name in ("one", "two")]


@pytest.fixture
def pair(machines):
    return machines[0]


def say(node, messages):
    answer = node.client.post("/v1/chat/completions", json={"model": "tiny", "messages": messages, "max_tokens": 2, "temperature": 0})
    assert answer.status_code == 200, answer.text
    usage = answer.json()["usage"]
    cached = usage["prompt_tokens_details"]["cached_tokens"] if "prompt_tokens_details" in usage else 0
    return answer.headers["x-provider-id"], answer.json()["choices"][0]["message"]["content"], cached


def kept(node, count):
    """Waits until providers have said that they keep the prompts of so many names."""
    wait_until(lambda: node.metrics()["darkbloom_prefixes"] >= count, f"{count} kept prefixes", 30 * PATIENCE)


def test_a_second_turn_goes_to_the_provider_that_keeps_the_first(pair):
    talks = []
    for number in range(6):
        messages = [{"role": "user", "content": f"Story {number}: {TOWN}"}]
        where, text, cached = say(pair, messages)
        assert cached == 0
        talks.append((where, messages + [{"role": "assistant", "content": text}, {"role": "user", "content": "And then?"}]))
    kept(pair, len(talks))
    for where, messages in talks:
        again, _, cached = say(pair, messages)
        assert again == where and cached > 256
    assert pair.metrics()["darkbloom_prefix_jobs_total"] >= len(talks)


def test_a_prefix_that_all_share_does_not_make_one_provider_do_all_the_work(machines):
    pair, providers = machines
    shared = {"role": "system", "content": TOWN}
    first, _, _ = say(pair, [shared, {"role": "user", "content": "Begin."}])
    kept(pair, 2)

    def ask(number):
        return say(pair, [shared, {"role": "user", "content": f"Question {number}."}])[0]
    for one in providers:
        one.freeze()  # so that no answer is over before the next question comes
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(ask, number) for number in range(16)]  # eight of them wait
        pair.wait_running(16)
        for one in providers:
            one.thaw()
        served = [one.result() for one in asked]
    assert len(set(served)) == 2 and first in served
