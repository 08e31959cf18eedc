"""API keys: who may use which route, spend limits, revocation, rate limits, and the operator's commands beside a running coordinator."""

import hashlib
import json
import re
import socket
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx

from harness import PATIENCE, route_table, wait_until
from test_failover import in_background
from test_login import PASSWORD, Browser, sign_up_operator

ADMIN_KEY = "operator-0123456789-operator"
PRICES = {"input_price": 3_000_000, "output_price": 20_000_000}  # 3 and 20 micro-dollars a token
KEYS_MAX = 1000  # of an account
PROVIDER_TOKEN = "eigeninference-pt-" + "5" * 64


def routes():
    """The route table; a star stands for a name that nothing has."""
    return [(method, path.replace("*", "nothing"), auth, scopes) for method, path, auth, scopes in route_table() if path != "/ws/provider"]


def make_key(node, *options):
    made = node.command("keys", "create", *options)
    assert made.returncode == 0, made.stderr
    assert "running coordinator" in made.stderr
    return made.stdout.strip()


def client_of(node, key):
    return httpx.Client(base_url=node.url, headers={"Authorization": f"Bearer {key}"} if key else {}, timeout=node.client.timeout)


def ask(client, model="scripted", **body):
    return client.post("/v1/chat/completions", json={"model": model, "messages": [{"role": "user", "content": "hello"}], **body})


def test_each_route_lets_pass_whom_it_should(coordinator):
    node = coordinator({"accounts": {"admin_key": ADMIN_KEY, "signup": "open"}})
    node.terminate()
    with sqlite3.connect(node.data / "coordinator.db") as database:
        database.execute("INSERT INTO provider_tokens (hash, account, label, created_us) SELECT ?, ref, '', 1 FROM accounts WHERE is_owner = 1",
                         [hashlib.sha256(PROVIDER_TOKEN.encode()).hexdigest()])
    database.close()
    node.start()
    every = {"INFERENCE", "KEYS", "ACCOUNT", "PAYOUTS"}
    credentials = [  # kind, token, scopes
        ("NOBODY", "", set()), ("NOBODY", "sk-db-" + "0" * 64, set()), ("KEY", node.key, {"INFERENCE"}),
        ("KEY", make_key(node, "--scopes", "keys"), {"KEYS"}), ("KEY", make_key(node, "--scopes", "inference,keys,account,payouts"), every),
        ("PROVIDER", PROVIDER_TOKEN, {"INFERENCE"}), ("ADMIN", ADMIN_KEY, every)]
    clients = [(kind, client_of(node, token), scopes) for kind, token, scopes in credentials]
    for kind in ("OPERATOR", "PERSON"):
        page = Browser(node)
        if kind == "OPERATOR":
            sign_up_operator(node, page)
        else:
            page.logged_in(page.post("/v1/session/register", {"email": "guest@example.test", "password": PASSWORD}))
        page.client.headers.update({"Origin": node.url, "X-CSRF-Token": page.csrf})
        clients.append((kind, page.client, every))
        clients.append(("NOBODY", httpx.Client(base_url=node.url, headers={"Cookie": f"{page.cookie.name}={page.cookie.value[:-1]}"},
                                                timeout=node.client.timeout), set()))
    wrong = []
    for kind, client, scopes in clients:
        with closing(client):
            for method, path, auth, wanted in routes():
                passes = {"KEY": True, "SESSION": kind in ("OPERATOR", "PERSON"), "ADMIN": kind in ("ADMIN", "OPERATOR")}
                may = auth == "NONE" or (kind != "NOBODY" and wanted <= scopes and passes[auth])
                if may and (auth == "NONE" or path.endswith("/drain") or method != "GET"):
                    continue  # what it does is other tests' business
                status = client.request(method, path).status_code
                refused = {401} if kind == "NOBODY" else {403}
                if may == (status in {401, 403}) or not (may or status in refused):
                    wrong.append((kind, sorted(scopes), method, path, status))
    assert not wrong


def test_a_key_s_life_over_http(coordinator, provider):
    node = coordinator({"pricing": PRICES})
    provider(node, {"text": "one two three"})
    with client_of(node, make_key(node, "--scopes", "inference,keys")) as manager:
        terms = {"name": "ci", "limit_usd": 1, "limit_reset": "monthly", "rpm_limit": 50, "allowed_models": ["scripted"]}
        made = manager.post("/v1/keys", json=terms).json()
        assert re.fullmatch(r"sk-db-[0-9a-f]{64}", made["key"])
        assert made["data"].items() >= {**terms, "disabled": False, "usage_usd": 0, "remaining_usd": 1, "scopes": ["inference"]}.items()
        path = "/v1/keys/" + made["data"]["id"]
        with client_of(node, made["key"]) as user:
            cost = node.balance()
            assert ask(user).status_code == 200
            cost -= node.balance()
            own = user.get("/v1/key").json()
            assert own == manager.get(path).json()
            assert round(own["usage_usd"] * 1e6) == cost > 0 and own["last_used_at"]
            assert user.get("/v1/keys").status_code == 403
            refused = ask(user, model="other")
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "model_not_allowed")

            changed = manager.patch(path, json={"name": "robot", "allowed_models": None, "limit_usd": None}).json()
            assert changed["name"] == "robot" and changed["rpm_limit"] == 50
            assert not {"allowed_models", "limit_usd", "remaining_usd"} & changed.keys()
            assert ask(user, model="other").status_code == 404
            assert manager.patch(path, json={"disabled": True}).json()["disabled"]
            assert ask(user).status_code == 401
            assert manager.patch(path, json={"disabled": False}).status_code == 200
            assert ask(user).status_code == 200

            rotated = manager.post(path + "/rotate").json()
            assert rotated["data"]["id"] != made["data"]["id"] and rotated["data"]["name"] == "robot"
            assert round(rotated["data"]["usage_usd"] * 1e6) == 2 * cost
            assert ask(user).status_code == 401
        assert manager.get(path).status_code == manager.delete(path).status_code == 404
        with client_of(node, rotated["key"]) as user:
            assert ask(user).status_code == 200
            path = "/v1/keys/" + rotated["data"]["id"]
            assert manager.delete(path).json() == {"status": "revoked"}
            assert ask(user).status_code == 401
        assert manager.post("/v1/keys", json={"scopes": ["payouts"]}).status_code == 403, "nobody gives what they have not"
        assert manager.post("/v1/keys", json={"limit": 5}).json()["error"]["type"] == "bad_request"

        legacy = manager.post("/v1/auth/keys").json()
        with client_of(node, legacy["api_key"]) as user:
            assert ask(user).status_code == 200
            gone = manager.request("DELETE", "/v1/auth/keys", json={"key": legacy["api_key"]})
            assert gone.json() == {"status": "revoked"}
            assert ask(user).status_code == 401
        assert manager.request("DELETE", "/v1/auth/keys", json={"key": "sk-db-unknown"}).status_code == 403
        assert manager.request("DELETE", "/v1/auth/keys", json={}).status_code == 400
    node.check_books()


def test_an_account_with_too_many_keys_is_told_so(coordinator):
    node = coordinator()
    manager_key = make_key(node, "--scopes", "inference,keys")
    node.terminate()
    with closing(sqlite3.connect(node.data / "coordinator.db")) as database:
        [(account, have)] = database.execute("SELECT account, count(*) FROM api_keys GROUP BY account")
        database.executemany("INSERT INTO api_keys (hash, id, account, label, created_us) VALUES (?, ?, ?, '', 1)",
                             [(f"{i:064x}", f"key_{i}", account) for i in range(KEYS_MAX - have)])
        database.commit()
    node.start()
    with client_of(node, manager_key) as manager:
        for path in ("/v1/keys", "/v1/auth/keys"):
            refused = manager.post(path, json={})
            assert (refused.status_code, refused.json()["error"]["type"]) == (409, "key_limit"), refused.text
        assert manager.post("/v1/keys/key_1/rotate").status_code == 200, "that makes none more"
        assert manager.delete("/v1/keys/key_2").status_code == 200
        assert manager.post("/v1/keys", json={}).status_code == 200
        assert manager.post("/v1/keys", json={}).status_code == 409


def test_usage_names_the_key_that_asked(coordinator, provider):
    """Not the account alone, and nothing of the key's text (billing 13.16)."""
    node = coordinator()
    provider(node, {"text": "one two three"})
    with client_of(node, make_key(node, "--scopes", "inference,keys")) as manager:
        keys = [manager.post("/v1/keys", json={"name": f"k{i}"}).json() for i in range(3)]
        for key, times in zip(keys, range(3)):
            with client_of(node, key["key"]) as user:
                assert all(ask(user).status_code == 200 for _ in range(times))
        node.wait_idle()
        rows = node.usage()
        assert len(rows) == 3
        for key, times in zip(keys, range(3)):
            own = manager.get("/v1/payments/usage", params={"key_id": key["data"]["id"]}).json()["usage"]
            assert own == [row for row in rows if row["key_id"] == key["data"]["id"]] and len(own) == times
            digest = hashlib.sha256(key["key"].encode()).hexdigest()
            assert not any(text in json.dumps(rows) for text in (key["key"], digest))


def test_a_key_that_manages_keys_cannot_take_more_scopes_from_another(coordinator):
    node = coordinator()
    make_key(node, "--name", "rich", "--scopes", "inference,keys,payouts")
    with client_of(node, make_key(node, "--scopes", "keys")) as manager:
        rich = next(key for key in manager.get("/v1/keys").json()["data"] if key["name"] == "rich")
        assert manager.post(f"/v1/keys/{rich['id']}/rotate").status_code == 403
        assert manager.patch(f"/v1/keys/{rich['id']}", json={"name": "x"}).status_code == 403
        assert manager.delete(f"/v1/keys/{rich['id']}").status_code == 403
        own = manager.get("/v1/key").json()
        assert manager.patch(f"/v1/keys/{own['id']}", json={"scopes": ["keys", "payouts"]}).status_code == 403


def test_a_spend_limit_is_never_overshot_by_a_hundred_requests_at_once(coordinator, provider):
    node = coordinator({"pricing": PRICES})
    provider(node, {"text": "word", "tokens": 60, "max_concurrency": 64})
    limit = 0.02
    with client_of(node, make_key(node, "--scopes", "inference,keys", "--limit-usd", str(limit), "--reset", "daily")) as user:
        with ThreadPoolExecutor(32) as pool:
            answers = list(pool.map(lambda _: ask(user, max_tokens=60), range(100)))
        statuses = {answer.status_code for answer in answers}
        assert statuses == {200, 402}, statuses
        refused = next(answer for answer in answers if answer.status_code == 402).json()["error"]
        assert (refused["type"], refused["code"]) == ("insufficient_quota", "insufficient_quota")
        node.wait_idle()
        key = user.get("/v1/key").json()
        paid = sum(answer.status_code == 200 for answer in answers) * (3 + 60 * 20)
        assert round(key["usage_usd"] * 1e6) == paid <= limit * 1e6
        # Neither another text for the key nor a restart gives it more.
        fresh = user.post(f"/v1/keys/{key['id']}/rotate").json()["key"]
    node.restart()
    with client_of(node, fresh) as user:
        assert user.get("/v1/key").json()["usage_usd"] == key["usage_usd"]
        assert ask(user, max_tokens=1000).status_code == 402
    node.check_books()


def test_a_revoked_key_is_refused_at_once_while_it_is_busy(coordinator, provider):
    node = coordinator()
    provider(node, {"text": "hi", "max_concurrency": 64})
    with client_of(node, make_key(node, "--name", "busy")) as user, ThreadPoolExecutor(9) as pool:
        listed = json.loads(node.command("keys", "list", "--json").stdout)["data"]
        busy = next(key for key in listed if key["name"] == "busy")["id"]
        began = []  # (when, status) of requests, by when they were sent
        done = []

        def hammer(_):
            while not done:
                sent = time.monotonic()
                began.append((sent, ask(user).status_code))
        for worker in range(8):
            pool.submit(hammer, worker)
        try:
            wait_until(lambda: len(began) > 20, "requests to run")
            assert node.command("keys", "revoke", busy).returncode == 0
            revoked = time.monotonic()
            wait_until(lambda: any(sent > revoked for sent, _ in began), "a request after it")
        finally:
            done.append(True)
    assert {status for sent, status in began if sent > revoked} == {401}
    assert 200 in {status for _, status in began}
    node.check_books()


def test_rate_limits_are_told_and_kept_over_a_restart(coordinator, provider):
    limits = {"requests_per_minute": 1, "request_burst": 3, "output_tokens_per_minute": 60000, "output_token_burst": 60000}
    node = coordinator({"limits": limits})
    provider(node, {"text": "hi"})
    first = ask(node.client, max_tokens=100)
    assert first.status_code == 200
    assert first.headers["x-ratelimit-limit-requests"] == "1"
    assert first.headers["x-ratelimit-remaining-requests"] == "2"
    assert re.fullmatch(r"\d+s", first.headers["x-ratelimit-reset-requests"])
    assert first.headers["x-ratelimit-remaining-output-tokens"] == "59900"
    assert "x-ratelimit-limit-input-tokens" not in first.headers
    claude = node.client.post("/v1/messages", json={"model": "scripted", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]})
    assert claude.status_code == 200
    assert claude.headers["anthropic-ratelimit-requests-limit"] == "1"
    assert claude.headers["anthropic-ratelimit-output-tokens-reset"].endswith("Z")
    statuses = [ask(node.client).status_code for _ in range(5)]
    assert 429 in statuses
    node.restart()
    again = [ask(node.client) for _ in range(3)]
    assert sum(answer.status_code != 429 for answer in again) <= 2, "a restart fills no bucket"
    refused = next(answer for answer in again if answer.status_code == 429)
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert int(refused.headers["x-ratelimit-reset"]) > time.time() - 60
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"


def test_an_account_runs_only_so_many_requests_at_a_time(coordinator, provider):
    node = coordinator({"limits": {"concurrent_requests": 2, "first_content_ms": 120_000}})
    frozen = provider(node, {"text": "late", "max_concurrency": 8})
    frozen.freeze()
    running = [in_background(lambda: ask(node.client)) for _ in range(2)]
    node.wait_running(2)
    refused = ask(node.client)
    assert refused.status_code == 429, refused.text
    assert refused.headers["retry-after"] == "1"
    frozen.thaw()
    assert [answer().status_code for answer in running] == [200, 200]
    assert ask(node.client).status_code == 200
    node.check_books()


def test_a_request_takes_its_accounts_place_when_its_body_is_there(coordinator, provider):
    node = coordinator({"limits": {"concurrent_requests": 1}})
    provider(node, {"text": "hi"})
    body = json.dumps({"model": "scripted", "messages": [{"role": "user", "content": "hello"}]}).encode()
    with socket.create_connection(("127.0.0.1", node.port), 60 * PATIENCE) as slow:
        slow.sendall(f"POST /v1/chat/completions HTTP/1.1\r\nHost: {node.url}\r\nAuthorization: Bearer {node.key}\r\n"
                     f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode())
        wait_until(lambda: node.inflight() == 1, "the head to be read")
        assert node.metrics()["darkbloom_inflight_requests"] == 0
        overtaking = ask(node.client)
        assert overtaking.status_code == 200, overtaking.text
        slow.sendall(body)
        status = slow.makefile("rb").readline()
        assert b" 200 " in status, status
    node.check_books()


def test_the_operator_works_beside_a_running_coordinator_and_without_one(coordinator):
    node = coordinator()
    assert node.command("credit", "owner", "2.50").returncode == 0
    assert node.balance() == 12_500_000
    assert "no such account" in node.command("credit", "nobody", "1").stderr.lower()
    assert node.command("keys", "revoke", "key_none").returncode == 1
    make_key(node, "--name", "beside")
    mode = (node.data / "coordinator.db.sock").stat().st_mode & 0o777
    assert mode == 0o600
    node.terminate()
    assert not (node.data / "coordinator.db.sock").exists()
    alone = node.command("credit", "owner", "1")
    assert alone.returncode == 0 and "no coordinator runs" in alone.stderr
    listed = node.command("keys", "list")
    assert "beside" in listed.stdout and "no coordinator runs" in listed.stderr
    node.start()
    assert node.balance() == 13_500_000
    node.check_books()
