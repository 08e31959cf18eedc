"""Several models on one provider: loaded when asked for, unloaded for others, seen by its owner and by the coordinator."""

import subprocess
import threading

import pytest

from harness import BIN, GGUF, MODEL, PATIENCE, environment, wait_until
from test_failover import in_background


def states(provider):
    return {model["id"]: model["state"] for model in provider.status().get("models", [])}


def entry(node, model):
    return next((one for one in node.get("/v1/models")["data"] if one["id"] == model), None)


def two_scripted(coordinator, provider, *options, **script):
    node = coordinator()
    options = ("--model", "second", "--max-loaded", "1", *options)
    return node, provider(node, script={"text": "word", **script}, model="first", options=options)


def test_a_cold_model_is_listed_and_loaded_by_the_first_request(coordinator, provider):
    node, machine = two_scripted(coordinator, provider)
    wait_until(lambda: states(machine) == {"first": "loaded", "second": "cold"}, "the state file")
    wait_until(lambda: entry(node, "second"), "the cold model in the list")
    assert entry(node, "second")["metadata"]["warm_providers"] == 0
    answer = node.chat("second")
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == "second"
    wait_until(lambda: states(machine) == {"first": "cold", "second": "loaded"}, "the exchange of the models")
    wait_until(lambda: entry(node, "second")["metadata"]["warm_providers"] == 1, "the coordinator to hear of it")
    assert entry(node, "first")["metadata"]["warm_providers"] == 0
    node.check_books()


def test_a_load_is_seen_while_it_runs_and_a_cancel_ends_the_wait(coordinator, provider):
    node, machine = two_scripted(coordinator, provider, "--on-demand", load_delay_ms=3000)
    wait_until(lambda: entry(node, "first"), "the cold model in the list")
    wait_until(lambda: states(machine).get("first") == "cold", "the state file")

    def shown(model):
        """Whether the load was seen while the request for it waited: it is not where the machine stood still until its end."""
        answers, seen = [], set()
        asking = threading.Thread(target=lambda: answers.append(node.chat(model)))
        asking.start()
        wait_until(lambda: seen.add(states(machine)[model]) or not seen.isdisjoint(("loading", "loaded")), "the load to be shown", 60)
        text = subprocess.run([BIN / "darkbloom", "status", "--state-dir", machine.state], capture_output=True, text=True,
                              env=environment(machine.folder), timeout=60 * PATIENCE).stdout
        assert "loading" in text or "loaded" in text, text
        asking.join()
        assert answers[0].status_code == 200, answers[0].text
        return "loading" in seen
    assert any(shown(model) for model in ("first", "second") * 4)
    node.check_books()


def test_requests_for_both_models_at_once_are_all_answered(coordinator, provider):
    node, _ = two_scripted(coordinator, provider)
    wait_until(lambda: entry(node, "second"), "the cold model in the list")
    answers = []

    def ask(model):
        for _ in range(6):
            answers.append(node.chat(model))
    threads = [threading.Thread(target=ask, args=(model,)) for model in ("first", "second")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = [(answer.status_code, answer.text) for answer in answers if answer.status_code != 200]
    # With one place, a request may come while the other model is in use: then it is refused honestly, never lost.
    assert all(status in (429, 503) for status, _ in told), told
    assert len(answers) == 12 and len(told) < 12
    node.check_books()


def test_a_pinned_model_stays(coordinator, provider):
    node, machine = two_scripted(coordinator, provider)
    wait_until(lambda: states(machine).get("first") == "loaded", "the state file")
    machine.terminate()
    pinned = provider(node, script={"text": "word"}, model="first", options=("--model", "second", "--max-loaded", "1", "--pin", "first"))
    wait_until(lambda: states(pinned).get("first") == "loaded", "the state file of the other")
    answer = node.chat("second")
    assert answer.status_code in (429, 503), answer.text
    assert states(pinned) == {"first": "loaded", "second": "cold"}
    assert node.chat("first").status_code == 200


@pytest.mark.slow
def test_two_real_models_share_one_memory_for_contexts(coordinator, provider, models_dir, tmp_path):
    """Each alone could hold the prompt in a context of its own; what both may keep together is less."""
    node = coordinator()
    folder = tmp_path / "both"
    for name in (MODEL, "again"):
        subprocess.run([BIN / "darkbloom", "models", "pull", GGUF, "--id", name, "--models-dir", folder], check=True, capture_output=True, env=environment(tmp_path))
    machine = provider(node, model=MODEL, models_dir=folder, options=("--model", "again", "--kv-memory-gb", "0.005"))
    wait_until(lambda: machine.status().get("kv_limit_bytes") == int(0.005 * 2 ** 30), "the limit in the state file")
    asked = {"max_tokens": 60, "ignore_eos": True, "temperature": 0}
    answers = [in_background(lambda model=model: node.chat(model, "Count to a hundred.", **asked)) for model in (MODEL, "again") * 2]
    for answer in answers:
        answer = answer()
        assert answer.status_code == 200, answer.text
        assert answer.json()["usage"]["completion_tokens"] == 60
    def settled():
        state = machine.status()
        return state["requests_active"] == 0 and state["kv_reserved_bytes"] == 0 and state["kv_peak_bytes"] and state
    state = wait_until(settled, "the memory to be free again")  # what is read may be of before the answers
    one = 60 * 23040  # the least that an answer's tokens cost with this model
    assert one < state["kv_peak_bytes"] <= state["kv_limit_bytes"]
    node.check_books()


@pytest.mark.slow
def test_two_real_models_take_turns(coordinator, provider, models_dir, tmp_path):
    node = coordinator()
    folder = tmp_path / "both"
    for name in (MODEL, "again"):
        subprocess.run([BIN / "darkbloom", "models", "pull", GGUF, "--id", name, "--models-dir", folder], check=True, capture_output=True, env=environment(tmp_path))
    machine = provider(node, model=MODEL, models_dir=folder, options=("--model", "again", "--max-loaded", "1"))
    said = set()
    for model in ("again", MODEL, "again"):
        answer = node.chat(model, "What is the capital of France?", max_tokens=8, temperature=0)
        assert answer.status_code == 200, answer.text
        said.add(answer.json()["choices"][0]["message"]["content"])
    assert len(said) == 1 and said.pop(), "the same weights say the same, however often they are loaded"
    wait_until(lambda: states(machine) == {MODEL: "cold", "again": "loaded"}, "the last exchange in the state file")
    node.check_books()


def test_the_template_that_a_manifest_names_is_used(coordinator, provider, tmp_path):
    """One that says nothing but the question leaves fewer tokens of prompt than the model's own."""
    node = coordinator()
    folder, template = tmp_path / "models", tmp_path / "short.jinja"
    template.write_text("{% for message in messages %}{{ message.content }}{% endfor %}")
    for name, more in ((MODEL, ()), ("short", ("--chat-template", template))):
        subprocess.run([BIN / "darkbloom", "models", "pull", GGUF, "--id", name, "--models-dir", folder, *more], check=True, capture_output=True,
                       env=environment(tmp_path))
    provider(node, model=MODEL, models_dir=folder, options=("--model", "short"))
    usual, short = (node.chat(model, "Say hello.", max_tokens=2).json()["usage"]["prompt_tokens"] for model in (MODEL, "short"))
    assert short < 8 < usual
    node.check_books()


def test_a_template_that_fails_its_check_is_named_with_the_reason(coordinator, provider, tmp_path):
    """Its model is not offered to anybody, so the owner must be able to see why."""
    node = coordinator()
    folder, template = tmp_path / "models", tmp_path / "loses.jinja"
    template.write_text("{{ messages[0]['content'] }}")
    subprocess.run([BIN / "darkbloom", "models", "pull", GGUF, "--id", "loses", "--models-dir", folder, "--chat-template", template], check=True,
                   capture_output=True, env=environment(tmp_path))
    machine = provider(node, model="loses", models_dir=folder, wait=False)
    shown = wait_until(lambda: (models := machine.status().get("models")) and models[0]["state"] == "loaded" and models[0], "the model to be shown")
    assert shown["template_fault"] == "jinja_template"
    text = subprocess.run([BIN / "darkbloom", "status", "--state-dir", machine.state], check=True, capture_output=True, text=True, env=environment(tmp_path)).stdout
    assert "its chat template fails the check: jinja_template" in text
    wait_until(lambda: "template_render_ok=false" in machine.log() and "jinja_template" in machine.log(), "the log to say it")
