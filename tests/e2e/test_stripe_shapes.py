"""Every call that the coordinator makes, against Stripe's own stripe-mock: it knows Stripe's description of each method, refuses
what does not follow it, and answers in Stripe's shapes. It keeps no state: what happens when is tested with stripe_server.py."""

import http.server
import subprocess
import threading
from pathlib import Path

import httpx
import pytest

import patient
from harness import PATIENCE, free_port, wait_until
from stripe_server import CONNECT_SECRET, KEY, SECRET, event, signed
from test_login import Browser, sign_up_operator

ADMIN = "a" * 32
MOCK = Path(__file__).resolve().parents[2] / "build/stripe-mock"


class Recorder(http.server.BaseHTTPRequestHandler):
    """Passes every call on to stripe-mock and keeps what both said. `amend` fills in what its fixtures leave empty."""

    protocol_version = "HTTP/1.1"
    target, calls, amend, hidden = None, None, None, None

    def serve(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        names = ("authorization", "content-type", "idempotency-key", "stripe-account")
        answer = patient.request(self.command, self.target + self.path, content=body, timeout=60 * PATIENCE,
                               headers={name: self.headers[name] for name in names if name in self.headers})
        self.calls.append((f"{self.command} {self.path.partition('?')[0]}", answer.status_code, answer.text, dict(self.headers)))
        text = self.amend(self.path, answer)
        what = self.path.rpartition("/")[2]
        unknown = self.command == "POST" and what in self.hidden  # what came of the first one of each is not told
        if unknown:
            self.hidden.remove(what)
        self.send_response(500 if unknown else answer.status_code)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = serve

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def mock():
    if not MOCK.exists():
        pytest.skip("stripe-mock is not there: scripts/test-setup.sh builds it where Go and its module can be had, and says why not")
    port = free_port()
    process = subprocess.Popen([MOCK, "-http-addr", f"127.0.0.1:{port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def answers():
        assert process.poll() is None, "stripe-mock ended"
        try:
            return patient.get(f"http://127.0.0.1:{port}/v1/balance", headers={"Authorization": f"Bearer {KEY}"}).status_code == 200
        except httpx.TransportError:
            return False

    wait_until(answers, "stripe-mock to answer", 60)
    yield f"http://127.0.0.1:{port}"
    process.kill()
    process.wait()


def amend(path, answer):
    body = answer.json()
    if path == "/v1/checkout/sessions" and not body.get("url"):
        body["url"] = "https://checkout.stripe.com/c/pay/cs_test"
    if path.startswith("/v1/accounts/"):
        body |= {"payouts_enabled": True, "requirements": {"disabled_reason": None, "currently_due": []}}
    return httpx.Response(200, json=body).content


@pytest.fixture
def node(coordinator, mock):
    handler = type("Handler", (Recorder,), {"target": mock, "calls": [], "amend": staticmethod(amend), "hidden": {"transfers", "payouts", "reversals"}})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    made = coordinator({"accounts": {"admin_key": ADMIN, "first_grant_usd": "5"},
                        "stripe": {"secret_key": KEY, "webhook_secret": SECRET, "connect_webhook_secret": CONNECT_SECRET,
                                   "api_url": f"http://127.0.0.1:{server.server_port}", "retry_ms": 50}})
    made.calls = handler.calls
    yield made
    server.shutdown()
    server.server_close()


class Session:
    """Somebody who is logged in: only people move money out."""

    def __init__(self, page, url):
        self.page, self.url = page, url
        page.client.headers.update({"Origin": url, "X-CSRF-Token": page.csrf})

    def post(self, path, json):
        return self.page.client.post(self.url + path, json=json)

    def get(self, path):
        return self.page.client.get(self.url + path)


def test_every_call_follows_stripes_description(node):
    page = Browser(node)
    sign_up_operator(node, page)
    payee = Session(page, node.url)
    admin = {"Authorization": f"Bearer {ADMIN}"}

    begun = node.client.post("/v1/billing/stripe/create-session", json={"amount_usd": "25.00", "email": "someone@example.com"})
    assert begun.status_code == 200, begun.text
    assert begun.json()["stripe_session"].startswith("cs_") and begun.json()["url"].startswith("https://")

    onboarded = payee.post("/v1/billing/stripe/onboard", json={"country": "us"})
    assert onboarded.status_code == 200, onboarded.text
    assert onboarded.json()["stripe_account_id"].startswith("acct_") and onboarded.json()["url"].startswith("https://")
    assert payee.get("/v1/billing/stripe/status?refresh=1").json()["status"] == "ready"

    reward = patient.post(f"{node.url}/v1/admin/reward", json={"account": "owner", "amount_usd": "50", "note": "x"}, headers=admin)
    assert reward.status_code == 200, reward.text
    told = payee.post("/v1/billing/withdraw/stripe", json={"amount_usd": "10.00"})
    assert told.status_code in (200, 202), told.text

    def row():
        found = payee.get("/v1/billing/stripe/withdrawals").json()["withdrawals"][0]
        return found["payout_id"] and found

    sent = wait_until(row, "the payout to be made")
    assert sent["transfer_id"].startswith("tr_") and sent["payout_id"].startswith("po_")
    failed = event("evt_failed", "payout.failed", {"id": sent["payout_id"], "object": "payout", "metadata": {"withdrawal_id": sent["id"]}})
    answer = patient.post(f"{node.url}/v1/billing/stripe/connect/webhook", content=failed, headers=signed(failed, secret=CONNECT_SECRET))
    assert answer.status_code == 200
    wait_until(lambda: payee.get("/v1/billing/stripe/withdrawals").json()["withdrawals"][0]["status"] == "failed", "it to be given back")
    compared = patient.post(f"{node.url}/v1/admin/stripe/reconcile", headers=admin)
    assert compared.status_code == 200, compared.text
    assert compared.json()["stripe"]["deposits_micro_usd"] > 0, "its one transaction is a charge"
    page.client.close()

    wrong = [call[:3] for call in node.calls if call[1] != 200]
    assert not wrong, f"stripe-mock refused: {wrong}"
    made = {name.replace(sent["transfer_id"], "ID") for name, *_ in node.calls}
    assert {"POST /v1/checkout/sessions", "POST /v1/accounts", "POST /v1/account_links", "POST /v1/transfers", "POST /v1/payouts",
            "POST /v1/transfers/ID/reversals", "GET /v1/transfers", "GET /v1/payouts", "GET /v1/transfers/ID", "GET /v1/balance",
            "GET /v1/balance_transactions"} <= made
    assert all("idempotency-key" in {key.lower() for key in headers} for name, _, _, headers in node.calls if name.startswith("POST"))
