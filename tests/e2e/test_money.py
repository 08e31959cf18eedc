"""What a request costs, what is held for it meanwhile, and who gets the money. Prices are set so that a token is many
micro-dollars and every rounding shows."""

import http.client
import json

import httpx
import pytest

from harness import wait_until
from test_backpressure import SlowReader
from test_failover import contents, in_background, stream_events

PRICES = {"input_price": 3_000_000, "output_price": 20_000_000}  # micro-dollars for a million tokens: 3 and 20 a token


def entries(node, job):
    """{(account, type): amount} of one request."""
    return {(entry["account"], entry["type"]): entry["amount_micro_usd"] for entry in node.record(job)["entries"]}


def test_the_price_is_by_the_token_and_the_books_close(coordinator, provider):
    node = coordinator({"pricing": PRICES | {"fee_percent": 30}})
    provider(node, {"text": "one two three four five six seven"})
    answer = node.chat("scripted", "a prompt of six words exactly")
    usage = answer.json()["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (6, 7)
    cost = 6 * 3 + 7 * 20
    job = answer.headers["x-inference-job-id"]
    assert node.usage()[0]["job_id"] == job
    assert node.usage()[0]["cost_micro_usd"] == cost
    assert node.balance() == 10_000_000 - cost
    record = node.record(job)
    assert record["state"] == "settled"
    assert record["usage"]["fee_micro_usd"] == cost * 30 // 100
    amounts = entries(node, job)
    assert sum(amounts.values()) == 0
    assert min(amounts.values()) == -cost
    node.check_books()


def test_the_least_charge_is_a_hundred_microdollars(coordinator, provider):
    node = coordinator()
    provider(node, {"text": "hi"})
    assert node.chat("scripted").status_code == 200
    assert node.usage()[0]["cost_micro_usd"] == 100
    node.check_books()


def test_money_on_hold_is_not_available_to_others(coordinator, provider):
    node = coordinator({"pricing": PRICES, "limits": {"first_content_ms": 600000}})
    busy = provider(node, {"text": "late", "max_concurrency": 4})
    busy.freeze()
    answer = in_background(lambda: node.chat("scripted", max_tokens=100))
    held = 10_000_000 - wait_until(lambda: (now := node.balance()) < 10_000_000 and now, "the hold to be taken")
    assert 100 * 20 <= held <= 100 * 20 + 3 * 1000, "the output that was asked for and the prompt by its bytes"
    busy.thaw()
    assert answer().status_code == 200
    assert node.balance() == 10_000_000 - (3 + 20 if 3 + 20 > 100 else 100)
    node.check_books()


def test_a_hundred_requests_at_once_do_not_overdraw(coordinator, provider, api):
    node = coordinator({"pricing": PRICES, "accounts": {"first_grant_usd": "0.02"}})
    provider(node, {"text": "word", "tokens": 100, "token_delay_ms": 2, "max_concurrency": 64})
    client = api(node, limits=httpx.Limits(max_connections=100))
    body = {"model": "scripted", "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}
    answers = [in_background(lambda: client.post("/v1/chat/completions", json=body)) for _ in range(100)]
    statuses = [answer().status_code for answer in answers]
    assert set(statuses) <= {200, 402, 429}
    paid = statuses.count(200)
    assert 1 <= paid <= 20_000 // 2000, "each answer costs 2,003"
    assert node.balance() == 20_000 - paid * (100 * 20 + 3)
    node.check_books()


def test_a_stream_that_outgrows_the_balance_is_cut_and_paid(coordinator, provider):
    node = coordinator({"pricing": PRICES, "accounts": {"first_grant_usd": "0.05"}})
    provider(node, {"text": "word", "tokens": 20000})
    with node.client.stream("POST", "/v1/chat/completions", json={
            "model": "scripted", "max_tokens": 20000, "stream": True, "messages": [{"role": "user", "content": "hello"}]}) as response:
        job = response.headers["x-inference-job-id"]
        events = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]
    assert "[DONE]" not in events
    assert "insufficient_funds" in events[-1]
    words = len(contents(events[:-1]).split())
    assert words > 500
    node.check_books()
    billed = node.billed(job)["completion_tokens"]
    assert words - 10 <= billed <= words * 1.25 + 10, "tokens are counted by chunks and by text"
    assert node.balance() == 50_000 - billed * 20 - 3 >= 0


def test_a_long_answer_is_paid_in_full_when_the_balance_covers_it(coordinator, provider):
    """Held for what is expected, topped up while it grows."""
    node = coordinator({"pricing": PRICES})
    provider(node, {"text": "word", "tokens": 20000})
    held = []

    def answer():
        for number, event in enumerate(stream_events(node.client, "scripted", max_tokens=20000)):
            if number % 4000 == 100:
                held.append(10_000_000 - node.balance())
            yield event
    events = list(answer())
    assert events[-1] == "[DONE]"
    assert held[0] < 20000 * 20, "not all of it from the start"
    assert held[-1] > held[0]
    assert node.balance() == 10_000_000 - (20000 * 20 + 3)
    node.check_books()


def test_whoever_leaves_a_whole_answer_pays_nothing_and_frees_the_slot(coordinator, provider, api):
    node = coordinator({"pricing": PRICES})
    provider(node, {"text": "word", "tokens": 100000, "token_delay_ms": 5, "max_concurrency": 1})
    with pytest.raises(httpx.ReadTimeout):
        api(node).post("/v1/chat/completions", timeout=httpx.Timeout(60, read=1), json={"model": "scripted", "messages": [{"role": "user", "content": "hello"}]})
    wait_until(lambda: node.metrics()["darkbloom_jobs_open"] == 0, "the provider to be told")
    node.check_books()
    assert node.balance() == 10_000_000
    assert node.chat("scripted", max_tokens=1).status_code == 200


def test_whoever_leaves_while_waiting_leaves_the_queue(coordinator, provider):
    node = coordinator()
    provider(node, {"text": "word", "tokens": 100000, "token_delay_ms": 5, "max_concurrency": 1})
    first = SlowReader(node, "scripted")
    waiting = [http.client.HTTPConnection("127.0.0.1", node.port) for _ in range(3)]
    body = json.dumps({"model": "scripted", "messages": [{"role": "user", "content": "hello"}]})
    for connection in waiting:
        connection.request("POST", "/v1/chat/completions", body, {"Authorization": f"Bearer {node.key}"})
    node.wait_queued(3)
    for connection in waiting:
        connection.close()
    node.wait_queued(0)
    node.wait_running(1)
    wait_until(lambda: node.inflight() == 1, "their exchanges to end")
    first.connection.close()
    node.check_books()
    assert len(node.usage()) <= 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_fleet_of_the_older_generation_serves_and_is_paid(coordinator, swarm, stream):
    node = coordinator()
    swarm(node, "providers", providers=3, old_generation=True, ignore_cancel=True, no_credit=True)
    node.wait_routable("swarm-model", 3)
    load = swarm(node, "load", clients=4, requests=100, **({"stream": True} if stream else {})).result()
    assert (load["ok"], load["failed"]) == (100, 0)
    node.check_books()
    assert [row["completion_tokens"] for row in node.usage()] == [8] * 100


def test_leaving_a_provider_that_ignores_cancels_is_settled_once(coordinator, swarm):
    node = coordinator()
    swarm(node, "providers", providers=1, old_generation=True, ignore_cancel=True, no_credit=True, chunks=300, pace_us=5000)
    node.wait_routable("swarm-model")

    def left(count):
        """The row of a stream that was left in time; None when the machine stood still until most of it was through."""
        reader = SlowReader(node)
        reader.connection.close()
        wait_until(lambda: node.metrics()["darkbloom_jobs_open"] == 0, "the provider to end by itself")
        node.check_books()
        rows = node.usage()
        assert len(rows) == count and rows[0]["job_id"] == reader.job
        outcome = node.record(reader.job)["usage"]["outcome"]
        assert outcome in ("success", "partial_success")
        return rows[0] if outcome == "partial_success" and rows[0]["completion_tokens"] <= 200 else None
    row = next((row for row in map(left, range(1, 9)) if row), None)
    assert row and row["completion_tokens"] >= 1, "what came after the consumer had left is no text of its answer"
