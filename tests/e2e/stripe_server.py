"""A Stripe that keeps state: idempotency keys, connected accounts, transfers, payouts; with faults to order. Shapes are checked
against Stripe's own stripe-mock elsewhere; here it is about what happens when, and how often."""

import hashlib
import hmac
import http.server
import json
import threading
import time
import urllib.parse

SECRET, CONNECT_SECRET, KEY = "whsec_deposits", "whsec_connect", "sk_test_darkbloom"


class StripeServer:
    def __init__(self):
        self.lock = threading.Lock()
        self.calls, self.done, self.faults = [], {}, []
        self.sessions, self.accounts, self.transfers, self.payouts, self.reversals = {}, {}, {}, {}, {}
        self.transactions, self.page, self.missing = [], 3, 0  # of the balance, in cents
        self.forgetful = False  # knows no key again, as after a day
        handler = type("Handler", (_Handler,), {"stripe": self})
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def stop(self):
        self.http.shutdown()
        self.http.server_close()

    def config(self, **more):
        return {"stripe": {"secret_key": KEY, "webhook_secret": SECRET, "connect_webhook_secret": CONNECT_SECRET, "api_url": self.url,
                           "retry_ms": 50, "withdrawal_cooldown_s": 0, **more}}

    def fail_next(self, path, how, times=1):
        """how: a status for an answer without effect, "lost" for an effect whose answer never comes, "hidden" for one that is
        answered with 500, "before" for neither."""
        with self.lock:
            self.faults += [(path, how)] * times

    def made(self, path):
        with self.lock:
            return [call for call in self.calls if path in call["path"]]

    def moved(self, kind, cents, fee=0, currency="usd", source=None):
        """A transaction of the platform's balance."""
        made = {"id": f"txn_{len(self.transactions) + 1}", "object": "balance_transaction", "type": kind, "amount": cents, "fee": fee,
                "net": cents - fee, "currency": currency, "source": source}
        self.transactions.append(made)

    # --- what is done ---

    def answer(self, method, path, form, key, on_account):
        with self.lock:
            self.calls.append({"method": method, "path": path, "form": form, "key": key, "account": on_account})
            fault = next((one for one in self.faults if one[0] in path and method == "POST"), None)
            if fault:
                self.faults.remove(fault)
                if isinstance(fault[1], int):
                    return fault[1], {"error": {"type": "api_error", "code": "ordered", "message": "as ordered"}}
                if fault[1] == "before":
                    return None, None
            if key is not None and key in self.done:
                first_form, result = self.done[key]
                if first_form != form:
                    return 400, {"error": {"type": "idempotency_error"}}
                return result
            result = self.carry_out(method, path, form, on_account)
            if key is not None and result[0] < 500 and not self.forgetful:
                self.done[key] = (form, result)
            if fault and fault[1] == "lost":
                return None, None
            if fault and fault[1] == "hidden":
                return 500, {"error": {"type": "api_error"}}
            return result

    def listed(self, objects, form, path):
        after = form.get("starting_after")
        begin = 0 if after is None else 1 + next(i for i, one in enumerate(objects) if one["id"] == after)
        return 200, {"object": "list", "data": objects[begin:begin + self.page], "has_more": begin + self.page < len(objects), "url": path}

    def carry_out(self, method, path, form, on_account):
        parts = path.strip("/").split("/")[1:]
        if method == "POST" and parts == ["checkout", "sessions"]:
            made = {"id": f"cs_{len(self.sessions) + 1}", "object": "checkout.session", "form": form}
            made["url"] = f"https://checkout.example/{made['id']}"
            self.sessions[made["id"]] = made
            return 200, made
        if method == "POST" and parts == ["accounts"]:
            made = {"id": f"acct_{len(self.accounts) + 1}", "object": "account", "country": form["country"], "payouts_enabled": False}
            self.accounts[made["id"]] = made
            return 200, made
        if method == "POST" and parts == ["account_links"]:
            return 200, {"object": "account_link", "url": f"https://onboard.example/{form['account']}"}
        if method == "GET" and parts[0] == "accounts":
            return (200, self.accounts[parts[1]]) if parts[1] in self.accounts else (404, {"error": {"code": "resource_missing"}})
        if method == "POST" and parts == ["transfers"]:
            made = {"id": f"tr_{len(self.transfers) + 1}", "object": "transfer", "amount": int(form["amount"]),
                    "destination": form["destination"], "reversed": False, "metadata": {"withdrawal_id": form["metadata[withdrawal_id]"]}}
            self.transfers[made["id"]] = made
            return 200, made
        if method == "POST" and parts[0] == "transfers" and parts[2] == "reversals":
            self.transfers[parts[1]]["reversed"] = True
            made = {"id": f"trr_{len(self.reversals) + 1}", "object": "transfer_reversal", "transfer": parts[1]}
            self.reversals[made["id"]] = made
            return 200, made
        if method == "POST" and parts == ["payouts"]:
            made = {"id": f"po_{len(self.payouts) + 1}", "object": "payout", "amount": int(form["amount"]), "status": "pending",
                    "account": on_account, "arrival_date": int(time.time()) + 86400, "metadata": {"withdrawal_id": form["metadata[withdrawal_id]"]}}
            self.payouts[made["id"]] = made
            return 200, made
        if method == "GET" and parts in (["transfers"], ["payouts"]):
            made = self.transfers.values() if parts == ["transfers"] else self.payouts.values()
            to = form.get("destination") or on_account
            return self.listed([one for one in reversed(made) if to in (one.get("destination"), one.get("account"))], form, path)
        if method == "GET" and parts[0] == "transfers":
            return (200, self.transfers[parts[1]]) if parts[1] in self.transfers else (404, {"error": {"code": "resource_missing"}})
        if method == "GET" and parts[0] == "payouts":
            return (200, self.payouts[parts[1]]) if parts[1] in self.payouts else (404, {"error": {"code": "resource_missing"}})
        if method == "GET" and parts == ["balance"]:
            held = sum(one["net"] for one in self.transactions if one["currency"] == "usd") + self.missing
            return 200, {"object": "balance", "available": [{"amount": held, "currency": "usd"}], "pending": [{"amount": 7, "currency": "eur"}]}
        if method == "GET" and parts == ["balance_transactions"]:
            return self.listed(self.transactions, form, path)
        return 404, {"error": {"type": "invalid_request_error", "message": f"no route {method} {path}"}}


class _Handler(http.server.BaseHTTPRequestHandler):
    stripe = None
    protocol_version = "HTTP/1.1"

    def serve(self):
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length).decode()
        path, _, query = self.path.partition("?")
        form = dict(urllib.parse.parse_qsl(body or query))
        if self.headers.get("authorization") != f"Bearer {KEY}":
            status, answer = 401, {"error": {"type": "invalid_request_error"}}
        else:
            status, answer = self.stripe.answer(self.command, path, form, self.headers.get("idempotency-key"), self.headers.get("stripe-account"))
        if status is None:  # the connection breaks without an answer
            self.close_connection = True
            self.connection.close()
            return
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = serve

    def log_message(self, *_):
        pass


def event(event_id, kind, obj, created=None):
    return json.dumps({"id": event_id, "object": "event", "type": kind, "created": created or int(time.time()), "data": {"object": obj}})


def signed(body, secret=SECRET, at=None):
    at = int(time.time()) if at is None else at
    mac = hmac.new(secret.encode(), f"{at}.{body}".encode(), hashlib.sha256).hexdigest()
    return {"stripe-signature": f"t={at},v1={mac}", "content-type": "application/json"}
