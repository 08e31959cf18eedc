"""Records of decisions: why a request went where it went, for the operator, in JSON and in words (routing 18)."""

from harness import wait_until

ADMIN = "an operator's key for records"


def start(coordinator):
    return coordinator({"accounts": {"admin_key": ADMIN}})


def admin(node, path):
    return node.client.get(path, headers={"Authorization": f"Bearer {ADMIN}"})


def test_an_answered_request_is_explained_with_prediction_and_outcome(coordinator, provider):
    node = start(coordinator)
    machine = provider(node, script={"text": "word"})
    answer = node.chat(machine.model, max_tokens=5)
    assert answer.status_code == 200, answer.text
    route, = admin(node, "/v1/admin/routes").json()["routes"]
    assert (route["outcome"], route["status"], route["model"], route["attempts"], route["route"]) == ("success", 200, machine.model, 1, "public")
    assert route["provider"] == answer.headers["x-provider-id"] and route["cost_ms"] > 0 and route["predicted_ttft_ms"] > 0
    assert route["ttft_ms"] > 0 and route["completion_tokens"] == answer.json()["usage"]["completion_tokens"]
    one = admin(node, f"/v1/admin/routes/{route['request_id']}").json()
    assert one["route"] == route
    assert f"Provider {route['provider']} was chosen" in one["explanation"] and "It ended as success (200)." in one["explanation"]
    told = node.command("explain", route["request_id"])
    assert told.returncode == 0 and told.stdout == one["explanation"], told.stderr
    assert "hello" not in one["explanation"]


def test_a_refused_request_says_what_stood_against_each_provider(coordinator, provider):
    node = start(coordinator)
    machine = provider(node, script={"text": "word"})
    refused = node.client.post("/v1/chat/completions", headers={"X-Darkbloom-Min-Trust": "hardware"},
                               json={"model": machine.model, "messages": [{"role": "user", "content": "hi"}]})
    assert refused.status_code == 503
    route, = admin(node, "/v1/admin/routes?outcome=model_unavailable").json()["routes"]
    assert route["provider"] is None and route["passed_over"] == {"trust_below_floor": 1} and route["ttft_ms"] is None, route
    told = node.command("explain", route["request_id"]).stdout
    assert "No provider was chosen" in told and "below the trust that is asked for (trust_below_floor)" in told
    assert admin(node, "/v1/admin/routes?outcome=success").json()["routes"] == []
    assert node.chat("absent").status_code == 404
    newest = admin(node, "/v1/admin/routes?limit=1").json()["routes"]
    assert [one["model"] for one in newest] == ["absent"]


def test_who_may_look_and_what_is_not_known(coordinator):
    node = start(coordinator)
    assert node.client.get("/v1/admin/routes").status_code == 403
    assert admin(node, "/v1/admin/routes/none").status_code == 404
    assert admin(node, "/v1/admin/routes?limit=0").status_code == 400
    unknown = node.command("explain", "none")
    assert unknown.returncode != 0 and "no record" in unknown.stderr
    node.terminate()
    gone = node.command("explain", "none")
    assert gone.returncode != 0 and "No coordinator runs" in gone.stderr


def test_a_consumer_that_leaves_is_recorded(coordinator, provider):
    node = start(coordinator)
    machine = provider(node, script={"text": "word", "tokens": 100000, "token_delay_ms": 5})
    with node.client.stream("POST", "/v1/chat/completions", json={
            "model": machine.model, "stream": True, "max_tokens": 5000, "messages": [{"role": "user", "content": "hi"}]}) as answer:
        next(answer.iter_lines())
    wait_until(lambda: [one["outcome"] for one in admin(node, "/v1/admin/routes").json()["routes"]] == ["partial_success"], "the record")
    route, = admin(node, "/v1/admin/routes").json()["routes"]
    assert route["status"] == 0 and route["stream"] is True
