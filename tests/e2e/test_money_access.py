"""Who may call which endpoint about money: every route with every credential."""

import hashlib
import re
import sqlite3

import httpx
import pytest

from harness import PATIENCE, route_table
from test_login import PASSWORD, Browser, sign_up_operator

ADMIN = "an admin key of enough length"
TOKEN = "eigeninference-pt-" + "5" * 64

CREDENTIALS = ("nobody", "wrong key", "key", "key of every scope", "provider", "person", "operator", "admin key")
ACCOUNTS = {"key", "key of every scope", "provider", "person", "operator", "admin key"}
# Whom a kind of endpoint lets in. A session is a person: nothing but a session moves money out or names who gets it.
KINDS = {"public": set(CREDENTIALS), "account": ACCOUNTS, "session": {"person", "operator"}, "operator": {"operator", "admin key"}}

ENDPOINTS = {
    ("GET", "/v1/pricing"): "public",
    ("PUT", "/v1/pricing"): "session",
    ("DELETE", "/v1/pricing"): "session",
    ("PUT", "/v1/admin/pricing"): "operator",
    ("GET", "/v1/payments/balance"): "account",
    ("GET", "/v1/payments/usage"): "account",
    ("GET", "/v1/payments/usage/export"): "account",
    ("GET", "/v1/payments/statement"): "account",
    ("GET", "/v1/provider/account-earnings"): "account",
    ("GET", "/v1/leaderboard"): "public",
    ("GET", "/v1/network/totals"): "public",
    ("GET", "/v1/me/summary"): "session",
    ("GET", "/v1/receipts/*"): "account",
    ("GET", "/.well-known/darkbloom-receipt-key"): "public",
    ("GET", "/v1/billing/methods"): "public",
    ("GET", "/v1/billing/wallet/balance"): "account",
    ("POST", "/v1/billing/stripe/create-session"): "account",
    ("GET", "/v1/billing/stripe/session"): "account",
    ("POST", "/v1/billing/stripe/webhook"): "public",  # a signature lets in
    ("POST", "/v1/billing/stripe/connect/webhook"): "public",
    ("POST", "/v1/billing/stripe/onboard"): "session",
    ("GET", "/v1/billing/stripe/status"): "session",
    ("POST", "/v1/billing/withdraw/stripe"): "session",
    ("GET", "/v1/billing/stripe/withdrawals"): "session",
    ("POST", "/v1/referral/register"): "session",
    ("POST", "/v1/referral/apply"): "session",
    ("GET", "/v1/referral/stats"): "account",
    ("GET", "/v1/referral/info"): "account",
    ("POST", "/v1/invite/redeem"): "account",
    ("POST", "/v1/admin/invite-codes"): "operator",
    ("GET", "/v1/admin/invite-codes"): "operator",
    ("DELETE", "/v1/admin/invite-codes"): "operator",
    ("PUT", "/v1/admin/users/role"): "operator",
    ("PUT", "/v1/admin/users/platform-fee"): "operator",
    ("POST", "/v1/admin/credit"): "operator",
    ("POST", "/v1/admin/reward"): "operator",
    ("GET", "/v1/admin/base-rewards"): "operator",
    ("POST", "/v1/admin/ledger/close"): "operator",
    ("GET", "/v1/admin/ledger/export"): "operator",
    ("POST", "/v1/admin/stripe/reconcile"): "operator",
}
MONEY = re.compile(r"pricing|payments|earnings|leaderboard|network|summary|receipt|billing|referral|invite|users|credit|reward|ledger|stripe|refund|payout|invoice")
OTHERS = {("GET", "/v1/admin/routes/summary")}


def test_every_endpoint_about_money_is_in_the_table():
    routes = {(method, path) for method, path, _, _ in route_table()}
    assert {route for route in routes if MONEY.search(route[1])} - OTHERS == set(ENDPOINTS)


@pytest.fixture(scope="module")
def callers(house):
    node = house.coordinator({"accounts": {"admin_key": ADMIN, "signup": "open", "first_grant_usd": "1000"},
                              "limits": {"financial_per_minute": 100000, "financial_burst": 100000}})
    node.terminate()
    with sqlite3.connect(node.data / "coordinator.db") as database:
        database.execute("INSERT INTO provider_tokens (hash, account, label, created_us) SELECT ?, ref, '', 1 FROM accounts WHERE is_owner = 1",
                         [hashlib.sha256(TOKEN.encode()).hexdigest()])
    database.close()
    node.start()
    full = node.command("keys", "create", "--scopes", "inference,keys,account,payouts").stdout.strip()
    bearers = {"nobody": "", "wrong key": "sk-db-" + "0" * 64, "key": node.key, "key of every scope": full, "provider": TOKEN, "admin key": ADMIN}
    clients = {name: httpx.Client(base_url=node.url, headers={"Authorization": f"Bearer {bearer}"} if bearer else {}, timeout=60 * PATIENCE)
               for name, bearer in bearers.items()}
    for name in ("operator", "person"):
        page = Browser(node)
        if name == "operator":
            sign_up_operator(node, page)
        else:
            page.logged_in(page.post("/v1/session/register", {"email": "guest@example.test", "password": PASSWORD}))
        page.client.headers.update({"Origin": node.url, "X-CSRF-Token": page.csrf})
        clients[name] = page.client
    yield clients
    for client in clients.values():
        client.close()


@pytest.mark.parametrize("who", CREDENTIALS)
def test_each_credential_is_let_in_where_it_should_be(callers, who):
    wrong = {}
    for (method, path), kind in ENDPOINTS.items():
        # An empty body is refused by whatever would act on one, after the caller was let in.
        body = None if method == "GET" else {}
        status = callers[who].request(method, path.replace("*", "none"), json=body).status_code
        expected = {401} if who in ("nobody", "wrong key") else {403}
        may = who in KINDS[kind]
        if may == (status in {401, 403}) or not (may or status in expected):
            wrong[method, path] = status
    assert wrong == {}
