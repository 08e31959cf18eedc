"""An engine that hangs inside a provider that lives: the watchdog notices, others go on with the answers, and the model is loaded anew
(inference 2.7). The engine is the scripted one, a test double; the watchdog, the provider and the coordinator are the real ones."""

from harness import wait_until
from test_failover import contents, in_background, stream_events

WORDS = [f"word{n}" for n in range(40)]
GOOD = {"text": " ".join(WORDS), "token_delay_ms": 5, "max_concurrency": 8}
# the first engine stops for good in the middle of the first answer; the one that is loaded in its place works
HANGS = GOOD | {"hang_at_token": 7}
# nobody but the watchdog may end what hangs: the coordinator asks no second provider and is patient
PATIENT = {"limits": {"hedge_percent": 0, "stall_timeout_s": 3600, "idle_timeout_s": 3600, "accepted_wait_s": 3600}}


ROUNDS = 20


def whole(node):
    response = node.chat("scripted", max_tokens=1000)
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]["message"]["content"].split()


def streamed(node):
    events = list(stream_events(node.client, "scripted", max_tokens=1000))
    assert events[-1] == "[DONE]", events[-2:]
    return contents(events).split()


def test_a_hung_engine_is_noticed_its_requests_go_elsewhere_and_it_serves_again(coordinator, provider):
    node = coordinator(PATIENT)
    healthy = provider(node, GOOD)
    sick = provider(node, HANGS, options=("--hang-timeout", "2"))
    pid = sick.status()["pid"]

    # both are idle and alike: a round or two, and the sick one has a request
    for _ in range(ROUNDS):
        asked = [in_background(lambda ask=ask: ask(node)) for ask in (streamed, whole, streamed, whole)]
        assert [answer() for answer in asked] == [WORDS] * 4, sick.log()[-2000:]
        if "engine.hangs" in sick.log():
            break
    assert "engine.hangs" in sick.log(), sick.log()[-2000:]
    values = node.metrics()
    assert values["darkbloom_failovers_total"] + values['darkbloom_resumed_total{outcome="tried"}'] >= 1, values
    wait_until(lambda: "engine.reloaded" in sick.log(), "the model to be loaded anew")
    node.check_books()
    assert all(row["completion_tokens"] == len(WORDS) for row in node.usage())

    healthy.terminate()
    node.wait_routable("scripted", 1, 60)
    wait_until(lambda: node.chat("scripted", max_tokens=1000).status_code == 200, "the reloaded engine to answer", 90)
    assert streamed(node) == WORDS
    assert sick.status()["pid"] == pid and sick.status()["running"]
    node.check_books()
