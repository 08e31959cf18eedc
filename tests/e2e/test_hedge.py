"""A provider that stays silent is overtaken by a second one, long before its time is up."""

ADMIN = "an operator's key for records"

HEDGED = {"limits": {"hedge_percent": 100, "first_content_ms": 600000}, "accounts": {"admin_key": ADMIN, "first_grant_usd": "1000"}}


def hedges(node, outcome):
    return node.metrics()[f'darkbloom_hedges_total{{outcome="{outcome}"}}']


def record(node, response):
    job = response.headers["x-inference-job-id"]
    answer = node.client.get(f"/v1/admin/routes/{job}", headers={"Authorization": f"Bearer {ADMIN}"})
    assert answer.status_code == 200, answer.text
    return answer.json()


def until_overtaken(node, accepted=False):
    """accepted: until it had said before that it would answer, which on a busy machine it may be too late for."""
    for _ in range(40):
        response = node.chat("scripted")
        assert response.status_code == 200, response.text
        assert response.json()["choices"][0]["message"]["content"] == "from the second"
        route = record(node, response)["route"]
        if route["tries"][0]["end"] == "overtaken" and (not accepted or route["tries"][0]["accepted"]):
            assert hedges(node, "won") >= 1
            return response
    raise AssertionError("the silent provider was never the first choice")


def test_a_provider_that_accepts_and_says_nothing_is_overtaken(coordinator, provider):
    node = coordinator(HEDGED)
    provider(node, {"hang": True})
    provider(node, {"text": "from the second"})
    until_overtaken(node)
    assert node.metrics()["darkbloom_failovers_total"] == 0
    node.wait_sent(0)
    node.check_books()


def test_who_asked_pays_once_and_the_record_shows_the_work_of_both(coordinator, provider):
    node = coordinator(HEDGED)
    provider(node, {"hang": True})
    provider(node, {"text": "from the second"})
    before, jobs = node.balance(), len(node.usage())
    response = until_overtaken(node, accepted=True)
    job = response.headers["x-inference-job-id"]
    node.wait_sent(0)
    rows = node.usage()[: len(node.usage()) - jobs]
    assert before - node.balance() == sum(row["cost_micro_usd"] for row in rows)
    assert len([row for row in rows if row["job_id"] == job]) == 1, rows
    answer = record(node, response)
    route = answer["route"]
    first, second = route["tries"]
    assert route["hedged"] and route["attempts"] == 2
    assert (first["end"], first["backup"], first["accepted"], first["tokens"]) == ("overtaken", False, True, 0)
    assert (second["end"], second["backup"]) == ("answered", True)
    assert second["tokens"] == route["completion_tokens"] > 0
    assert first["provider"] != second["provider"] == route["provider"]
    assert "overtaken" in answer["explanation"]
    assert node.metrics()["darkbloom_hedge_tokens_total"] > 0  # the prompt that the first one read
    node.check_books()


def test_a_frozen_provider_is_overtaken(coordinator, provider):
    node = coordinator(HEDGED)
    frozen = provider(node, {"text": "from the first"})
    provider(node, {"text": "from the second"})
    frozen.freeze()
    until_overtaken(node)
    frozen.thaw()
    node.check_books()
