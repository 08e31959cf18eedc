"""What a manifest may name beside the weights, through a coordinator and a provider: a draft model that guesses ahead, and system
prompts that all tenants may share."""

import json
import shutil
import subprocess

import pytest

from harness import BIN, GGUF, MODEL, PATIENCE, environment, wait_until

QUESTION = "Count from one to thirty in words."
PUBLIC = "You are the ship's clerk and answer letters with care, one after the other, by the light of a lamp. " * 6
PRIVATE = "Nobody may know of this. " + PUBLIC


def pull(folder, name, *more):
    subprocess.run([BIN / "darkbloom", "models", "pull", GGUF, "--id", name, "--models-dir", folder, *more], check=True, capture_output=True,
                   env=environment(folder), timeout=120 * PATIENCE)


def roles(folder, name):
    return {file["role"] for file in json.loads((folder / name / "manifest.json").read_text())["files"]}


def state_of(machine, name):
    return next((one for one in machine.status().get("models", []) if one["id"] == name), None)


@pytest.mark.slow
def test_a_draft_that_the_manifest_names_guesses_and_changes_no_answer(coordinator, provider, tmp_path):
    node, folder = coordinator(), tmp_path / "models"
    pull(folder, MODEL)
    draft = tmp_path / "draft.gguf"
    shutil.copyfile(GGUF, draft)  # of itself: no other small model of this vocabulary is here
    pull(folder, "drafted", "--draft", draft)
    assert "draft" in roles(folder, "drafted") and "draft" not in roles(folder, MODEL)
    machine = provider(node, model=MODEL, models_dir=folder, options=("--model", "drafted"))
    said = [node.chat(name, QUESTION, max_tokens=64, temperature=0).json()["choices"][0] for name in (MODEL, "drafted")]
    assert said[0]["message"]["content"] and said[0] == said[1]
    assert machine.log().count("engine.draft") == 1

    def guessed():  # where steps with it are found to be slower it is tried now and then
        node.chat("drafted", QUESTION, max_tokens=64, temperature=0)
        now = state_of(machine, "drafted")
        return now and now["guesses_right"] > 0 and now

    shown = wait_until(guessed, "the draft's guesses", 60)
    assert shown["guesses_right"] <= shown["tokens_guessed"]
    node.check_books()


@pytest.mark.slow
def test_public_prompts_that_the_manifest_names_are_shared_and_nothing_else(coordinator, provider, tmp_path):
    node, folder, prompts = coordinator(), tmp_path / "models", tmp_path / "prompts.json"
    prompts.write_text(json.dumps([PUBLIC]))
    pull(folder, "clerk", "--public-prompts", prompts)
    assert "public_prompts" in roles(folder, "clerk")
    provider(node, model="clerk", models_dir=folder, DARKBLOOM_PREFIX_CACHE_DIR=str(tmp_path / "cache"))

    def cached(system, tenant, question):
        answer = node.client.post("/v1/chat/completions", json={
            "model": "clerk", "max_tokens": 2, "temperature": 0, "prompt_cache_key": tenant,
            "messages": [{"role": "system", "content": system}, {"role": "user", "content": question}]})
        assert answer.status_code == 200, answer.text
        return answer.json()["usage"].get("prompt_tokens_details", {}).get("cached_tokens", 0)

    assert cached(PUBLIC, "one", "Where is the letter?") == 0
    assert cached(PUBLIC, "two", "Who lit the lamp?") >= 64
    assert cached(PRIVATE, "one", "Where is the letter?") == 0
    assert cached(PRIVATE, "two", "Where is the letter?") == 0
    assert cached(PRIVATE, "one", "Where is the letter?") >= 64, "its own tenant finds it"
    node.check_books()
