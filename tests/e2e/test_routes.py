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
    terms = route["cost_terms_ms"]
    assert set(terms) >= {"state", "queue", "pending", "backlog", "own", "health"}
    assert abs(sum(terms.values()) - route["cost_ms"]) <= 0.01 * route["cost_ms"], route
    assert f"{terms['own']:.0f} ms for the request itself" in one["explanation"]
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
    assert gone.returncode != 0 and "no record" in gone.stderr


def test_a_consumer_that_leaves_is_recorded(coordinator, provider):
    node = start(coordinator)
    machine = provider(node, script={"text": "word", "tokens": 100000, "token_delay_ms": 5})
    with node.client.stream("POST", "/v1/chat/completions", json={
            "model": machine.model, "stream": True, "max_tokens": 5000, "messages": [{"role": "user", "content": "hi"}]}) as answer:
        next(answer.iter_lines())
    wait_until(lambda: [one["outcome"] for one in admin(node, "/v1/admin/routes").json()["routes"]] == ["partial_success"], "the record")
    route, = admin(node, "/v1/admin/routes").json()["routes"]
    assert route["status"] == 0 and route["stream"] is True


def test_records_outlive_the_coordinator_and_are_explained_without_it(coordinator, provider):
    node = start(coordinator)
    machine = provider(node, script={"text": "word"})
    job = node.chat(machine.model, text="a word that no record may hold: quixotry").headers["x-inference-job-id"]
    told = node.command("explain", job)
    assert told.returncode == 0, told.stderr
    digest = admin(node, f"/v1/admin/routes/{job}").json()["route"]["account_digest"]
    assert node.terminate() == 0
    alone = node.command("explain", job)
    assert alone.returncode == 0 and alone.stdout == told.stdout, alone.stderr
    files = sorted((node.data / "routes").iterdir())
    text = b"".join(file.read_bytes() for file in files)
    assert job.encode() in text and b"quixotry" not in text and node.key.encode() not in text
    assert all(file.stat().st_mode & 0o077 == 0 for file in files)
    node.start()
    assert [one["request_id"] for one in admin(node, "/v1/admin/routes").json()["routes"]] == [job]
    node.wait_routable(machine.model)
    again = node.chat(machine.model).headers["x-inference-job-id"]
    assert admin(node, f"/v1/admin/routes/{again}").json()["route"]["account_digest"] == digest
    metrics = wait_until(lambda: (found := node.metrics())["darkbloom_route_records_written"] >= 1 and found, "the record to be written")
    assert metrics["darkbloom_route_records_dropped"] == 0


def test_whoever_is_refused_before_admission_is_recorded_with_the_reason(coordinator):
    node = coordinator({"accounts": {"admin_key": ADMIN}, "limits": {"requests_per_minute": 1, "request_burst": 4}})
    parsed = node.client.post("/v1/chat/completions", content=b"{")
    broken = node.client.post("/v1/messages", json={"model": "m", "messages": "none"})
    odd = node.client.post("/v1/chat/completions", json={"model": "a\u001b[m" + "x" * 500, "messages": []})
    unknown = node.chat("absent")
    limited = node.chat("absent")
    answers = (parsed, broken, odd, unknown, limited)
    assert [answer.status_code for answer in answers] == [400, 400, 400, 404, 429]
    found = {}
    for answer in answers:
        job = answer.headers["x-inference-job-id"]
        found[job] = admin(node, f"/v1/admin/routes/{job}").json()
        assert found[job]["route"]["status"] == answer.status_code
    reasons = [one["route"]["reason"] for one in found.values()]
    assert reasons == ["invalid_request_error"] * 3 + ["model_not_found", "requests_per_minute"], reasons
    assert [one["route"]["routed"] for one in found.values()] == [False, False, False, True, False]
    models = [one["route"]["model"] for one in found.values()]
    assert models[:2] == ["", "m"] and models[2].startswith("a?[mxxx") and len(models[2]) < 300 and models[3] == "absent", models
    assert "of m " in found[broken.headers["x-inference-job-id"]]["explanation"] or " m " in found[broken.headers["x-inference-job-id"]]["explanation"]
    assert "No provider was looked for." in found[limited.headers["x-inference-job-id"]]["explanation"]
    listed = admin(node, "/v1/admin/routes?outcome=requests_per_minute").json()["routes"]
    assert [one["request_id"] for one in listed] == [limited.headers["x-inference-job-id"]]


def test_predictions_are_held_against_what_came_and_get_better(coordinator, provider):
    """The machine takes far longer for its first token than anybody would guess: after some requests that is expected."""
    node = start(coordinator)
    machine = provider(node, script={"text": "word", "first_delay_ms": 400})
    ratios = []
    for _ in range(12):
        job = node.chat(machine.model, max_tokens=2).headers["x-inference-job-id"]
        route = admin(node, f"/v1/admin/routes/{job}").json()["route"]
        ratios.append(route["ttft_ms"] / route["predicted_ttft_ms"])
    assert ratios[0] > 2 * min(ratios[-3:]), ratios
    summary = admin(node, "/v1/admin/routes/summary").json()["models"][machine.model]
    ttft = summary["ttft_actual_to_predicted"]
    assert ttft["samples"] == 12 and ttft["p10"] <= ttft["p50"] <= ttft["p99"] and ttft["p99"] > 2, summary
    assert summary["tokens_actual_to_expected"]["samples"] == 12
    assert node.client.get("/v1/admin/routes/summary").status_code == 403
