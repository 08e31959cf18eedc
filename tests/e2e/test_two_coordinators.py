"""Two coordinators on one PostgreSQL: races for the same money, webhook and withdrawal have one winner, and nothing is promised twice."""

import concurrent.futures
import hashlib
import itertools
import json
import random
import time

import httpx
import pytest

from harness import PATIENCE, Postgres, wait_until
from stripe_server import CONNECT_SECRET, StripeServer, event, signed
from test_login import Browser, sign_up_operator
from test_money import PRICES
from test_referrals import joined

ADMIN = "a" * 32
SIDES = 2
TOKEN = "dbp_" + "5" * 48


@pytest.fixture
def make_pair(coordinator):
    """Two coordinators, one database, one Stripe; `client` has a key for both."""
    server, stripe, made = Postgres(), StripeServer(), []

    def make(**more):
        config = {"accounts": {"admin_key": ADMIN, "first_grant_usd": "0", "signup": "open"},
                  "limits": {"financial_per_minute": 100000, "financial_burst": 100000}, **stripe.config(), **more}
        nodes = [coordinator(config, DARKBLOOM_STORE_URL=server.address) for _ in range(SIDES)]
        nodes[1].key_file = nodes[0].key_file  # the owner was made by the first
        made.extend(nodes)
        return Pair(nodes, stripe, server)

    yield make
    for node in made:
        node.close_client()
        assert node.terminate() == 0, node.log()[-4000:]
    stripe.stop()
    server.stop()


@pytest.fixture
def pair(make_pair):
    return make_pair()


class Pair:
    def __init__(self, nodes, stripe, server):
        self.nodes, self.stripe, self.server = nodes, stripe, server
        self.client = httpx.Client(headers={"Authorization": f"Bearer {nodes[0].key}"}, timeout=60 * PATIENCE)
        self.page = Browser(nodes[0])
        sign_up_operator(nodes[0], self.page)

    def browse(self, page, method, side, path, body=None):
        """What somebody's browser does; its session holds at each coordinator."""
        headers = {"Origin": self.nodes[side].url, "X-CSRF-Token": page.csrf}
        return page.client.request(method, self.nodes[side].url + path, json=body, headers=headers)

    def owner(self, method, side, path, body=None):
        return self.browse(self.page, method, side, path, body)

    def admin(self, path, side=0, **body):
        answer = self.client.post(self.nodes[side].url + path, json=body, headers={"Authorization": f"Bearer {ADMIN}"})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def balance(self, side):
        return self.client.get(self.nodes[side].url + "/v1/payments/balance").json()["balance_micro_usd"]

    def wait_balance(self, amount):
        for side in range(SIDES):
            wait_until(lambda side=side: self.balance(side) == amount, f"coordinator {side} to show {amount}")

    def tell(self, side, path, body, **how):
        return self.client.post(self.nodes[side].url + path, content=body, headers=signed(body, **how) | {"Authorization": ""}).status_code

    def check_books(self):
        self.nodes[0].check_books()


def at_once(calls):
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        return [one.result() for one in [pool.submit(call) for call in calls]]


def test_a_keys_limit_holds_for_both_together(pair, provider):
    for node in pair.nodes:
        provider(node, {"text": "The answer is 42.", "first_delay_ms": 200, "max_concurrency": 64})
    pair.admin("/v1/admin/credit", account="owner", amount_usd="10", note="enough")
    pair.wait_balance(10_000_000)
    made = pair.owner("POST", 0, "/v1/keys", {"name": "limited", "limit_usd": 0.002})
    assert made.status_code in (200, 201), made.text
    limited = {"Authorization": f"Bearer {made.json()['key']}"}

    def ask(side):
        return pair.client.post(pair.nodes[side].url + "/v1/chat/completions", headers=limited,
                                json={"model": "scripted", "max_tokens": 2000, "messages": [{"role": "user", "content": "hello"}]})

    answers = at_once([lambda side=n % SIDES: ask(side) for n in range(40)])
    kinds = {answer.status_code for answer in answers}
    assert kinds <= {200, 402, 429, 503} and 200 in kinds and 402 in kinds, kinds
    for node in pair.nodes:
        node.wait_idle()
    audit = pair.nodes[0].audit()
    assert audit["clean"] and 0 < audit["charged_micro_usd"] <= 2_000
    pair.check_books()


def test_a_balance_is_promised_once(pair, provider):
    for node in pair.nodes:
        provider(node, {"text": "The answer is 42.", "first_delay_ms": 200, "max_concurrency": 64})
    pair.admin("/v1/admin/credit", account="owner", amount_usd="0.002", note="little")
    pair.wait_balance(2_000)

    def ask(side):
        return pair.client.post(pair.nodes[side].url + "/v1/chat/completions",
                                json={"model": "scripted", "max_tokens": 2000, "messages": [{"role": "user", "content": "hello"}]})

    answers = at_once([lambda side=n % SIDES: ask(side) for n in range(60)])
    kinds = {answer.status_code for answer in answers}
    assert kinds <= {200, 402, 429, 503} and 200 in kinds and 402 in kinds, kinds
    for node in pair.nodes:
        node.wait_idle()
    audit = pair.nodes[0].audit()
    assert audit["clean"] and audit["charged_micro_usd"] <= 2_000
    # Whatever was promised was charged: no settlement found the account poor.
    ok = sum(answer.status_code == 200 for answer in answers)
    wait_until(lambda: len(pair.nodes[0].usage()) == ok, "a usage row for each answer")
    assert all("store.operation_failed" not in node.log() for node in pair.nodes)
    pair.wait_balance(2_000 - audit["charged_micro_usd"])


def start_dear_and_cheap(pair, provider, tmp_path):
    """A provider at the first coordinator takes 80 micro-dollars a token, one at the second what the platform does."""
    seller = joined(pair.nodes[0], "seller@example.test")
    account = pair.browse(seller, "GET", 0, "/v1/me").json()["account_id"]
    pair.server.sql("INSERT INTO provider_tokens (hash, account, label, created_us)"
                    f" SELECT '{hashlib.sha256(TOKEN.encode()).hexdigest()}', ref, '', 1 FROM accounts WHERE id = '{account}'")
    set_price = pair.browse(seller, "PUT", 0, "/v1/pricing", {"model": "scripted", "input_price": 1, "output_price": 80_000_000})
    assert set_price.status_code == 200, set_price.text
    token = tmp_path / "provider-token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    provider(pair.nodes[0], {"text": "one two three four five"}, options=("--token-file", token))
    provider(pair.nodes[1], {"text": "one two three four five"})


def ask_for_a_hundred(pair, side, **headers):
    """Of a provider that takes 80 each, 8,000 micro-dollars are held."""
    answer = pair.client.post(pair.nodes[side].url + "/v1/chat/completions", headers=headers,
                              json={"model": "scripted", "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]})
    pair.nodes[side].wait_idle()
    return answer


def test_a_dear_provider_is_paid_with_what_the_other_coordinator_gives_back(pair, provider, tmp_path):
    start_dear_and_cheap(pair, provider, tmp_path)
    pair.admin("/v1/admin/credit", account="owner", amount_usd="0.01", note="a little")
    pair.wait_balance(10_000)
    cheap = ask_for_a_hundred(pair, 1)  # at the platform's price: it has leased half of what there is, and keeps it
    assert cheap.status_code == 200, cheap.text
    pair.wait_balance(9_900)
    dear = ask_for_a_hundred(pair, 0)  # more is held than all that the other leaves
    assert dear.status_code == 200, dear.text
    assert sorted(row["cost_micro_usd"] for row in pair.nodes[0].usage()) == [100, 5 * 80]
    pair.wait_balance(9_900 - 5 * 80)
    pair.check_books()


def test_a_provider_too_dear_for_the_limit_that_both_count_is_the_limits_fault(pair, provider, tmp_path):
    start_dear_and_cheap(pair, provider, tmp_path)
    pair.admin("/v1/admin/credit", account="owner", amount_usd="10", note="enough")
    pair.wait_balance(10_000_000)
    made = pair.owner("POST", 0, "/v1/keys", {"name": "limited", "limit_usd": 0.00845})
    assert made.status_code in (200, 201), made.text
    limited = {"Authorization": f"Bearer {made.json()['key']}"}
    dear, cheap, refused = [ask_for_a_hundred(pair, side, **limited) for side in (0, 1, 0)]
    assert dear.status_code == cheap.status_code == 200, (dear.text, cheap.text)
    assert (refused.status_code, refused.json()["error"]["type"]) == (402, "insufficient_quota"), refused.text
    wait_until(lambda: sorted(row["cost_micro_usd"] for row in pair.nodes[0].usage()) == [100, 5 * 80], "what two cost")
    pair.check_books()


numbers = itertools.count(1)


def begin_deposit(pair, side):
    answer = pair.client.post(pair.nodes[side].url + "/v1/billing/stripe/create-session", json={"amount_usd": "25.00"})
    assert answer.status_code == 200, answer.text
    row = answer.json()
    form = pair.stripe.sessions[row["stripe_session"]]["form"]
    n = next(numbers)
    return {"id": row["stripe_session"], "object": "checkout.session", "currency": "usd", "payment_status": "paid", "amount_total": 2500,
            "payment_intent": f"pi_{n}", "metadata": {"consumer_key": form["metadata[consumer_key]"],
                                                      "billing_session_id": form["metadata[billing_session_id]"]}}


def test_every_webhook_counts_once_whoever_hears_it_in_whatever_order(pair):
    at, kept = random.Random(11), 0
    events = []
    for n in range(12):
        session = begin_deposit(pair, n % SIDES)
        paid = event(f"evt_paid_{n}", "checkout.session.completed", session, created=1000)
        events.append(paid)
        kept += 25_000_000
        charge = {"id": f"ch_{n}", "object": "charge", "currency": "usd", "payment_intent": session["payment_intent"],
                  "metadata": session["metadata"]}
        if n % 3 == 1:  # half of it is given back, told in two steps
            for part, cents in (("a", 500), ("b", 1250)):
                events.append(event(f"evt_refund_{n}{part}", "charge.refunded", charge | {"amount_refunded": cents}, created=2000))
            kept -= 12_500_000
        if n % 3 == 2:  # disputed; every second one is won
            dispute = {"id": f"dp_{n}", "object": "dispute", "amount": 2500} | {k: v for k, v in charge.items() if k not in ("id", "object")}
            events.append(event(f"evt_lost_{n}", "charge.dispute.funds_withdrawn", dispute, created=3000))
            kept -= 25_000_000
            if n % 2:
                events.append(event(f"evt_won_{n}", "charge.dispute.funds_reinstated", dispute, created=4000))
                kept += 25_000_000
    told = [(side, body) for body in events for side in range(SIDES)] * 2
    at.shuffle(told)

    def deliver(side, body):  # Stripe repeats what was not taken
        return wait_until(lambda: pair.tell(side, "/v1/billing/stripe/webhook", body) == 200, "the event to be taken")

    for batch in range(0, len(told), 16):
        at_once([lambda one=one: deliver(*one) for one in told[batch:batch + 16]])
    pair.wait_balance(kept)
    pair.check_books()


def test_a_share_set_at_one_counts_at_the_other_until_it_is_taken_away(make_pair):
    path = "/v1/admin/account-shares"
    pair = make_pair(routing={"account_shares": ["configured=2"]})
    owner = pair.client.get(pair.nodes[0].url + "/v1/me").json()["account_id"]
    configured = {"account_id": "configured", "weight": 2, "priority": "normal", "source": "configuration"}

    def at(side, method, path=path, **how):
        answer = pair.client.request(method, pair.nodes[side].url + path, headers={"Authorization": f"Bearer {ADMIN}"}, **how)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def wait_told(*expected):
        for side in range(SIDES):
            wait_until(lambda side=side: sorted(at(side, "GET")["shares"], key=lambda share: share["source"]) == [configured, *expected],
                       f"coordinator {side} to show {expected}")

    wait_told()
    for side, weight, priority in ((0, 3, "batch"), (1, 0.5, "interactive"), (0, 7, "normal")):
        made = at(side, "PUT", json={"account_id": owner, "weight": weight, "priority": priority})
        assert made == {"account_id": owner, "weight": weight, "priority": priority, "source": "operator"}
        wait_told(made)
    at(1, "DELETE", f"{path}/{owner}")
    wait_told()

    # What nobody is told of is read when the connection that tells is there again.
    pair.server.sql(f"INSERT INTO account_shares (account_id, share, updated_us) VALUES ('{owner}', '{owner}=5:batch', 1)")
    pair.server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'darkbloom-news'")
    wait_told({"account_id": owner, "weight": 5, "priority": "batch", "source": "operator"})


def test_a_withdrawal_of_everything_is_made_once(pair):
    pair.admin("/v1/admin/reward", account="owner", amount_usd="100", note="earned")
    pair.wait_balance(100_000_000)
    answer = pair.owner("POST", 0, "/v1/billing/stripe/onboard", {"country": "us"})
    account = answer.json()["stripe_account_id"]
    pair.stripe.accounts[account] |= {"payouts_enabled": True, "external_accounts": {"data": [
        {"object": "bank_account", "last4": "6789", "default_for_currency": True}]}}
    assert pair.owner("GET", 1, "/v1/billing/stripe/status?refresh=1").json()["status"] == "ready"

    def withdraw(side):
        return pair.owner("POST", side, "/v1/billing/withdraw/stripe", {"amount_usd": "100.00"})

    answers = at_once([lambda side=n % SIDES: withdraw(side) for n in range(6)])
    won = [answer for answer in answers if answer.status_code in (200, 202)]
    if not won:  # each held part of it at the same instant, and gave it back
        won = [withdraw(0)]
    assert len(won) == 1 and won[0].status_code in (200, 202), [answer.text for answer in answers]
    assert {answer.status_code for answer in answers} <= {200, 202, 400, 503}

    def submitted():
        rows = pair.owner("GET", 1, "/v1/billing/stripe/withdrawals").json()["withdrawals"]
        return len(rows) == 1 and rows[0]["status"] == "submitted" and rows[0]

    row = wait_until(submitted, "the one withdrawal to be on its way")
    assert sum(one["amount"] for one in pair.stripe.transfers.values()) == 10_000
    pair.wait_balance(0)
    body = event("evt_failed", "payout.failed", pair.stripe.payouts[row["payout_id"]])
    assert set(at_once([lambda side=n % SIDES: pair.tell(side, "/v1/billing/stripe/connect/webhook", body, secret=CONNECT_SECRET)
                        for n in range(6)])) == {200}
    pair.wait_balance(100_000_000)
    assert len(pair.stripe.reversals) == 1
    pair.check_books()


def test_an_account_has_one_referrer_and_each_share_is_paid_once(make_pair, provider):
    pair = make_pair(pricing=PRICES | {"fee_percent": 30}, referrals={"share_percent": 25})
    ann, bob = joined(pair.nodes[0], "ann@example.test"), joined(pair.nodes[1], "bob@example.test")

    def post(page, side, what, code):
        return pair.browse(page, "POST", side, f"/v1/referral/{what}", {"code": code})

    def of(page, side, what):
        return pair.browse(page, "GET", side, f"/v1/referral/{what}").json()

    at_once([lambda page=page, side=side: post(page, side, "register", "WANTED") for page in (ann, bob) for side in range(SIDES)])
    for page, code in ((ann, "ANN"), (bob, "BOB")):  # who has a code keeps it
        assert post(page, 0, "register", code).status_code == 200
    codes = {"ann": of(ann, 1, "stats")["code"], "bob": of(bob, 1, "stats")["code"]}
    assert sorted(codes.values()) in (["ANN", "WANTED"], ["BOB", "WANTED"]), codes

    # They name each other, and the owner both: one of each two wins, whichever coordinator hears it.
    answers = at_once([lambda page=page, code=code, side=side: post(page, side, "apply", code)
                       for page, code in ((ann, codes["bob"]), (bob, codes["ann"])) for side in range(SIDES)])
    assert {answer.status_code for answer in answers} <= {200, 400}
    named = {name: of(page, 0, "info")["referred_by"] for name, page in (("ann", ann), ("bob", bob))}
    assert list(named.values()).count(None) == 1 and named["ann"] in (None, codes["bob"]) and named["bob"] in (None, codes["ann"]), named
    answers = at_once([lambda code=code, side=side: pair.owner("POST", side, "/v1/referral/apply", {"code": code})
                       for code in codes.values() for side in range(SIDES)])
    assert {answer.status_code for answer in answers} <= {200, 400}
    chosen = {pair.owner("GET", side, "/v1/referral/info").json()["referred_by"] for side in range(SIDES)}
    assert len(chosen) == 1 and chosen <= set(codes.values()), chosen
    winner, loser = (ann, bob) if chosen == {codes["ann"]} else (bob, ann)

    for node in pair.nodes:
        provider(node, {"text": "one two three four five six seven", "max_concurrency": 64})
    pair.admin("/v1/admin/credit", account="owner", amount_usd="1000", note="enough")
    pair.wait_balance(1_000_000_000)
    ask = {"model": "scripted", "messages": [{"role": "user", "content": "a prompt of six words exactly"}]}
    answers = at_once([lambda side=n % SIDES: pair.client.post(pair.nodes[side].url + "/v1/chat/completions", json=ask)
                       for n in range(20)])
    assert [answer.status_code for answer in answers] == [200] * len(answers), [answer.text for answer in answers]
    for node in pair.nodes:
        node.wait_idle()
    fee = (6 * 3 + 7 * 20) * 30 // 100
    for side in range(SIDES):
        wait_until(lambda side=side: of(winner, side, "stats")["total_rewards_micro_usd"] == len(answers) * (fee // 4), "all shares to be seen")
        assert of(loser, side, "stats")["total_rewards_micro_usd"] == 0
    pair.check_books()


MACHINES, PERIODS, PERIOD_S = 20, 3, 300


@pytest.mark.parametrize("pool", [9_000_000_000, 90_000_000], ids=["enough", "too_little"])
def test_a_period_is_paid_once_however_many_settle_it(make_pair, pool):
    pair = make_pair(rewards={"enabled": True, "look_s": 1, "pool_micro_usd": pool})
    for node in pair.nodes:
        assert node.terminate() == 0, node.log()[-4000:]
    left = PERIOD_S - time.time() % PERIOD_S
    if left < 60 * min(PATIENCE, 2):  # the newest period is to stay the newest until the end of the test, which takes a few seconds
        time.sleep(left + 1)
    end = int(time.time()) // PERIOD_S * PERIOD_S * 1_000_000
    pair.server.sql("INSERT INTO reward_stretches (device, provider_key, account, model, memory_gb, from_us, seen_us, ended_us)"
                    f" SELECT 'D' || n, 'K' || n, ref, 'Mac13,1', 64, {end - PERIODS * PERIOD_S * 1_000_000}, {end}, {end}"
                    f" FROM accounts, generate_series(1, {MACHINES}) n WHERE is_owner = 1")

    def told(side):
        answer = pair.client.get(pair.nodes[side].url + "/v1/admin/base-rewards", headers={"Authorization": f"Bearer {ADMIN}"}).json()
        return answer["draw_count"] == MACHINES and answer["epoch_id"] == time.strftime("%Y-%m-%dT%H:%MZ", newest) and answer

    def paid():
        rows = [json.loads(line) for line in pair.nodes[0].command("ledger", "export").stdout.splitlines()]
        return [row for row in rows if row["type"] == "provider_floor_draw" and row["amount_micro_usd"] > 0]

    newest = time.gmtime(end // 1_000_000 - PERIOD_S)
    runs = []
    for _ in range(2):  # both start at the same time, and settle what was missed; the second time there is nothing left
        for node in pair.nodes:
            node.launch_only()
        for node in pair.nodes:
            wait_until(node._ready, "both to start")
        views = [wait_until(lambda side=side: told(side), "the newest period to be settled") for side in range(SIDES)]
        assert views[0] == views[1]
        for node in pair.nodes:
            assert node.terminate() == 0, node.log()[-4000:]
        runs.append(paid())
    assert runs[0] == runs[1]
    periods = {row["reference"] for row in runs[0]}
    assert len(periods) == PERIODS
    for period in periods:
        amounts = [row["amount_micro_usd"] for row in runs[0] if row["reference"] == period]
        assert sum(amounts) <= views[0]["pool_budget"]
        if pool == 9_000_000_000:
            assert amounts == [views[0]["draws"][0]["floor_micro_usd"]] * MACHINES
        else:
            assert sum(amounts) == views[0]["pool_budget"] and len(amounts) < MACHINES
    for node in pair.nodes:
        node.start()
    pair.wait_balance(sum(row["amount_micro_usd"] for row in runs[0]))
    pair.check_books()
