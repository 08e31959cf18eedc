"""Regions that a request asks for: in a header or in the body, in every dialect, together with the other wishes; and self-route in
blind mode (routing 15, http-api 4.5)."""

import hashlib
import json
import sqlite3

import pytest

from python_provider import PythonProvider
from sealing import Blind

TOKEN = "eigeninference-pt-" + "7" * 64
SAID = {"US-CA": "california", "DE": "germany", "": "nowhere"}
MESSAGES = [{"role": "user", "content": "hi"}]
ADMIN = "an operator's key for regions"


class Placed(PythonProvider):
    """Says where it stands, as the protocol's text has it."""

    def __init__(self, coordinator, serial, region):
        super().__init__(coordinator, serial=serial, model="scripted")
        self.region = region

    def registration(self):
        return super().registration() | {"region": self.region}


@pytest.fixture
def node(coordinator, provider):
    made = coordinator({"accounts": {"first_grant_usd": "1000", "admin_key": ADMIN}})
    for region, text in SAID.items():
        provider(made, script={"text": text}, options=("--region", region.lower()) if region else ())
    return made


def ask(node, header=None, path="/v1/chat/completions", **body):
    headers = {} if header is None else {"X-Darkbloom-Regions": header}
    body = {"model": "scripted", "max_tokens": 4} | ({} if path == "/v1/completions" else {"messages": MESSAGES}) | body
    return node.client.post(path, headers=headers, json=body)


def where(answer):
    assert answer.status_code == 200, answer.text
    found = [text for text in SAID.values() if text in answer.text]
    assert len(found) == 1, answer.text
    return found[0]


def test_only_machines_of_the_region_answer_in_every_dialect(node):
    for header, body, wanted in (("US", {}, "california"), ("us-ca , FR", {}, "california"), (None, {"provider_region": "DE"}, "germany"),
                                 (None, {"provider_regions": ["fr", "de"]}, "germany"), ("US", {"provider_region": "US-CA"}, "california"),
                                 ("US-CA,DE", {"provider_regions": ["US", "FR"]}, "california")):
        for _ in range(3):
            answer = ask(node, header, **body)
            assert where(answer) == wanted
        assert answer.headers["x-provider-region"] == {"california": "US-CA", "germany": "DE"}[wanted]
    for path, body in (("/v1/completions", {"prompt": "hi"}), ("/v1/messages", {}), ("/v1/responses", {"input": "hi", "messages": None, "max_tokens": None})):
        body = {name: value for name, value in body.items() if value is not None}
        base = {"path": path, **body}
        if path == "/v1/responses":
            for region, header in (("DE", None), (None, "DE")):
                said = {"model": "scripted", "input": "hi"} | ({"provider_region": region} if region else {})
                answer = node.client.post(path, json=said, headers={"X-Darkbloom-Regions": header} if header else {})
                assert where(answer) == "germany"
            continue
        assert where(ask(node, "DE", **base)) == "germany"
        assert where(ask(node, provider_region="US-CA", **base)) == "california"
        assert where(ask(node, "US-CA", stream=True, **base)) == "california"


def test_where_nobody_is_the_request_is_refused_and_the_record_says_why(node):
    before = node.balance()
    answer = ask(node, "FR")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "region_unavailable"), answer.text
    route = node.client.get(f"/v1/admin/routes/{answer.headers['x-inference-job-id']}", headers={"Authorization": f"Bearer {ADMIN}"}).json()
    assert route["route"]["regions"] == "FR" and route["route"]["passed_over"] == {"region_not_allowed": 3}
    assert "It wanted machines in FR." in route["explanation"]
    assert ask(node, "US-NY").status_code == 503 and ask(node, "U").status_code == 400
    assert node.balance() == before


def test_what_is_no_region_is_refused_in_the_dialect(node):
    for header, body in (("Germany", {}), (",", {}), ("DE;US", {}), (None, {"provider_region": 7}), (None, {"provider_regions": []}),
                         (None, {"provider_regions": ["DE", None]}), (None, {"provider_region": "D1"}), ("DE", {"provider_region": "US"}),
                         (None, {"provider_regions": [f"A{chr(65 + n % 26)}-{n}" for n in range(40)]})):
        answer = ask(node, header, **body)
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error"), (header, body, answer.text)
        answer = ask(node, header, path="/v1/messages", **body)
        assert (answer.status_code, answer.json()["type"]) == (400, "error"), (header, body, answer.text)
    node.wait_idle()


def test_regions_go_together_with_serials_and_trust(node):
    both = [Placed(node, serial, region) for serial, region in (("PYDE", "DE"), ("PYUS", "us-tx"))]
    try:
        for one in both:
            one.start()
        node.wait_routable("scripted", 5)
        serials = ["PYDE", "PYUS"]
        for region, serial in (("DE", "PYDE"), ("US", "PYUS"), ("US-TX", "PYUS")):
            answer = ask(node, region, provider_serials=serials)
            assert answer.status_code == 200 and answer.headers["x-provider-serial"] == serial, answer.text
        assert ask(node, "DE", provider_serial="PYUS").status_code == 503
        assert all(one.failure is None and "provider_region" not in str(one.prompts) for one in both)
        assert all("provider_serial" not in prompt for one in both for prompt in one.prompts)
    finally:
        for one in both:
            one.stop()
    node.wait_routable("scripted", 3)
    answer = node.client.post("/v1/chat/completions", json={"model": "scripted", "messages": MESSAGES, "provider_region": "DE"},
                              headers={"X-Darkbloom-Min-Trust": "hardware"})
    assert answer.status_code == 503
    answer = node.client.post("/v1/chat/completions", json={"model": "scripted", "messages": MESSAGES, "provider_region": "DE"},
                              headers={"X-Darkbloom-Route": "self"})
    assert answer.json()["error"]["type"] == "no_linked_machine"


def test_a_provider_does_not_start_with_a_region_that_is_none(node, provider):
    wrong = provider(node, script={"text": "x"}, wait=False, options=("--region", "Bavaria"))
    assert wrong.wait() != 0 and "ISO 3166" in wrong.log()
    wrong.killed = True


# --- blind mode ---

def test_sealed_requests_have_regions_too(node):
    chat = {"model": "scripted", "messages": MESSAGES}
    blind = Blind(node.client, chat, provider_regions=["DE"], candidates=8)
    assert [one.get("region") for one in blind.offer["candidates"]] == ["DE"]
    assert blind.whole()[0] == "germany"
    refused = node.client.post("/v1/blind/offer", json={"model": "scripted", "max_prompt_tokens": 9, "max_tokens": 9, "provider_region": "FR"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "region_unavailable")
    route = node.client.get(f"/v1/admin/routes/{refused.headers['x-inference-job-id']}", headers={"Authorization": f"Bearer {ADMIN}"}).json()["route"]
    assert route["blind"] and route["passed_over"]["region_not_allowed"] == 3
    other = Blind(node.client, chat, candidates=8)
    american = next(one for one in other.offer["candidates"] if one.get("region") == "US-CA")
    wrong = other.post(other.seal(american, provider_region="DE"))
    assert wrong.status_code == 503, wrong.text


def test_sealed_requests_leave_records_with_prediction_and_outcome(node):
    text, receipt = Blind(node.client, {"model": "scripted", "messages": [{"role": "user", "content": "quixotry"}]}).whole()
    told = node.command("explain", receipt["request_id"], "--json")
    assert told.returncode == 0, told.stderr
    route = json.loads(told.stdout)["route"]
    assert route["blind"] and route["outcome"] == "success" and route["ttft_ms"] > 0 and route["predicted_ttft_ms"] > 0
    assert route["provider"] and route["completion_tokens"] == receipt["usage"]["completion_tokens"] and "quixotry" not in told.stdout


def test_own_machines_answer_sealed_requests_for_nothing(node, provider, tmp_path):
    node.terminate()
    with sqlite3.connect(node.data / "coordinator.db") as database:
        database.execute("INSERT INTO provider_tokens (hash, account, label, created_us) SELECT ?, ref, '', 1 FROM accounts WHERE is_owner = 1",
                         [hashlib.sha256(TOKEN.encode()).hexdigest()])
    database.close()
    node.start()
    node.wait_routable("scripted", 3)
    chat = {"model": "scripted", "messages": MESSAGES}
    offer = {"model": "scripted", "max_prompt_tokens": 9, "max_tokens": 9}
    own_only = {"X-Darkbloom-Route": "self"}
    assert node.client.post("/v1/blind/offer", json=offer, headers=own_only).json()["error"]["type"] == "machine_offline"
    token = tmp_path / "provider-token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    provider(node, script={"text": "mine"}, options=("--token-file", token))
    before, used = node.balance(), len(node.usage())
    node.client.headers["X-Darkbloom-Route"] = "self"
    blind = Blind(node.client, chat, candidates=8)
    assert [(one.get("own"), one["max_cost_micro_usd"]) for one in blind.offer["candidates"]] == [(True, 0)]
    del node.client.headers["X-Darkbloom-Route"]  # the offer remembers it
    text, receipt = blind.whole()
    assert text == "mine" and receipt["cost_micro_usd"] == 0
    assert (node.balance(), len(node.usage())) == (before, used)
    public = Blind(node.client, chat, candidates=8)
    stranger = next(one for one in public.offer["candidates"] if one["provider_id"] != blind.candidate["provider_id"])
    node.client.headers["X-Darkbloom-Route"] = "self"
    wrong = public.post(public.seal(stranger))
    assert wrong.status_code == 503, wrong.text
    node.client.headers["X-Darkbloom-Route"] = "prefer"
    text, receipt = Blind(node.client, chat).whole()
    assert text == "mine" and receipt["cost_micro_usd"] == 0
    public.seal(stranger)
    text, receipt = public.whole(candidate=stranger)
    assert text != "mine" and receipt["cost_micro_usd"] > 0
    del node.client.headers["X-Darkbloom-Route"]
    text, receipt = public.whole(candidate=blind.candidate)
    assert text == "mine" and receipt["cost_micro_usd"] > 0  # whoever does not ask for it pays, also at home
    node.check_books()
