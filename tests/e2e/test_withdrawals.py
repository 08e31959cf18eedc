"""Paying out: whatever Stripe answers, and whenever the coordinator dies, the money is in exactly one place."""

import sqlite3
import time

import httpx
import pytest

import patient
from harness import PATIENCE, wait_until
from stripe_server import CONNECT_SECRET, StripeServer, event, signed
from test_login import Browser, sign_up_operator

ADMIN = "a" * 32
DAY_US = 86_400_000_000


class Payee:
    """A coordinator, its Stripe, and an owner who may withdraw."""

    def __init__(self, node, stripe, earned="100"):
        self.node, self.stripe = node, stripe
        admin = patient.post(f"{node.url}/v1/admin/reward", json={"account": "owner", "amount_usd": earned, "note": "earned"},
                           headers={"Authorization": f"Bearer {ADMIN}"})
        assert admin.status_code == 200
        page = Browser(node)
        sign_up_operator(node, page)
        self.client = page.client
        self.client.headers.update({"Origin": node.url, "X-CSRF-Token": page.csrf})

    def post(self, path, body):
        return self.client.post(self.node.url + path, json=body)

    def get(self, path):
        return self.client.get(self.node.url + path).json()

    def onboard(self, ready=True):
        answer = self.post("/v1/billing/stripe/onboard", {"country": "us"})
        assert answer.status_code == 200, answer.text
        account = answer.json()["stripe_account_id"]
        self.stripe.accounts[account] |= {"payouts_enabled": ready, "external_accounts": {"data": [
            {"object": "card", "funding": "debit", "last4": "4242", "fingerprint": "fp_4242", "default_for_currency": True}]}}
        return self.get("/v1/billing/stripe/status?refresh=1")

    def withdraw(self, amount="10.00", **more):
        return self.post("/v1/billing/withdraw/stripe", {"amount_usd": amount, **more})

    def rows(self):
        return self.get("/v1/billing/stripe/withdrawals")["withdrawals"]

    def withdrawable(self):
        return self.get("/v1/payments/balance")["withdrawable_micro_usd"]

    def tell(self, event_id, kind, obj):
        body = event(event_id, kind, obj)
        return self.client.post(f"{self.node.url}/v1/billing/stripe/connect/webhook", content=body,
                                headers=signed(body, secret=CONNECT_SECRET) | {"Authorization": ""})

    def wait(self, status):
        return wait_until(lambda: (row := self.rows()[0])["status"] == status and row, f"the withdrawal to be {status}")

    def out(self):
        """Micro-dollars that certainly left through Stripe: transfers that were not reversed."""
        return sum(one["amount"] * 10_000 for one in self.stripe.transfers.values() if not one["reversed"])


@pytest.fixture
def payee(coordinator):
    stripe, made = StripeServer(), []

    def make(earned="100", **more):
        node = coordinator({"accounts": {"admin_key": ADMIN, "first_grant_usd": "5"},
                            "limits": {"financial_per_minute": 100000, "financial_burst": 100000}, **stripe.config(**more)})
        made.append(Payee(node, stripe, earned))
        return made[-1]

    yield make
    for one in made:
        one.client.close()
    stripe.stop()


def test_what_was_earned_is_paid_out(payee):
    one = payee()
    assert one.withdraw().status_code == 403, "nobody was onboarded"
    assert one.onboard()["status"] == "ready"
    answer = one.withdraw()
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["status"], told["amount_usd"], told["fee_usd"], told["net_usd"]) == ("submitted", "10.00", "0.00", "10.00")
    assert one.withdrawable() == 90_000_000 and told["balance_micro_usd"] == 95_000_000
    for _ in range(2):
        assert one.tell("evt_paid", "payout.paid", one.stripe.payouts[told["payout_id"]]).status_code == 200
    assert one.wait("paid")["refunded"] is False
    assert one.out() == 10_000_000
    one.node.check_books()


def test_whom_stripe_pays_is_remembered_when_the_destination_is_taken_away(payee):
    one = payee()
    one.onboard()

    def known():
        database = sqlite3.connect(f"file:{one.node.data / 'coordinator.db'}?mode=ro", uri=True)
        try:
            return database.execute("SELECT destination_last4, payee FROM connect_accounts").fetchall()
        finally:
            database.close()

    assert known() == [("4242", "fp_4242")]
    for account in one.stripe.accounts.values():
        account["external_accounts"] = {"data": []}
    one.get("/v1/billing/stripe/status?refresh=1")
    assert known() == [("", "fp_4242")]


def test_an_instant_payout_has_a_fee(payee):
    one = payee()
    one.onboard()
    told = one.withdraw("10.00", method="instant").json()
    assert (told["fee_usd"], told["net_usd"]) == ("0.50", "9.50")
    told = one.withdraw("50.00", method="instant").json()
    assert (told["fee_usd"], told["net_usd"]) == ("0.75", "49.25")


@pytest.mark.parametrize("amount", ["0.99", "-10", "1e1", "10.001", "NaN", ""])
def test_an_amount_that_cannot_be_is_refused(payee, amount):
    one = payee()
    one.onboard()
    assert one.withdraw(amount).status_code == 400
    assert one.rows() == [] and one.withdrawable() == 100_000_000


def test_only_what_was_earned_can_be_withdrawn_and_so_much_a_day(payee):
    one = payee(daily_withdrawal_usd=60)
    one.onboard()
    refused = one.withdraw("101.00")
    assert refused.status_code == 400 and refused.json()["error"]["type"] == "insufficient_withdrawable"
    assert one.withdraw("50.00").status_code == 200
    refused = one.withdraw("20.00")
    assert refused.status_code == 400 and refused.json()["error"]["type"] == "withdrawal_limit"
    assert one.withdraw("10.00").status_code == 200
    assert one.withdrawable() == 40_000_000
    one.node.check_books()


def test_a_definite_refusal_gives_the_money_back_at_once(payee):
    one = payee()
    one.onboard()
    one.stripe.fail_next("transfers", 400)
    assert one.withdraw().status_code == 502
    assert one.wait("failed")["refunded"] is True
    assert one.withdrawable() == 100_000_000 and one.out() == 0
    one.node.check_books()


@pytest.mark.parametrize("fault", [500, 429, "lost"])
def test_an_answer_that_says_nothing_is_asked_for_again_with_the_same_key(payee, fault):
    one = payee()
    one.onboard()
    one.stripe.fail_next("transfers", fault, 3)
    assert one.withdraw().status_code in (200, 202)
    one.wait("submitted")
    calls = [call for call in one.stripe.made("/v1/transfers") if call["method"] == "POST"]
    assert len(calls) >= (1 if fault == "lost" else 2) and len({call["key"] for call in calls}) == 1
    assert len(one.stripe.transfers) == 1 and len(one.stripe.payouts) == 1
    assert one.withdrawable() == 90_000_000 and one.out() == 10_000_000
    one.node.check_books()


def test_what_hangs_for_so_long_that_stripe_forgot_its_key_is_not_done_twice(payee):
    one = payee()
    one.stripe.forgetful = True
    one.onboard()
    one.stripe.fail_next("transfers", "hidden")
    one.stripe.fail_next("payouts", "hidden")
    for _ in range(4):  # Stripe lists three on a page, the newest first: the first of these may be on its second
        assert one.withdraw("5.00").status_code in (200, 202)
    wait_until(lambda: {row["status"] for row in one.rows()} == {"submitted"}, "all withdrawals to be submitted")
    assert len(one.stripe.transfers) == 4 and len(one.stripe.payouts) == 4
    assert {row["transfer_id"] for row in one.rows()} == set(one.stripe.transfers)
    assert one.out() == 20_000_000 and one.withdrawable() == 80_000_000
    one.node.check_books()


def test_a_reversal_that_stripe_forgot_is_seen_at_its_transfer(payee):
    one = payee()
    one.stripe.forgetful = True
    one.onboard()
    one.stripe.fail_next("payouts", 400)
    one.stripe.fail_next("reversals", "hidden")
    assert one.withdraw().status_code in (202, 502)
    assert one.wait("failed")["refunded"] is True
    assert len(one.stripe.reversals) == 1 and one.withdrawable() == 100_000_000 and one.out() == 0
    one.node.check_books()


def test_a_refused_payout_comes_back_before_it_is_refunded(payee):
    one = payee()
    one.onboard()
    one.stripe.fail_next("payouts", 400)
    one.stripe.fail_next("reversals", 500, 2)
    assert one.withdraw().status_code in (202, 502)
    row = one.wait("failed")
    assert row["refunded"] is True and len(one.stripe.reversals) == 1
    assert one.withdrawable() == 100_000_000 and one.out() == 0
    one.node.check_books()


@pytest.mark.parametrize("paid_first", [False, True])
def test_a_payout_that_the_bank_sends_back_is_refunded_once(payee, paid_first):
    one = payee()
    one.onboard()
    payout = one.stripe.payouts[one.withdraw().json()["payout_id"]]
    if paid_first:
        assert one.tell("evt_paid", "payout.paid", payout).status_code == 200
    for i in range(3):
        assert one.tell(f"evt_failed_{i}", "payout.failed", payout).status_code == 200
    row = one.wait("failed")
    transfer = one.stripe.transfers[row["transfer_id"]]
    assert one.tell("evt_reversed", "transfer.reversed", transfer).status_code == 200
    assert one.tell("evt_paid_late", "payout.paid", payout).status_code == 200
    assert one.wait("failed")["refunded"] is True
    assert one.withdrawable() == 100_000_000 and one.out() == 0
    one.node.check_books()


def test_paid_may_be_told_before_the_payout_is_known(payee):
    one = payee()
    one.onboard()
    one.stripe.fail_next("payouts", "lost", 4)
    answer = one.withdraw()
    payout = wait_until(lambda: next(iter(one.stripe.payouts.values()), None), "Stripe to make the payout")
    assert one.tell("evt_early", "payout.paid", payout).status_code == 200
    row = one.wait("paid")
    assert row["payout_id"] == payout["id"] and answer.status_code in (200, 202)
    assert len(one.stripe.payouts) == 1


def test_what_stripe_forgot_meanwhile_is_found_after_a_crash_whatever_the_clock_says(payee):
    one = payee()
    one.stripe.forgetful = True
    one.onboard()
    one.stripe.fail_next("transfers", "hidden")
    assert one.withdraw().status_code == 202
    one.node.kill()
    with sqlite3.connect(one.node.data / "coordinator.db") as database:  # the clock was days ahead, and came back
        assert database.execute("UPDATE withdrawals SET created_us = created_us + ?1, updated_us = updated_us + ?1", [3 * DAY_US]).rowcount == 1
    database.close()
    one.node.start()
    one.wait("submitted")
    assert len(one.stripe.transfers) == 1 and len(one.stripe.payouts) == 1
    assert one.out() == 10_000_000 and one.withdrawable() == 90_000_000
    one.node.check_books()


def test_a_crash_in_between_loses_nothing(payee):
    one = payee()
    one.onboard()
    one.stripe.fail_next("transfers", 500, 2)
    assert one.withdraw().status_code == 202
    one.node.kill()
    one.node.start()
    one.wait("submitted")
    assert len(one.stripe.transfers) == 1 and one.out() == 10_000_000
    assert one.withdrawable() == 90_000_000
    one.node.check_books()


def test_a_webhook_that_nobody_signed_changes_nothing(payee):
    one = payee()
    one.onboard()
    payout = one.stripe.payouts[one.withdraw().json()["payout_id"]]
    body = event("evt", "payout.failed", payout)
    url = f"{one.node.url}/v1/billing/stripe/connect/webhook"
    for headers in ({}, signed(body), signed(body, secret=CONNECT_SECRET, at=int(time.time()) - 400)):
        assert patient.post(url, content=body, headers=headers).status_code == 400
    assert one.rows()[0]["status"] == "submitted"


def test_a_browser_is_sent_only_where_the_operator_wants(payee):
    one = payee(return_url="https://console.example/billing")
    for url in ("https://evil.example/", "https://console.example@evil.example/", "javascript:alert(1)", "https://console.example.evil.example/"):
        assert one.post("/v1/billing/stripe/onboard", {"country": "US", "return_url": url}).status_code == 400, url
    assert one.post("/v1/billing/stripe/onboard", {"country": "US", "return_url": "https://console.example/other"}).status_code == 200
    assert one.post("/v1/billing/stripe/onboard", {"country": "USA"}).status_code == 400


def test_an_api_key_moves_no_money_out(payee):
    one = payee()
    one.onboard()
    with httpx.Client(base_url=one.node.url, timeout=60 * PATIENCE) as thief:
        made = one.node.command("keys", "create", "--scopes", "inference,keys,account,payouts")
        thief.headers["Authorization"] = f"Bearer {made.stdout.strip()}"
        assert thief.get("/v1/payments/balance").status_code == 200
        for method, path in (("POST", "stripe/onboard"), ("GET", "stripe/status"), ("POST", "withdraw/stripe"), ("GET", "stripe/withdrawals")):
            body = {"amount_usd": "10.00", "country": "US"} if method == "POST" else None
            assert thief.request(method, f"/v1/billing/{path}", json=body).status_code == 403, path
    assert one.rows() == [] and one.withdrawable() == 100_000_000


def test_a_form_of_another_site_moves_no_money_out(payee):
    one = payee()
    one.onboard()
    for headers in ({"X-CSRF-Token": ""}, {"X-CSRF-Token": "0" * 64}, {"Origin": "https://evil.example", "X-CSRF-Token": ""}):
        answer = one.client.post(f"{one.node.url}/v1/billing/withdraw/stripe", json={"amount_usd": "10.00"}, headers=headers)
        assert answer.status_code == 403, headers
    assert one.rows() == [] and one.withdrawable() == 100_000_000


def test_an_account_waits_between_withdrawals(payee):
    one = payee(withdrawal_cooldown_s=3600)
    one.onboard()
    one.stripe.fail_next("transfers", 400)
    assert one.withdraw().status_code == 502
    one.wait("failed")
    assert one.withdraw().status_code == 200, "one that failed does not count"
    for _ in range(2):
        refused = one.withdraw()
        assert refused.status_code == 400 and refused.json()["error"]["type"] == "withdrawal_cooldown"
        one.node.restart()
    assert len(one.rows()) == 2 and one.out() == 10_000_000 and one.withdrawable() == 90_000_000
    one.node.check_books()
