"""Families of models that have machines of their own (routing 13.1): while those are full, nobody waits."""

from test_failover import in_background

FAMILY, OTHER = "acme/gemma-4-tiny", "acme/other"


def full(coordinator, provider, model):
    """A coordinator with one provider of the model, which has room for one answer, and an answer that keeps it busy until it is thawed."""
    node = coordinator({"routing": {"dedicated_models": ["gemma-4"]}, "limits": {"first_content_ms": 120_000}})
    machine = provider(node, script={"text": "word", "max_concurrency": 1}, model=model)
    machine.freeze()
    busy = in_background(lambda: node.chat(model, max_tokens=60))
    node.wait_sent(1)
    return node, machine, busy


def test_a_full_family_refuses_at_once_and_says_when_to_come_back(coordinator, provider):
    node, machine, busy = full(coordinator, provider, FAMILY)
    refused = node.chat(FAMILY, max_tokens=1)
    assert refused.status_code == 429, refused.text
    assert refused.json()["error"]["type"] == "machine_busy"
    assert int(refused.headers["retry-after"]) >= 1
    assert node.metrics()["darkbloom_queued_total"] == 0
    machine.thaw()
    assert busy().status_code == 200
    assert node.chat(FAMILY, max_tokens=1).status_code == 200
    node.check_books()


def test_other_models_wait_as_before(coordinator, provider):
    node, machine, busy = full(coordinator, provider, OTHER)
    waiting = in_background(lambda: node.chat(OTHER, max_tokens=1))
    node.wait_queued(1)
    machine.thaw()
    assert waiting().status_code == 200
    assert busy().status_code == 200
    assert node.metrics()["darkbloom_queued_total"] == 1
    node.check_books()
