"""Stripe's own account of what it did, beside the books: they agree, or the operator is told by how much."""

import json

import pytest

import patient
from harness import wait_until
from stripe_server import StripeServer, event, signed
from test_withdrawals import Payee

ADMIN = {"Authorization": "Bearer " + "a" * 32}


@pytest.fixture
def stripe():
    made = StripeServer()
    yield made
    made.stop()


@pytest.fixture
def node(coordinator, stripe):
    return coordinator({"accounts": {"admin_key": "a" * 32, "first_grant_usd": "5"}, **stripe.config()})


def reconcile(node):
    answer = patient.post(f"{node.url}/v1/admin/stripe/reconcile", headers=ADMIN)
    assert answer.status_code == 200, answer.text
    return answer.json()


def pay(node, stripe, n, amount="25.00"):
    row = node.client.post("/v1/billing/stripe/create-session", json={"amount_usd": amount}).json()
    form = stripe.sessions[row["stripe_session"]]["form"]
    cents = int(form["line_items[0][price_data][unit_amount]"])
    session = {"id": row["stripe_session"], "object": "checkout.session", "currency": "usd", "payment_status": "paid", "amount_total": cents,
               "payment_intent": f"pi_{n}", "metadata": {"consumer_key": form["metadata[consumer_key]"],
                                                         "billing_session_id": form["metadata[billing_session_id]"]}}
    stripe.moved("charge", cents, fee=103, source={"id": f"ch_{n}", "object": "charge", "payment_intent": f"pi_{n}"})
    return session


def tell(node, kind, obj, name):
    body = event(name, kind, obj)
    assert node.client.post("/v1/billing/stripe/webhook", content=body, headers=signed(body) | {"Authorization": ""}).status_code == 200


def test_a_stripe_that_did_what_the_books_say_agrees(node, stripe):
    assert reconcile(node)["agrees"], "nothing happened yet"
    sessions = [pay(node, stripe, n) for n in range(5)]  # more than one page
    for n, session in enumerate(sessions):
        tell(node, "checkout.session.completed", session, f"evt_{n}")
    tell(node, "charge.refunded", {"id": "ch_1", "object": "charge", "currency": "usd", "amount_refunded": 1000} | {
        key: sessions[0][key] for key in ("payment_intent", "metadata")}, "evt_refund")
    stripe.moved("refund", -1000, source={"id": "re_1", "object": "refund", "payment_intent": "pi_0"})
    stripe.moved("charge", 5000, currency="eur")  # of another business on the same account
    stripe.moved("stripe_fee", -31)
    stripe.moved("payout", -2000)  # to the operator's own bank
    told = reconcile(node)
    run = node.command("reconcile")
    assert run.returncode == 0 and "They agree." in run.stdout and "125.000000" in run.stdout, run.stderr
    assert told["agrees"] and told["books"] == told["stripe"] == {
        "deposits_micro_usd": 125_000_000, "reversals_micro_usd": 10_000_000, "transfers_micro_usd": 0}
    assert node.metrics()['darkbloom_stripe_difference_micro_usd{what="deposits"}'] == 0
    assert "stripe.differs" not in node.command("audit").stdout


def test_a_difference_is_told_counted_and_noted(node, stripe):
    session = pay(node, stripe, 1)
    stripe.missing = -3
    told = reconcile(node)  # the webhook never came, and three cents are gone
    assert not told["agrees"]
    run = node.command("reconcile")
    assert run.returncode == 1 and "They differ" in run.stdout and "25.000000" in run.stdout and "-0.030000" in run.stdout, run.stderr
    assert json.loads(node.command("reconcile", "--json").stdout) == told
    assert told["stripe"]["deposits_micro_usd"] - told["books"]["deposits_micro_usd"] == 25_000_000
    assert told["balance_off_micro_usd"] == -30_000
    assert told["differences"] == [{"kind": "deposit", "reference": "pi_1", "books_id": "", "books_micro_usd": 0, "stripe_micro_usd": 25_000_000}]
    assert "deposit pi_1" in node.command("reconcile").stdout
    assert node.metrics()['darkbloom_stripe_difference_micro_usd{what="deposits"}'] == 25_000_000
    assert node.metrics()['darkbloom_stripe_difference_micro_usd{what="balance"}'] == -30_000
    wait_until(lambda: "stripe.differs" in node.command("audit").stdout, "the audit trail to have it")
    assert "stripe.differs" in node.log()
    tell(node, "checkout.session.completed", session, "evt_late")
    stripe.missing = 0
    assert reconcile(node)["agrees"]


def test_two_errors_that_cancel_are_found(node, stripe):
    one, other = pay(node, stripe, 1, "10.00"), pay(node, stripe, 2, "20.00")
    tell(node, "checkout.session.completed", one, "evt_1")
    tell(node, "checkout.session.completed", other, "evt_2")
    assert reconcile(node)["agrees"]
    stripe.transactions[0]["source"]["payment_intent"], stripe.transactions[1]["source"]["payment_intent"] = "pi_2", "pi_1"
    told = reconcile(node)
    assert told["books"] == told["stripe"] and not told["agrees"] and told["difference_count"] == 2
    assert {(row["reference"], row["books_micro_usd"], row["stripe_micro_usd"]) for row in told["differences"]} == {
        ("pi_1", 10_000_000, 20_000_000), ("pi_2", 20_000_000, 10_000_000)}
    assert all(row["books_id"] for row in told["differences"])
    stripe.transactions[0]["source"] = stripe.transactions[1]["source"] = "ch_unknown"  # of which nothing can be said one by one
    told = reconcile(node)
    assert told["agrees"] and told["unnamed"] == 2


def test_a_deposit_that_stripe_does_not_know_is_found(node, stripe):
    session = pay(node, stripe, 1)
    tell(node, "checkout.session.completed", session, "evt_1")
    del stripe.transactions[0]
    (row,) = reconcile(node)["differences"]
    assert (row["reference"], row["books_micro_usd"], row["stripe_micro_usd"]) == ("pi_1", 25_000_000, 0) and row["books_id"]


def test_transfers_are_compared_one_by_one(node, stripe):
    payee = Payee(node, stripe)
    payee.onboard()
    first, second = (payee.withdraw(amount).json() for amount in ("10.00", "20.00"))
    stripe.moved("transfer", -1000, source={"id": first["transfer_id"], "object": "transfer"})
    stripe.moved("transfer", -2000, source=second["transfer_id"])  # not told in full
    told = reconcile(node)
    assert told["agrees"] and told["books"]["transfers_micro_usd"] == told["stripe"]["transfers_micro_usd"] == 30_000_000, told

    one, other = stripe.transactions
    one["source"], other["source"] = other["source"], one["source"]  # the sums are right, each transfer is wrong
    told = reconcile(node)
    assert told["books"] == told["stripe"] and not told["agrees"] and told["unnamed"] == 0
    assert {(row["kind"], row["reference"], row["books_id"], row["books_micro_usd"], row["stripe_micro_usd"]) for row in told["differences"]} == {
        ("transfer", first["transfer_id"], first["withdrawal_id"], 10_000_000, 20_000_000),
        ("transfer", second["transfer_id"], second["withdrawal_id"], 20_000_000, 10_000_000)}
    one["source"], other["source"] = other["source"], one["source"]

    assert payee.tell("evt_failed", "payout.failed", stripe.payouts[second["payout_id"]]).status_code == 200
    wait_until(lambda: {row["status"] for row in payee.rows()} == {"submitted", "failed"}, "the second to be given back")
    (row,) = reconcile(node)["differences"]  # the books took it back, Stripe did not
    assert (row["reference"], row["books_micro_usd"], row["stripe_micro_usd"]) == (second["transfer_id"], 0, 20_000_000)
    (reversal,) = stripe.reversals.values()
    stripe.moved("transfer_refund", 2000, source=reversal)
    told = reconcile(node)
    assert told["agrees"] and told["stripe"]["transfers_micro_usd"] == 10_000_000, told
    stripe.moved("transfer", -700, source={"id": "tr_unknown", "object": "transfer"})  # nobody asked for it
    (row,) = reconcile(node)["differences"]
    assert (row["kind"], row["reference"], row["books_id"], row["stripe_micro_usd"]) == ("transfer", "tr_unknown", "", 7_000_000)
    node.check_books()


def test_a_stripe_that_cannot_be_asked_is_no_difference(node, stripe):
    stripe.stop()
    answer = patient.post(f"{node.url}/v1/admin/stripe/reconcile", headers=ADMIN)
    assert answer.status_code == 502 and answer.json()["error"]["type"] == "stripe_error"
    assert "stripe.differs" not in node.command("audit").stdout


def test_only_the_operator_may_ask(node):
    assert patient.post(f"{node.url}/v1/admin/stripe/reconcile").status_code == 401
    assert node.client.post("/v1/admin/stripe/reconcile").status_code in (401, 403)
