"""A provider is lost in the middle of an answer: another one goes on with it, and the consumer reads what it would have read."""

import json

import pytest

from harness import MODEL, wait_until
from test_failover import contents, stream_events

GRANT = 10_000_000
SCRIPT = {"text": "zero one two three four five six seven eight nine", "tokens": 200}
SLOW = SCRIPT | {"token_delay_ms": 150}


def read_until_lost(node, add_another, serving, at=5, model="scripted", **body):
    """The events of a stream whose provider is lost after `at` of them, when another one is there. It stands still until then, so
    that it is not through before."""
    events = []
    for event in stream_events(node.client, model, **body):
        events.append(event)
        if len(events) == at:
            serving.freeze()
            add_another()
            serving.kill()
    return events


def resumed(node):
    return node.metrics()['darkbloom_resumed_total{outcome="done"}']


def test_killed_after_content_another_goes_on_and_one_answer_is_paid_for(coordinator, provider):
    node = coordinator()
    serving = provider(node, SLOW)
    events = read_until_lost(node, lambda: provider(node, SCRIPT), serving)
    words = SCRIPT["text"].split()
    assert contents(events).split() == [words[i % 10] for i in range(200)]
    assert events[-1] == "[DONE]"
    assert len({json.loads(event)["id"] for event in events[:-1]}) == 1
    assert resumed(node) == 1
    node.check_books()
    [usage] = node.usage()
    assert usage["completion_tokens"] == 200
    assert node.chat("scripted").json()["usage"]["completion_tokens"] == 200
    first, second = node.usage()
    assert first["cost_micro_usd"] == second["cost_micro_usd"]


def test_lost_twice_a_third_goes_on(coordinator, provider):
    node = coordinator()
    serving, events, seconds = provider(node, SLOW), [], []
    for event in stream_events(node.client, "scripted"):
        events.append(event)
        if len(events) == 5:
            serving.freeze()
            seconds.append(provider(node, SLOW))
            serving.kill()
        if len(events) == 12:
            seconds[0].freeze()
            provider(node, SCRIPT)
            seconds[0].kill()
    words = SCRIPT["text"].split()
    assert contents(events).split() == [words[i % 10] for i in range(200)]
    assert resumed(node) == 2
    node.check_books()


def test_a_whole_answer_is_finished_by_another(coordinator, provider):
    from test_failover import in_background
    node = coordinator()
    serving = provider(node, SLOW)
    answer = in_background(lambda: node.chat("scripted"))
    wait_until(lambda: node.metrics()["darkbloom_relayed_chunks_total"] > 5, "content to come")
    serving.freeze()
    provider(node, SCRIPT)
    serving.kill()
    response = answer()
    assert response.status_code == 200
    assert len(response.json()["choices"][0]["message"]["content"].split()) == 200
    assert resumed(node) == 1
    node.check_books()


def test_who_does_not_want_it_is_told_instead(coordinator, provider):
    node = coordinator()
    serving = provider(node, SLOW)
    node.client.headers["X-Darkbloom-Resume"] = "off"
    events = read_until_lost(node, lambda: provider(node, SCRIPT), serving)
    assert json.loads(events[-1])["error"]["type"] == "provider_error"
    assert node.metrics()['darkbloom_resumed_total{outcome="tried"}'] == 0
    node.check_books()
    assert node.balance() == GRANT


def test_consumers_cannot_put_words_into_a_model(coordinator):
    node = coordinator()
    response = node.chat("scripted", darkbloom_resume={"print": "0" * 16, "tokens": [1]})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "darkbloom_resume"


@pytest.mark.slow
def test_on_a_real_model_the_text_is_that_of_an_undisturbed_run(coordinator, provider):
    node = coordinator()
    alone = ["--no-speculation"]  # guessed tokens run in batches, which may round in another way
    serving = provider(node, options=alone)
    asked = {"messages": [{"role": "user", "content": "Tell me about the sea."}], "max_tokens": 200, "ignore_eos": True,
             "temperature": 0.9, "seed": 7, "top_p": 0.95}
    undisturbed = contents(stream_events(node.client, MODEL, **asked))
    events = read_until_lost(node, lambda: provider(node, options=alone), serving, at=20, model=MODEL, **asked)
    assert contents(events) == undisturbed
    assert resumed(node) == 1
    node.check_books()
