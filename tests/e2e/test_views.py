"""What accounts see of their money: usage in pages, earnings, statements; prices that people and the operator set."""

import csv
import io
import json
import time

import httpx
import pytest

from harness import PATIENCE, wait_until

ADMIN = "a" * 32
PRICES = {"input_price": 3_000_000, "output_price": 20_000_000}


@pytest.fixture(scope="module")
def node(house):
    made = house.coordinator({"accounts": {"admin_key": ADMIN, "first_grant_usd": "1000"}, "pricing": PRICES})
    house.provider("first", {"text": "one two three", "max_concurrency": 8})
    house.provider("second", {"text": "one two three four", "max_concurrency": 8})
    for i in range(7):
        assert made.chat("second" if i % 3 == 0 else "first").status_code == 200
    wait_until(lambda: len(made.usage()) == 7, "seven rows of usage")
    return made


@pytest.fixture
def operator(node):
    with httpx.Client(base_url=node.url, headers={"Authorization": f"Bearer {ADMIN}"}, timeout=60 * PATIENCE) as client:
        yield client


def test_usage_comes_in_pages_that_new_rows_do_not_move(node):
    rows = node.usage()
    assert [row["timestamp"] for row in rows] == sorted((row["timestamp"] for row in rows), reverse=True)
    first = node.get("/v1/payments/usage?limit=3")
    assert first["usage"] == rows[:3]
    assert node.chat("first").status_code == 200
    second = node.get(f"/v1/payments/usage?limit=3&cursor={first['next_cursor']}")
    assert second["usage"] == rows[3:6]
    last = node.get(f"/v1/payments/usage?limit=3&cursor={second['next_cursor']}")
    assert last["usage"] == rows[6:] and "next_cursor" not in last


def test_usage_can_be_narrowed(node):
    rows = node.usage()
    assert node.get("/v1/payments/usage?model=second")["usage"] == [row for row in rows if row["model"] == "second"]
    assert node.get(f"/v1/payments/usage?key_id={rows[0]['key_id']}")["usage"] == rows
    assert node.get("/v1/payments/usage?key_id=key_none")["usage"] == []
    assert node.get("/v1/payments/usage?to=2001-01-01T00:00:00Z")["usage"] == []


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "cursor=1", "cursor=-1-2", "from=yesterday", "cursor=9-9-9"])
def test_a_wrong_query_is_refused(node, query):
    assert node.client.get(f"/v1/payments/usage?{query}").status_code == 400


def test_the_export_is_the_usage(node):
    rows = node.usage()
    answer = node.client.get("/v1/payments/usage/export?format=csv")
    assert answer.headers["content-type"].startswith("text/csv") and "attachment" in answer.headers["content-disposition"]
    table = list(csv.DictReader(io.StringIO(answer.text)))
    assert [(row["job_id"], int(row["cost_micro_usd"])) for row in table] == [(row["job_id"], row["cost_micro_usd"]) for row in rows]
    lines = [json.loads(line) for line in node.client.get("/v1/payments/usage/export").text.splitlines()]
    assert lines == rows


def test_a_statement_closes(node):
    month = time.strftime("%Y-%m", time.gmtime())
    told = node.get(f"/v1/payments/statement?month={month}")
    moved = {row["type"]: row for row in told["movements"]}
    rows = node.usage()
    assert moved["charge"]["count"] == len(rows) and moved["charge"]["amount_micro_usd"] == -sum(row["cost_micro_usd"] for row in rows)
    assert told["opening_balance_micro_usd"] + sum(row["amount_micro_usd"] for row in told["movements"]) == told["closing_balance_micro_usd"]
    assert told["closing_balance_micro_usd"] == node.balance()
    assert sum(row["requests"] for row in told["models"]) == len(rows)
    before = node.get("/v1/payments/statement?month=2020-02")
    assert before["opening_balance_micro_usd"] == before["closing_balance_micro_usd"] == 0 and before["movements"] == []
    assert node.client.get("/v1/payments/statement?month=2020-13").status_code == 400


def test_the_public_views_name_nobody(node):
    owner = node.get("/v1/me")["account_id"]
    for path in ("/v1/leaderboard", "/v1/leaderboard?metric=jobs&window=all&limit=nonsense", "/v1/network/totals?window=7d"):
        answer = node.client.get(path, headers={"Authorization": ""})
        assert answer.status_code == 200 and owner not in answer.text
    assert node.client.get("/v1/leaderboard?metric=beauty").status_code == 400
    assert node.client.get("/v1/network/totals?window=1y").status_code == 400


def test_the_platforms_price_is_told_and_charged(node, operator):
    body = {"model": "second", "input_price": 1_000_000, "output_price": 50_000_000, "cached_price": 500_000}
    assert node.client.put("/v1/admin/pricing", json=body).status_code == 403
    answer = operator.put("/v1/admin/pricing", json=body)
    assert answer.json()["status"] == "platform_default_updated" and answer.json()["output_usd"] == "$50.0000"
    told = node.client.get("/v1/pricing", headers={"Authorization": ""}).json()
    assert [row for row in told["prices"] if row["model"] == "second"][0]["cached_price"] == 500_000
    assert told["fallback_input_price"] == PRICES["input_price"]
    job = node.chat("second", "three words here").headers["x-inference-job-id"]
    receipt = node.get(f"/v1/receipts/{job}")["receipt"]
    assert receipt["cost_micro_usd"] == max(receipt["prompt_tokens"] + 4 * 50, 100)
    assert receipt["cached_price"] == 500_000


@pytest.mark.parametrize("change", [{"input_price": 0}, {"output_price": -1}, {"input_price": 1.5}, {"model": ""}, {"cached_price": 0}])
def test_a_price_that_cannot_be_is_refused(operator, change):
    body = {"model": "second", "input_price": 1, "output_price": 1} | change
    assert operator.put("/v1/admin/pricing", json=body).status_code == 400


def test_a_fee_is_taken_from_the_next_request_on(node, operator):
    owner = node.get("/v1/me")["account_id"]
    for percent, expected in ((25, 25), (0, 0), (None, 0)):
        answer = operator.put("/v1/admin/users/platform-fee", json={"account_id": owner, "platform_fee_percent": percent})
        assert answer.json()["platform_fee_percent"] == percent
        receipt = node.get(f"/v1/receipts/{node.chat('first').headers['x-inference-job-id']}")["receipt"]
        assert receipt["fee_micro_usd"] == receipt["cost_micro_usd"] * expected // 100
    assert operator.put("/v1/admin/users/platform-fee", json={"account_id": owner, "platform_fee_percent": 101}).status_code == 400
    assert operator.put("/v1/admin/users/platform-fee", json={"account_id": "nobody", "platform_fee_percent": 1}).status_code == 404


def test_a_service_account_has_no_least_charge(node, operator):
    owner = node.get("/v1/me")["account_id"]
    assert operator.put("/v1/admin/users/role", json={"account_id": owner, "role": "service"}).status_code == 200
    receipt = node.get(f"/v1/receipts/{node.chat('first', 'hi').headers['x-inference-job-id']}")["receipt"]
    assert receipt["service_account"] and receipt["cost_micro_usd"] == 3 * receipt["prompt_tokens"] + 20 * 3 < 100
    assert operator.put("/v1/admin/users/role", json={"account_id": owner, "role": ""}).status_code == 200
    receipt = node.get(f"/v1/receipts/{node.chat('first', 'hi').headers['x-inference-job-id']}")["receipt"]
    assert receipt["cost_micro_usd"] == 100
    assert operator.put("/v1/admin/users/role", json={"account_id": owner, "role": "king"}).status_code == 400
    node.check_books()
