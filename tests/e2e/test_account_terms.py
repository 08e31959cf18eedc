"""What only the operator sets of an account: its role and the platform's share, and credit for an e-mail address."""

import json

import httpx

from harness import PATIENCE
from test_login import EMAIL, PASSWORD, Browser, sign_up_operator
from test_money import PRICES, entries

ADMIN = "an admin key of enough length"


def house(coordinator, **config):
    node = coordinator(config | {"accounts": {"admin_key": ADMIN, "signup": "open"}})
    admin = httpx.Client(base_url=node.url, headers={"Authorization": f"Bearer {ADMIN}"}, timeout=60 * PATIENCE)
    return node, admin, node.get("/v1/me")["account_id"]


def charge_of(node):
    answer = node.chat("scripted", "a prompt of six words exactly")
    assert answer.status_code == 200, answer.text
    assert node.usage()[0]["job_id"] == answer.headers["x-inference-job-id"]  # and everything before it is written
    return node.record(answer.headers["x-inference-job-id"])["usage"], entries(node, answer.headers["x-inference-job-id"])


def test_the_platforms_share_is_the_accounts_own_until_it_is_cleared(coordinator, provider):
    node, admin, owner = house(coordinator, pricing=PRICES | {"fee_percent": 30})
    provider(node, {"text": "one two three four five six seven"})
    cost = 6 * 3 + 7 * 20
    for percent, expected in ((None, 30), (50, 50), (0, 0), (None, 30), (100, 100)):
        changed = admin.put("/v1/admin/users/platform-fee", json={"account_id": owner, "platform_fee_percent": percent})
        assert changed.status_code == 200 and changed.json()["platform_fee_percent"] == percent, changed.text
        usage, amounts = charge_of(node)
        assert usage["fee_micro_usd"] == cost * expected // 100
        assert sum(amounts.values()) == 0
    node.restart()
    node.check_books()


def test_a_service_account_has_no_least_charge(coordinator, provider):
    node, admin, owner = house(coordinator)
    provider(node, {"text": "hi"})
    assert charge_of(node)[0]["cost_micro_usd"] == 100
    made = admin.put("/v1/admin/users/role", json={"account_id": owner, "role": "service"})
    assert made.json() == {"ok": True, "account_id": owner, "role": "service", "platform_fee_percent": None}
    assert charge_of(node)[0]["cost_micro_usd"] < 100
    assert admin.put("/v1/admin/users/role", json={"account_id": owner, "role": ""}).json()["role"] == ""
    assert charge_of(node)[0]["cost_micro_usd"] == 100
    node.check_books()


def test_wrong_terms_are_refused_and_change_nothing(coordinator):
    node, admin, owner = house(coordinator)
    for path, body, status in (
            ("role", {"account_id": owner, "role": "king"}, 400), ("role", {"account_id": owner}, 400), ("role", {"role": "service"}, 400),
            ("role", {"account_id": "nobody", "role": "service"}, 404), ("role", {"account_id": "platform", "role": "service"}, 404),
            ("platform-fee", {"account_id": owner, "platform_fee_percent": 101}, 400),
            ("platform-fee", {"account_id": owner, "platform_fee_percent": -1}, 400),
            ("platform-fee", {"account_id": owner, "platform_fee_percent": 1.5}, 400),
            ("platform-fee", {"account_id": "grants", "platform_fee_percent": 5}, 404)):
        refused = admin.put(f"/v1/admin/users/{path}", json=body)
        assert refused.status_code == status, (body, refused.text)
        assert node.client.put(f"/v1/admin/users/{path}", json=body).status_code == 403
    assert admin.put("/v1/admin/users/platform-fee", json={"account_id": owner}).json()["platform_fee_percent"] is None
    node.check_books()


def test_credit_finds_an_account_by_its_address(coordinator):
    node, admin, owner = house(coordinator)
    page = Browser(node)
    sign_up_operator(node, page)
    page.client.close()
    before = node.balance()
    given = admin.post("/v1/admin/credit", json={"email": EMAIL.upper(), "amount_usd": "1.50", "note": "hello"}).json()
    assert (given["ok"], given["account_id"], given["email"], given["withdrawable"]) == (True, owner, EMAIL, False)
    assert node.balance() == before + 1_500_000
    rewarded = admin.post("/v1/admin/reward", json={"email": EMAIL, "amount_usd": "1"}).json()
    assert (rewarded["rewarded_usd"], rewarded["withdrawable_after"]) == ("1.000000", "1.000000")
    assert admin.post("/v1/admin/credit", json={"email": "nobody@example.test", "amount_usd": "1"}).status_code == 404
    for body in ({"email": "no address", "amount_usd": "1"}, {"email": EMAIL, "account": "owner", "amount_usd": "1"}, {"amount_usd": "1"}):
        assert admin.post("/v1/admin/credit", json=body).status_code == 400, body
    assert PASSWORD not in node.log()
    node.check_books()


def test_shares_of_a_queue_are_set_while_it_runs_and_kept(coordinator):
    node, admin, owner = house(coordinator, routing={"account_shares": [f"{'x' * 8}=batch"]})
    path = "/v1/admin/account-shares"
    configured = {"account_id": "x" * 8, "weight": 1, "priority": "batch", "source": "configuration"}
    assert admin.get(path).json() == {"shares": [configured]}
    made = admin.put(path, json={"account_id": owner, "weight": 2.5, "priority": "interactive"})
    expected = {"account_id": owner, "weight": 2.5, "priority": "interactive", "source": "operator"}
    assert made.status_code == 200 and made.json() == expected, made.text

    def told():
        return sorted(admin.get(path).json()["shares"], key=lambda share: share["source"])
    assert told() == [configured, expected]
    node.restart()
    assert told() == [configured, expected]
    assert admin.put(path, json={"account_id": owner, "priority": "batch"}).json() == expected | {"weight": 1, "priority": "batch"}
    for body, status in (({}, 400), ({"account_id": owner}, 400), ({"account_id": owner, "weight": 0}, 400), ({"account_id": owner, "weight": "2"}, 400),
                         ({"account_id": owner, "weight": 101}, 400), ({"account_id": owner, "priority": "king"}, 400),
                         ({"account_id": "nobody", "weight": 2}, 404), ({"account_id": "n" * 300, "weight": 2}, 404)):
        refused = admin.put(path, json=body)
        assert refused.status_code == status, (body, refused.text)
    assert admin.delete(f"{path}/{owner}").json() == {"deleted": True, "account_id": owner}
    assert admin.delete(f"{path}/{owner}").status_code == 404
    assert told() == [configured]
    node.restart()
    assert told() == [configured]
    assert node.client.get(path).status_code == 403
    rows = [json.loads(line) for line in node.command("audit", "--json").stdout.splitlines()]
    noted = [row for row in rows if row["action"] == "account.share"]
    assert len(noted) == 3 and {row["subject"] for row in noted} == {owner}, noted
