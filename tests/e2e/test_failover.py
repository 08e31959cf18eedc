"""Providers fail in every way they can. Before the first content another one answers; after it the consumer is told honestly and
gets its money back."""

import json
import threading

import pytest

from harness import PATIENCE, Failed, wait_until

GRANT = 10_000_000
TO_JOIN_S = 12  # what a second provider needs to join on a machine that is very busy


def in_background(work):
    """Runs work() on a thread; the returned function waits for its value or raises what it raised."""
    box = {}

    def run():
        try:
            box["value"] = work()
        except Exception as error:
            box["error"] = error
    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def value(seconds=240):
        thread.join(seconds * PATIENCE)
        if thread.is_alive():
            raise Failed("no answer came")
        if "error" in box:
            raise box["error"]
        return box["value"]
    return value


def stream_events(client, model, **body):
    """The data of each SSE event until the stream ends, however it ends."""
    request = {"model": model, "messages": [{"role": "user", "content": "hello"}], "stream": True, **body}
    with client.stream("POST", "/v1/chat/completions", json=request) as response:
        assert response.status_code == 200, response.read()
        for line in response.iter_lines():
            if line.startswith("data: "):
                yield line.removeprefix("data: ")


def text_of(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["message"]["content"]


def contents(events):
    return "".join(choice["delta"].get("content") or "" for event in events if event != "[DONE]"
                   for choice in json.loads(event).get("choices", []))


def running_on_first(node, provider, first, second):
    """Starts a request on the first provider alone, then adds the second. Returns (first provider, how to get the answer)."""
    serving = provider(node, first)
    answer = in_background(lambda: node.chat("scripted"))
    node.wait_sent(1)
    provider(node, second)
    return serving, answer


def test_killed_before_the_first_token_the_other_answers(coordinator, provider):
    node = coordinator()
    serving, answer = running_on_first(node, provider, {"text": "from the first", "first_delay_ms": 120000}, {"text": "from the second"})
    serving.kill()
    assert text_of(answer()) == "from the second"
    assert node.metrics()["darkbloom_failovers_total"] == 1
    assert len(node.usage()) == 1
    node.check_books()


def frozen_before_it_accepts(coordinator, provider):
    node = coordinator({"limits": {"first_content_ms": TO_JOIN_S * 1000}})
    serving = provider(node, {"text": "from the first"})
    serving.freeze()
    answer = in_background(lambda: node.chat("scripted"))
    node.wait_sent(1)
    provider(node, {"text": "from the second"}, wait=False)
    return node, serving, answer


def frozen_after_it_accepted(coordinator, provider):
    node = coordinator({"limits": {"accepted_wait_s": TO_JOIN_S}})
    serving, answer = running_on_first(node, provider, {"text": "from the first", "first_delay_ms": 600000}, {"text": "from the second"})
    serving.freeze()
    return node, serving, answer


def test_frozen_before_or_after_it_accepts_the_other_answers(coordinator, provider):
    """Both at once, on a coordinator each: nearly all of the time is waiting."""
    for node, serving, answer in [begin(coordinator, provider) for begin in (frozen_before_it_accepts, frozen_after_it_accepted)]:
        assert text_of(answer()) == "from the second"
        serving.thaw()
        node.check_books()
        assert len(node.usage()) == 1


def test_killed_before_the_first_token_with_no_other_is_an_error(coordinator, provider):
    node = coordinator()
    serving = provider(node, {"text": "late", "first_delay_ms": 120000})
    answer = in_background(lambda: node.chat("scripted"))
    node.wait_sent(1)
    serving.kill()
    response = answer()
    assert response.status_code >= 500
    assert response.json()["error"]["type"] == "provider_error"
    node.check_books()
    assert node.balance() == GRANT
    assert node.usage() == []


@pytest.mark.parametrize("end", ["kill", "freeze"])
def test_lost_after_the_first_token_the_stream_says_so_and_costs_nothing(coordinator, provider, end):
    node = coordinator({"limits": {"idle_timeout_s": 10 if end == "freeze" else 600}})
    serving = provider(node, {"text": "word", "tokens": 20000, "token_delay_ms": 10})
    events = []
    for event in stream_events(node.client, "scripted"):
        events.append(event)
        if len(events) == 10:
            provider(node, {"text": "never asked"})
            getattr(serving, end)()
    assert "[DONE]" not in events
    error = json.loads(events[-1])["error"]
    assert error["type"] == ("provider_error" if end == "kill" else "timeout")
    assert error["message"]
    assert "never asked" not in contents(events[:-1])
    if end == "freeze":
        serving.thaw()
    node.check_books()
    assert node.balance() == GRANT
    assert node.usage() == []
    assert node.chat("scripted", max_tokens=1).status_code == 200


def test_lost_in_a_whole_answer_is_an_error_and_costs_nothing(coordinator, provider):
    node = coordinator()
    serving = provider(node, {"text": "word", "tokens": 20000, "token_delay_ms": 10})
    answer = in_background(lambda: node.chat("scripted"))
    wait_until(lambda: node.metrics()["darkbloom_relayed_chunks_total"] > 5, "content to come")
    serving.kill()
    response = answer()
    assert response.status_code == 502
    assert response.json()["error"]["type"] == "provider_error"
    node.check_books()
    assert node.balance() == GRANT


def test_a_provider_that_fails_every_request_does_not_reach_the_consumer(coordinator, provider):
    node = coordinator()
    provider(node, {"fail_status": 500, "fail_text": "internal error"})
    provider(node, {"text": "fine"})
    for _ in range(6):
        assert text_of(node.chat("scripted")) == "fine"
    assert len(node.usage()) == 6
    node.check_books()


def test_a_failure_in_the_middle_of_a_stream_is_told(coordinator, provider):
    node = coordinator()
    provider(node, {"text": "a b c d e f g h", "fail_status": 500, "fail_text": "internal error: broken", "fail_after_tokens": 4})
    events = list(stream_events(node.client, "scripted"))
    assert contents(events[:-1]).split() == ["a", "b", "c", "d"]
    assert json.loads(events[-1])["error"]["type"] == "provider_error"
    node.check_books()
    assert node.balance() == GRANT


def test_requests_wait_for_a_free_slot(coordinator, provider):
    node = coordinator()
    provider(node, {"text": "one two", "token_delay_ms": 100, "max_concurrency": 1})
    answers = [in_background(lambda: node.chat("scripted")) for _ in range(5)]
    assert [answer().status_code for answer in answers] == [200] * 5
    node.check_books()
    assert len(node.usage()) == 5


# --- faults of simulated providers, some of several ---


def balance_agrees(node, answered):
    """What the consumer was charged is what the usage says, for exactly the answers that came whole."""
    audit = node.check_books()
    assert node.balance() == GRANT - audit["charged_micro_usd"]
    rows = node.usage()
    assert len(rows) == answered
    assert sum(row["cost_micro_usd"] for row in rows) == audit["usage_cost_micro_usd"]


def faults_before_content_are_invisible(node, swarm, fault, stream):
    swarm(node, "providers", providers=2, concurrency=8)
    swarm(node, "providers", providers=2, first_index=100, concurrency=8, faults=f"{fault}:0.5")
    node.wait_routable("swarm-model", 4)
    load = swarm(node, "load", clients=4, requests=60, **({"stream": True} if stream else {})).result()
    assert (load["ok"], load["failed"], load["incomplete"]) == (60, 0, 0)
    assert node.metrics()["darkbloom_failovers_total"] > 0, "the fault was met"
    balance_agrees(node, 60)


@pytest.mark.parametrize("fault", ["error", "busy", "early-drop"])
@pytest.mark.parametrize("stream", [False, True])
def test_faults_before_content_are_invisible(coordinator, swarm, fault, stream):
    faults_before_content_are_invisible(coordinator(), swarm, fault, stream)


@pytest.mark.parametrize("fault, limits", [("silent", {"first_content_ms": 5000}), ("hang", {"accepted_wait_s": 5})])
def test_faults_that_are_found_out_by_waiting_are_invisible(coordinator, sides, fault, limits):
    """Whole answers and streams at once, on a coordinator each: nearly all of the time is waiting."""
    def side(stream):
        node, (_, swarm) = coordinator({"limits": limits}), sides()
        return in_background(lambda: faults_before_content_are_invisible(node, swarm, fault, stream))

    for done in [side(False), side(True)]:
        done()


@pytest.mark.parametrize("fault", ["drop", "break"])
def test_faults_after_content_end_the_stream_honestly(coordinator, swarm, fault):
    node = coordinator()
    swarm(node, "providers", providers=2, concurrency=8, pace_us=1000)
    swarm(node, "providers", providers=2, first_index=100, concurrency=8, pace_us=1000, faults=f"{fault}:0.5")
    node.wait_routable("swarm-model", 4)
    load = swarm(node, "load", clients=4, requests=60, stream=True).result()
    assert load["incomplete"] > 0, "the fault was met"
    assert load["failed"] == load["incomplete"], "it was met only after the stream had begun"
    assert load["ok"] + load["failed"] == 60
    balance_agrees(node, load["ok"])


def test_a_claim_of_a_million_tokens_is_not_believed(coordinator, swarm):
    node = coordinator()
    swarm(node, "providers", providers=1, faults="lie:1")
    load = swarm(node, "load", clients=1, requests=5, max_tokens=50).result()
    assert load["ok"] == 5
    rows = node.usage()
    assert [row["completion_tokens"] for row in rows] == [50] * 5
    load = swarm(node, "load", clients=1, requests=5).result()
    assert max(row["completion_tokens"] for row in node.usage()) < 1000, "no more than the text can have had"
    balance_agrees(node, 10)
