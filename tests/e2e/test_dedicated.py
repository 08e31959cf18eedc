"""Families of models that have machines of their own (routing 13.1): while those are full, nobody waits."""

from harness import wait_until
from test_failover import in_background

FAMILY, OTHER = "acme/gemma-4-tiny", "acme/other"


def full(coordinator, provider, model):
    """A coordinator with one provider of the model, which has room for one answer, and an answer that keeps it busy."""
    node = coordinator({"routing": {"dedicated_models": ["gemma-4"]}})
    machine = provider(node, script={"text": "word " * 200, "token_delay_ms": 60, "max_concurrency": 1}, model=model)
    busy = in_background(lambda: node.chat(model, max_tokens=60))
    wait_until(lambda: node.inflight() == 1, "the first request")
    return node, machine, busy


def test_a_full_family_refuses_at_once_and_says_when_to_come_back(coordinator, provider):
    node, _, busy = full(coordinator, provider, FAMILY)
    refused = node.chat(FAMILY, max_tokens=1)
    assert refused.status_code == 429, refused.text
    assert refused.json()["error"]["type"] == "machine_busy"
    assert int(refused.headers["retry-after"]) >= 1
    assert node.metrics()["darkbloom_queued_total"] == 0
    assert busy().status_code == 200
    assert node.chat(FAMILY, max_tokens=1).status_code == 200
    node.check_books()


def test_other_models_wait_as_before(coordinator, provider):
    node, _, busy = full(coordinator, provider, OTHER)
    assert node.chat(OTHER, max_tokens=1).status_code == 200
    assert busy().status_code == 200
    assert node.metrics()["darkbloom_queued_total"] >= 1
    node.check_books()
