"""The operational surface: health, drain gate, capacity, statistics, version, CORS, HEAD and OPTIONS, request ids, headers on
every dialect, and every error in the dialect of its route."""

import threading

import pytest

from harness import wait_until

ADMIN = "admin-key-of-these-tests-0123456789"
CONSOLE = "https://console.darkbloom.dev"

CHAT = ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi there"}]})
RESPONSES = ("/v1/responses", {"input": "hi there"})
COMPLETIONS = ("/v1/completions", {"prompt": "hi there"})
MESSAGES = ("/v1/messages", {"messages": [{"role": "user", "content": "hi there"}], "max_tokens": 50})
DIALECTS = [CHAT, RESPONSES, COMPLETIONS, MESSAGES]


@pytest.fixture
def operated(coordinator):
    return lambda **config: coordinator({"accounts": {"admin_key": ADMIN}, **config})


def as_admin(node, path, **more):
    return node.client.post(path, headers={"Authorization": f"Bearer {ADMIN}"}, **more)


def post(node, dialect, **more):
    path, body = dialect
    return node.client.post(path, json={"model": "scripted", **body, **more})


def check_error(dialect, answer, status, kind):
    """The error object of the dialect; kind is the type of the OpenAI-shaped ones."""
    assert answer.status_code == status, (dialect, answer.status_code, answer.text)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    error = answer.json()["error"]
    assert len(error["message"]) > 10, "a sentence that says what to do"
    if status in (429, 503):
        assert int(answer.headers["retry-after"]) >= 1
    if dialect is MESSAGES:
        names = {400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 404: "not_found_error", 413: "request_too_large",
                 429: "rate_limit_error"}
        assert answer.json()["type"] == "error"
        assert error["type"] in (names.get(status, "api_error"), "overloaded_error"), (status, error)
    else:
        assert error["type"] == kind
        assert error["code"]


def test_every_error_is_in_the_dialect_of_its_route_and_costs_nothing(operated, provider):
    node = operated()
    provider(node, {"text": "never seen", "fail_status": 500, "fail_text": "fatal error"})
    before = node.balance()
    for dialect in DIALECTS:
        path, body = dialect

        def raw(content, **headers):
            return node.client.post(path, content=content, headers=headers)
        check_error(dialect, raw(b"{"), 400, "invalid_request_error")
        check_error(dialect, raw(b"[]"), 400, "invalid_request_error")
        check_error(dialect, raw(b"{}"), 400, "invalid_request_error")
        check_error(dialect, post(node, dialect, model=7), 400, "invalid_request_error")
        check_error(dialect, post(node, dialect, temperature="hot"), 400, "invalid_request_error")
        check_error(dialect, raw(b"{}", Authorization="Bearer sk-db-none"), 401, "authentication_error")
        check_error(dialect, raw(b"{}", Authorization=""), 401, "authentication_error")
        check_error(dialect, post(node, dialect, model="absent"), 404, "model_not_found")
        check_error(dialect, post(node, dialect, model="m" * 5000), 404, "model_not_found")
        check_error(dialect, raw(b" " * (16 * 1024 * 1024 + 1)), 413, "invalid_request_error")
        check_error(dialect, post(node, dialect), 500, "provider_error")
    node.wait_idle()
    assert node.balance() == before
    assert node.usage() == []
    node.check_books()


def test_an_empty_balance_is_told_in_the_dialect_of_the_route(operated, provider):
    node = operated(accounts={"admin_key": ADMIN, "first_grant_usd": "0"})
    provider(node, {"text": "never seen"})
    for dialect in DIALECTS:
        check_error(dialect, post(node, dialect), 402, "insufficient_funds")
    node.check_books()


def test_a_failure_behind_keepalives_is_said_in_the_dialect(operated, provider):
    node = operated(limits={"keepalive_s": 1})
    provider(node, {"text": "x", "first_delay_ms": 1500, "fail_status": 500, "fail_text": "fatal error"})
    before = node.balance()
    for dialect in DIALECTS:
        def begun():  # not where the machine stood still until the failure was there
            answer = post(node, dialect, stream=True)
            return answer.status_code == 200 and answer
        answer = wait_until(begun, "a failure behind a keepalive")
        assert "keepalive" in answer.text or "ping" in answer.text, answer.text
        assert "error" in answer.text
        assert ("[DONE]" in answer.text) == (dialect in (CHAT, COMPLETIONS)), answer.text
    node.wait_idle()
    assert node.balance() == before


def test_every_dialect_says_who_answered_and_how_long_it_took(operated, provider):
    node = operated()
    provider(node, {"text": "one two"})
    for dialect in DIALECTS:
        for stream in (False, True):
            headers = post(node, dialect, stream=stream).headers
            assert {"x-provider-id", "x-provider-encrypted", "x-provider-attested", "x-provider-trust-level", "x-timing",
                    "x-inference-job-id", "x-request-id"} <= headers.keys(), (dialect, headers)
    node.check_books()


def test_every_dialect_fails_over(operated, provider):
    node = operated()
    provider(node, {"text": "good"})
    provider(node, {"text": "bad", "fail_status": 503, "fail_text": "fatal error"})
    for dialect in DIALECTS * 3:
        answer = post(node, dialect)
        assert answer.status_code == 200 and "good" in answer.text
    node.check_books()


def test_the_drain_gate_shuts_before_authentication_and_opens_again(operated, provider):
    node = operated(limits={"first_content_ms": 600000})
    busy = provider(node, {"text": "word", "tokens": 20})
    refused = node.client.post("/v1/admin/drain")
    assert refused.status_code == 403, refused.text
    busy.freeze()
    running = []
    thread = threading.Thread(target=lambda: running.append(post(node, CHAT)))
    thread.start()
    wait_until(lambda: node.metrics()["darkbloom_jobs_open"] == 1, "the request to run")
    shut = as_admin(node, "/v1/admin/drain")
    assert shut.json() == {"draining": True, "inflight": 1}
    for dialect in DIALECTS:
        answer = node.client.post(dialect[0], json={}, headers={"Authorization": ""})
        check_error(dialect, answer, 429, "rate_limit_exceeded")
        assert answer.headers["retry-after"] == "3"
    ready = node.client.get("/readyz")
    assert (ready.status_code, ready.json()["draining"], ready.json()["ready"]) == (503, True, False)
    assert node.get("/health")["draining"] is True
    assert node.client.get("/v1/models/capacity", headers={"Authorization": ""}).json() == {"models": [], "draining": True}
    busy.thaw()
    thread.join()
    assert running[0].status_code == 200, "what runs goes on"
    assert as_admin(node, "/v1/admin/drain", json={"draining": 5}).status_code == 400
    assert as_admin(node, "/v1/admin/drain", content=iter([b'{"drain', b'ing":false}'])).json()["draining"] is False
    assert post(node, CHAT, max_tokens=2).status_code == 200
    assert as_admin(node, "/v1/admin/drain", content=b" " * 70_000).status_code == 413


def test_capacity_tells_what_a_model_can_take(operated, provider):
    node = operated()
    provider(node, {"text": "x", "max_concurrency": 3})
    shown = node.client.get("/v1/models/capacity", headers={"Authorization": ""}).json()["models"]
    assert [model["id"] for model in shown] == ["scripted"]
    model = shown[0]
    assert set(model) == {"id", "ready", "can_accept", "routable_providers", "warm_providers", "running_providers", "cold_providers",
                          "active_requests", "queued_requests", "queue_limit", "aggregate_tps", "estimated_ttft_ms",
                          "token_budget_remaining", "token_budget_total"}
    assert (model["ready"], model["can_accept"], model["routable_providers"], model["queue_limit"]) == (True, True, 1, 10)


def test_stats_count_answers_and_providers(operated, provider):
    node = operated()
    provider(node, {"text": "one two three"})
    assert post(node, CHAT).status_code == 200
    stats = node.client.get("/v1/stats", headers={"Authorization": ""}).json()
    assert (stats["total_requests"], stats["total_completion_tokens"], stats["active_providers"]) == (1, 3, 1)
    assert stats["models"] == [{"id": "scripted", "providers": 1}]
    assert stats["providers"][0]["models"] == ["scripted"]
    assert stats["time_series"] == [] and stats["request_locations"] == []
    assert node.client.get("/v1/stats").json() == stats, "kept for a minute"


def test_version_and_health_name_the_build(operated):
    node = operated()
    version = node.client.get("/api/version", headers={"X-Forwarded-Proto": "https", "Host": "example.org"}).json()
    assert version["version"] == node.get("/health")["version"]
    assert version["download_url"].startswith("https://example.org/dl/")
    assert {"status", "providers", "version", "build_commit", "build_date"} <= node.get("/health").keys()


def test_cross_origin_headers_follow_the_table(operated):
    node = operated()

    def cors(answer):
        return {name: value for name, value in answer.headers.items() if name.startswith("access-control-") or name == "vary"}
    closed = {"access-control-allow-origin": CONSOLE, "access-control-allow-credentials": "true",
              "access-control-allow-methods": "GET, POST, PUT, DELETE, OPTIONS", "access-control-allow-headers": "Content-Type, Authorization"}
    public = {"access-control-allow-origin": "*", "access-control-allow-methods": "GET, OPTIONS",
              "access-control-allow-headers": "Content-Type", "vary": "Origin"}
    evil = {"Origin": "https://evil.example"}
    assert cors(node.client.get("/v1/stats", headers=evil)) == public
    assert cors(node.client.get("/v1/models", headers=evil)) == closed
    assert cors(node.client.get("/absent", headers=evil)) == closed
    assert cors(node.client.post("/v1/stats", headers=evil)) == closed
    for path in ("/v1/stats", "/v1/pricing", "/v1/models/catalog"):
        plain = node.client.options(path, headers=evil)
        assert (plain.status_code, plain.content, cors(plain)) == (204, b"", public)
        assert cors(node.client.options(path, headers={**evil, "Access-Control-Request-Method": "PUT"})) == closed
    for path in ("/v1/chat/completions", "/v1/nothing", "/anything"):
        answer = node.client.options(path, headers={**evil, "Access-Control-Request-Method": "POST"})
        assert (answer.status_code, answer.content, cors(answer)) == (204, b"", closed)


def test_head_is_get_without_the_body(operated):
    node = operated()
    for path in ("/health", "/readyz", "/v1/stats", "/v1/models/capacity", "/api/version", "/v1/models"):
        whole, head = node.client.get(path), node.client.head(path)
        assert (head.status_code, head.content) == (whole.status_code, b"")
        assert head.headers["content-type"] == whole.headers["content-type"]


def test_unknown_routes_and_request_ids(operated):
    node = operated()
    for method, path in (("GET", "/v1/absent"), ("DELETE", "/v1/chat/completions"), ("GET", "/v1/responses"), ("PUT", "/v1/stats")):
        answer = node.client.request(method, path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "invalid_request_error")
    assert node.client.get("/absent").status_code == 404 and "json" not in node.client.get("/absent").headers["content-type"]
    assert node.client.post("/health").status_code == 405
    assert node.client.get("/health", headers={"X-Request-ID": "mine-1"}).headers["x-request-id"] == "mine-1"
    made = node.client.get("/health").headers["x-request-id"]
    assert len(made) == 12 and set(made) <= set("0123456789abcdefghijklmnopqrstuv")
