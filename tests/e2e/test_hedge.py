"""A provider that stays silent is overtaken by a second one, long before its time is up."""

from harness import wait_until

HEDGED = {"limits": {"hedge_percent": 100, "first_content_ms": 600000}}


def hedges(node, outcome):
    return node.metrics()[f'darkbloom_hedges_total{{outcome="{outcome}"}}']


def until_overtaken(node):
    for _ in range(40):
        response = node.chat("scripted")
        assert response.status_code == 200
        assert response.json()["choices"][0]["message"]["content"] == "from the second"
        if hedges(node, "won"):
            return
    raise AssertionError("the silent provider was never the first choice")


def test_a_provider_that_accepts_and_says_nothing_is_overtaken(coordinator, provider):
    node = coordinator(HEDGED)
    provider(node, {"hang": True})
    provider(node, {"text": "from the second"})
    until_overtaken(node)
    assert node.metrics()["darkbloom_failovers_total"] == 0
    wait_until(lambda: node.metrics()["darkbloom_jobs_open"] == 0, "the loser to be let go")
    node.check_books()


def test_a_frozen_provider_is_overtaken(coordinator, provider):
    node = coordinator(HEDGED)
    frozen = provider(node, {"text": "from the first"})
    provider(node, {"text": "from the second"})
    frozen.freeze()
    until_overtaken(node)
    frozen.thaw()
    node.check_books()
