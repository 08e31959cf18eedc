"""Invite codes: credit once for each account, as often as the operator wants."""

import concurrent.futures

import httpx
import pytest

from harness import PATIENCE

ADMIN = "a" * 32


@pytest.fixture(scope="module")
def node(house):
    return house.coordinator({"accounts": {"admin_key": ADMIN, "first_grant_usd": "1"},
                              "limits": {"financial_per_minute": 100000, "financial_burst": 100000}})


@pytest.fixture
def operator(node):
    with httpx.Client(base_url=node.url, headers={"Authorization": f"Bearer {ADMIN}"}, timeout=60 * PATIENCE) as client:
        yield client


def redeem(node, code):
    return node.client.post("/v1/invite/redeem", json={"code": code})


def test_a_code_is_redeemed_once_by_an_account(node, operator):
    made = operator.post("/v1/admin/invite-codes", json={"amount_usd": 2.5, "max_uses": 5})
    assert made.status_code == 201 and made.json()["amount_usd"] == "2.50" and made.json()["code"].startswith("INV-")
    code, before = made.json()["code"], node.balance()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: redeem(node, code.lower()).status_code, range(8)))
    assert sorted(answers) == [200] + [400] * 7
    assert node.balance() == before + 2_500_000
    row = next(row for row in operator.get("/v1/admin/invite-codes").json()["invite_codes"] if row["code"] == code)
    assert (row["used_count"], row["max_uses"], row["active"]) == (1, 5, True)
    assert node.get("/v1/payments/balance")["withdrawable_micro_usd"] == 0, "credit is to be spent here"
    node.check_books()


def test_amounts_are_taken_as_they_are_written(node, operator):
    for text, uusd in (("0.29", 290_000), ("1.0000005", 1_000_001), ("123456.789012", 123_456_789_012), ("2e-1", 200_000)):
        made = operator.post("/v1/admin/invite-codes", content=f'{{"amount_usd":{text}}}')
        assert made.status_code == 201, made.text
        before = node.balance()
        assert redeem(node, made.json()["code"]).status_code == 200
        assert node.balance() == before + uusd, text


def test_what_is_over_is_refused(node, operator):
    before = node.balance()
    operator.post("/v1/admin/invite-codes", json={"code": "late", "amount_usd": "1", "expires_at": "2020-01-01T00:00:00Z"})
    operator.post("/v1/admin/invite-codes", json={"code": "gone", "amount_usd": 1})
    assert operator.request("DELETE", "/v1/admin/invite-codes", json={"code": "Gone"}).json() == {"status": "deactivated"}
    assert [redeem(node, code).status_code for code in ("LATE", "GONE", "NEVER-MADE", "-bad-", "")] == [400, 400, 404, 400, 400]
    assert operator.request("DELETE", "/v1/admin/invite-codes", json={"code": "NEVER-MADE"}).status_code == 404
    assert node.balance() == before


def test_a_code_that_cannot_be_is_refused(node, operator):
    assert operator.post("/v1/admin/invite-codes", json={"code": "TWICE", "amount_usd": 1}).status_code == 201
    assert operator.post("/v1/admin/invite-codes", json={"code": "twice", "amount_usd": 1}).status_code == 409
    for body in ({}, {"amount_usd": 0}, {"amount_usd": -1}, {"amount_usd": 1e9}, {"amount_usd": "x"}, {"amount_usd": 1, "code": "ö" * 4},
                 {"amount_usd": 1, "expires_at": "soon"}, {"amount_usd": 1, "max_uses": 1.5}):
        assert operator.post("/v1/admin/invite-codes", json=body).status_code == 400, body
    assert node.client.post("/v1/admin/invite-codes", json={"amount_usd": 1}).status_code == 403
    assert node.client.post("/v1/invite/redeem", json={"code": "TWICE"}, headers={"Authorization": ""}).status_code == 401
