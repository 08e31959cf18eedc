"""Paying in through Stripe: credited exactly once whatever Stripe sends how often in which order, and taken back with refunds."""

import concurrent.futures
import itertools
import random

import pytest

from stripe_server import CONNECT_SECRET, StripeServer, event, signed

WEBHOOK = "/v1/billing/stripe/webhook"


@pytest.fixture(scope="module")
def stripe():
    made = StripeServer()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def node(house, stripe):
    return house.coordinator({"accounts": {"first_grant_usd": "0"}, "limits": {"financial_per_minute": 100000, "financial_burst": 100000},
                              **stripe.config()})


@pytest.fixture
def tell(node):
    def send(body, **how):
        headers = signed(body, **how) | {"Authorization": ""}
        return node.client.post(WEBHOOK, content=body, headers=headers)

    return send


numbers = itertools.count(1)


@pytest.fixture
def deposit(node, stripe):
    """A checkout of $25 that was begun: (its row, the object that Stripe would send)."""

    def begin(amount="25.00"):
        answer = node.client.post("/v1/billing/stripe/create-session", json={"amount_usd": amount})
        assert answer.status_code == 200, answer.text
        row = answer.json()
        form = stripe.sessions[row["stripe_session"]]["form"]
        n = next(numbers)
        return row, {"id": row["stripe_session"], "object": "checkout.session", "currency": "usd", "payment_status": "paid",
                     "amount_total": int(form["line_items[0][price_data][unit_amount]"]), "payment_intent": f"pi_{n}",
                     "metadata": {"consumer_key": form["metadata[consumer_key]"], "billing_session_id": form["metadata[billing_session_id]"]}}

    return begin


def charge_of(session, **more):
    return {"id": f"ch_{session['payment_intent']}", "object": "charge", "currency": "usd", "payment_intent": session["payment_intent"],
            "metadata": session["metadata"], **more}


def test_a_payment_is_credited_once(node, stripe, tell, deposit):
    row, session = deposit()
    assert row["amount_micro_usd"] == 25_000_000 and row["url"].startswith("https://checkout.example/")
    call = stripe.made("checkout")[-1]
    assert call["key"] == row["session_id"], "a repeated call would not begin a second payment"
    assert node.get(f"/v1/billing/stripe/session?id={row['session_id']}")["status"] == "pending"
    before, body = node.balance(), event("evt_once", "checkout.session.completed", session)
    for _ in range(3):
        assert tell(body).status_code == 200
    again = event("evt_once_more", "checkout.session.async_payment_succeeded", session)
    assert tell(again).status_code == 200
    assert node.balance() == before + 25_000_000
    told = node.get(f"/v1/billing/stripe/session?id={row['session_id']}")
    assert told["status"] == "completed" and told["completed_at"]
    node.check_books()


def test_deliveries_at_the_same_time_credit_once(node, tell, deposit):
    _, session = deposit()
    before = node.balance()
    bodies = [event(f"evt_race_{i % 2}", "checkout.session.completed", session) for i in range(12)]
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        assert {answer.status_code for answer in pool.map(tell, bodies)} == {200}
    assert node.balance() == before + 25_000_000
    node.check_books()


@pytest.mark.parametrize("change", [{"amount_total": 2499}, {"currency": "eur"}, {"metadata": {"consumer_key": "somebody"}}, {"amount_total": None}])
def test_what_does_not_match_is_not_credited(node, tell, deposit, change):
    row, session = deposit()
    before = node.balance()
    changed = session | change
    if "metadata" in change:
        changed["metadata"] = session["metadata"] | change["metadata"]
    assert tell(event(f"evt_bad_{row['session_id']}", "checkout.session.completed", changed)).status_code == 400
    assert node.balance() == before


def test_a_payment_that_takes_days_is_credited_when_it_came_in(node, tell, deposit):
    row, session = deposit()
    before = node.balance()
    assert tell(event("evt_slow_1", "checkout.session.completed", session | {"payment_status": "unpaid"})).status_code == 200
    assert node.balance() == before
    assert tell(event("evt_slow_2", "checkout.session.async_payment_succeeded", session)).status_code == 200
    assert node.balance() == before + 25_000_000


def test_a_body_that_nobody_signed_changes_nothing(node, tell, deposit):
    _, session = deposit()
    before, body = node.balance(), event("evt_forged", "checkout.session.completed", session)
    import time

    assert tell(body, secret="another").status_code == 400
    assert tell(body, secret=CONNECT_SECRET).status_code == 400
    assert tell(body, at=int(time.time()) - 400).status_code == 400
    assert tell(body, at=int(time.time()) + 400).status_code == 400
    assert node.client.post(WEBHOOK, content=body, headers={"Authorization": ""}).status_code == 400
    headers = signed(body) | {"Authorization": ""}
    assert node.client.post(WEBHOOK, content=body.replace("2500", "9900"), headers=headers).status_code == 400
    assert node.balance() == before


@pytest.mark.parametrize("seed", range(6))
def test_refunds_and_disputes_reverse_in_whatever_order_they_are_told(node, tell, deposit, seed):
    """Paid, partly refunded in two steps, disputed and won: in the end the account has what Stripe has."""
    row, session = deposit()
    before = node.balance()
    told = [
        event(f"evt_{seed}_paid", "checkout.session.completed", session, 1000),
        event(f"evt_{seed}_refund_1", "charge.refunded", charge_of(session, amount_refunded=500), 1001),
        event(f"evt_{seed}_refund_2", "charge.refunded", charge_of(session, amount_refunded=800), 1002),
        event(f"evt_{seed}_disputed", "charge.dispute.funds_withdrawn", charge_of(session, amount=1700), 1003),
        event(f"evt_{seed}_won", "charge.dispute.funds_reinstated", charge_of(session, amount=1700), 1004),
    ]
    order = told * 2
    random.Random(seed).shuffle(order)
    for body in order:
        assert tell(body).status_code == 200
    assert node.balance() == before + 25_000_000 - 8_000_000
    assert node.get(f"/v1/billing/stripe/session?id={row['session_id']}")["reversed_micro_usd"] == 8_000_000
    node.check_books()


def test_what_is_unknown_is_let_pass(node, tell):
    for kind in ("invoice.paid", "charge.refunded"):
        answer = tell(event(f"evt_unknown_{kind}", kind, {"id": "x", "currency": "usd", "amount_refunded": 5, "payment_intent": "pi_other"}))
        assert answer.status_code == 200


@pytest.mark.parametrize("amount", ["0.49", "-5", "1e3", "NaN", "25.001", "", "25,00"])
def test_an_amount_that_cannot_be_is_refused(node, stripe, amount):
    asked = len(stripe.made("checkout"))
    assert node.client.post("/v1/billing/stripe/create-session", json={"amount_usd": amount}).status_code == 400
    assert len(stripe.made("checkout")) == asked


def test_cents_are_exact(node, stripe, deposit):
    row, session = deposit("0.58")
    assert row["amount_micro_usd"] == 580_000 and session["amount_total"] == 58


@pytest.mark.parametrize("fault", [500, 429])
def test_when_stripe_does_not_answer_the_deposit_stays_open(node, stripe, fault):
    stripe.fail_next("checkout", fault)
    answer = node.client.post("/v1/billing/stripe/create-session", json={"amount_usd": "5.00"})
    assert answer.status_code == 502 and answer.json()["error"]["type"] == "stripe_error"


def test_without_a_key_nothing_can_be_paid_in(coordinator):
    node = coordinator()
    assert node.client.post("/v1/billing/stripe/create-session", json={"amount_usd": "5.00"}).status_code == 503
    assert node.get("/v1/billing/methods")["methods"] == []
    body = event("evt", "checkout.session.completed", {"id": "cs"})
    assert node.client.post(WEBHOOK, content=body, headers=signed(body, secret="")).status_code == 400
