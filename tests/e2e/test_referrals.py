"""Referrals: codes, who may name whom, and shares of the platform's fee that follow every charge."""

import time

import pytest

import patient
from harness import wait_until
from stripe_server import StripeServer, event, signed
from test_account_terms import ADMIN, charge_of
from test_login import EMAIL, PASSWORD, Browser, sign_up_operator
from test_money import PRICES


def post(page, path, body):
    return page.send("POST", path, body)


def joined(node, email, **more):
    page = Browser(node)
    page.logged_in(page.post("/v1/session/register", {"email": email, "password": PASSWORD, **more}))
    return page


@pytest.fixture
def town(coordinator):
    """A coordinator with a fee, and a function that makes people in it."""

    def make(**config):
        node = coordinator({"accounts": {"admin_key": ADMIN, "signup": "open", "first_grant_usd": "1000"},
                            "pricing": PRICES | {"fee_percent": 30}, **config})
        owner = Browser(node)
        sign_up_operator(node, owner)
        return node, owner

    return make


def test_a_share_of_the_fee_goes_to_the_referrer(town, provider):
    node, owner = town(referrals={"share_percent": 25})
    ann = joined(node, "ann@example.test")
    made = post(ann, "/v1/referral/register", {"code": " ann-01 "})
    assert made.json() == {"code": "ANN-01", "share_percent": 25, "message": "The code can be passed on."}
    assert post(ann, "/v1/referral/register", {"code": "OTHER"}).json()["code"] == "ANN-01"
    assert node.client.get("/v1/referral/info").status_code == 404
    assert post(owner, "/v1/referral/apply", {"code": "ann-01"}).json()["status"] == "applied"
    assert node.get("/v1/referral/info")["referred_by"] == "ANN-01"
    assert node.get("/v1/billing/methods")["referral"] == {"enabled": True, "share_percent": 25}

    provider(node, {"text": "one two three four five six seven"})
    fee = (6 * 3 + 7 * 20) * 30 // 100
    for count in (1, 2, 3):
        usage, split = charge_of(node)
        amounts = {kind: amount for (_, kind), amount in split.items()}
        assert usage["fee_micro_usd"] == fee
        assert amounts["referral_reward"] == fee // 4 and amounts["platform_fee"] == fee - fee // 4 and sum(amounts.values()) == 0
        if count == 2:
            node.restart()
            node.wait_routable("scripted")
    stats = ann.client.get("/v1/referral/stats").json()
    assert (stats["code"], stats["total_referred"], stats["total_rewards_micro_usd"]) == ("ANN-01", 1, 3 * (fee // 4))
    assert stats["balance_micro_usd"] == 3 * (fee // 4) and stats["balance_usd"] == f"0.{3 * (fee // 4):06d}"
    balance = ann.client.get("/v1/payments/balance").json()
    assert balance["withdrawable_micro_usd"] == 3 * (fee // 4)
    statement = ann.client.get(f"/v1/payments/statement?month={time.strftime('%Y-%m', time.gmtime())}").json()
    assert statement["movements"] == [{"type": "referral_reward", "count": 3, "amount_micro_usd": 3 * (fee // 4)}], statement
    assert (statement["opening_balance_micro_usd"], statement["closing_balance_micro_usd"]) == (0, 3 * (fee // 4))
    trail = node.command("audit", "--limit", "100").stdout
    assert "referral.register" in trail and "referral.apply" in trail
    node.check_books()


def test_nobody_refers_themselves_each_other_or_twice(town):
    node, owner = town()
    ann, bob = joined(node, "ann@example.test"), joined(node, "bob@example.test")
    assert post(ann, "/v1/referral/register", {"code": "ANN"}).status_code == 200
    assert post(bob, "/v1/referral/register", {"code": "BOB"}).status_code == 200
    assert post(owner, "/v1/referral/register", {"code": "bob"}).json()["error"]["type"] == "referral_error"
    refused = [(ann, "ANN"), (ann, "NOBODY"), (ann, "-x-"), (ann, "ab"), (ann, "A" * 21), (ann, "")]
    assert post(bob, "/v1/referral/apply", {"code": "ANN"}).status_code == 200
    for page, code in refused + [(ann, "BOB"), (bob, "ANN")]:
        answer = post(page, "/v1/referral/apply", {"code": code})
        assert answer.status_code == 400 and answer.json()["error"]["type"] == "referral_error", (code, answer.text)
    spare = joined(node, "ann+spare@example.test")
    assert post(spare, "/v1/referral/apply", {"code": "ANN"}).status_code == 400
    assert owner.client.get("/v1/referral/stats").status_code == 404
    assert ann.client.get("/v1/referral/info").json()["referred_by"] is None


def test_a_key_cannot_name_a_referrer(town):
    node, owner = town()
    for path in ("/v1/referral/register", "/v1/referral/apply"):
        assert node.client.post(path, json={"code": "ABC"}).status_code in (401, 403)
        assert patient.post(node.url + path, json={"code": "ABC"}).status_code == 401


def test_a_code_is_named_at_sign_up(town):
    node, owner = town()
    assert post(owner, "/v1/referral/register", {"code": "WELCOME"}).status_code == 200
    ann = joined(node, "ann@example.test", referral_code="welcome")
    wait_until(lambda: ann.client.get("/v1/referral/info").status_code == 200, "the referral to be noted")
    assert ann.client.get("/v1/referral/info").json() == {"code": "", "share_percent": 20, "referred_by": "WELCOME"}
    bob = joined(node, "bob@example.test", referral_code="NOBODY")
    assert bob.client.get("/v1/referral/info").status_code == 404
    cyd = Browser(node)
    page = cyd.client.get("/signup?ref=welcome").text
    assert 'name="ref" value="welcome"' in page
    form = {"email": "cyd@example.test", "password": PASSWORD, "ref": "welcome", "next": "/login"}
    assert cyd.client.post("/signup", data=form, headers={"Origin": node.url}).status_code in (302, 303)
    wait_until(lambda: owner.client.get("/v1/referral/stats").json()["total_referred"] == 2, "both referrals")


def test_a_code_is_named_at_checkout_and_counts_when_the_money_came_in(town):
    stripe = StripeServer()
    try:
        node, owner = town(**stripe.config())
        ann = joined(node, "ann@example.test")
        assert post(ann, "/v1/referral/register", {"code": "ANN"}).status_code == 200
        begin = {"amount_usd": "5.00", "referral_code": "nobody"}
        assert node.client.post("/v1/billing/stripe/create-session", json=begin).status_code == 400
        assert not stripe.made("checkout")
        row = node.client.post("/v1/billing/stripe/create-session", json=begin | {"referral_code": "ann"}).json()
        assert node.client.get("/v1/referral/info").status_code == 404
        form = stripe.sessions[row["stripe_session"]]["form"]
        assert form["metadata[referral_code]"] == "ANN"
        session = {"id": row["stripe_session"], "object": "checkout.session", "currency": "usd", "payment_status": "paid", "amount_total": 500,
                   "payment_intent": "pi_1",
                   "metadata": {"consumer_key": form["metadata[consumer_key]"], "billing_session_id": form["metadata[billing_session_id]"]}}
        body = event("evt_1", "checkout.session.completed", session)
        for _ in range(2):
            told = node.client.post("/v1/billing/stripe/webhook", content=body, headers=signed(body) | {"Authorization": ""})
            assert told.status_code == 200
        wait_until(lambda: node.client.get("/v1/referral/info").status_code == 200, "the referral to be noted")
        assert node.get("/v1/referral/info")["referred_by"] == "ANN"
        node.check_books()
    finally:
        stripe.stop()
