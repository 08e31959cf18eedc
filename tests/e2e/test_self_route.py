"""A caller's own machines: alone, first, and free (http-api 4.5, routing 15, billing 3.2)."""

import hashlib
import json
import sqlite3

import pytest

from harness import wait_until
from sealing import Blind

TOKEN = "eigeninference-pt-" + "5" * 64
SELF = {"X-Darkbloom-Route": "Self"}
PREFER = {"X-Darkbloom-Route": "prefer"}


@pytest.fixture
def node(coordinator):
    made = coordinator({"accounts": {"first_grant_usd": "10"}})
    made.terminate()
    with sqlite3.connect(made.data / "coordinator.db") as database:
        database.execute("INSERT INTO provider_tokens (hash, account, label, created_us) SELECT ?, ref, '', 1 FROM accounts WHERE is_owner = 1",
                         [hashlib.sha256(TOKEN.encode()).hexdigest()])
    database.close()
    return made.start()


@pytest.fixture
def own(provider, tmp_path):
    def make(node, text="mine", model=None, **more):
        token = tmp_path / "provider-token"
        token.write_text(TOKEN)
        token.chmod(0o600)
        return provider(node, script={"text": text, **more}, model=model, options=("--token-file", token))
    return make


def make_key(node, **terms):
    manager = node.command("keys", "create", "--scopes", "inference,keys")
    assert manager.returncode == 0, manager.stderr
    made = node.client.post("/v1/keys", json=terms, headers={"Authorization": f"Bearer {manager.stdout.strip()}"})
    assert made.status_code in (200, 201), made.text
    return made.json()["key"]


def ask(node, headers, model="scripted", key=None, **body):
    if key:
        headers = {**headers, "Authorization": f"Bearer {key}"}
    return node.client.post("/v1/chat/completions", headers=headers,
                            json={"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4, **body})


def text_of(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["message"]["content"]


def refused(answer, status, kind, retry_after=None):
    assert (answer.status_code, answer.json()["error"]["type"]) == (status, kind), answer.text
    if retry_after:
        assert answer.headers["retry-after"] == str(retry_after)


def test_own_machines_answer_for_nothing_and_leave_no_usage(node, provider, own):
    machine = own(node)
    provider(node, script={"text": "other"}, model=machine.model)
    before = node.balance()
    for _ in range(4):
        assert text_of(ask(node, SELF, machine.model)).startswith("mine")
        assert text_of(ask(node, PREFER, machine.model)).startswith("mine")
    with node.client.stream("POST", "/v1/chat/completions", headers=SELF, json={
            "model": machine.model, "stream": True, "messages": [{"role": "user", "content": "hi"}]}) as answer:
        assert answer.status_code == 200 and "mine" in answer.read().decode()
    assert node.balance() == before
    assert node.usage() == []
    audit = node.check_books()
    assert audit["usage_cost_micro_usd"] == 0


def test_prefer_goes_on_with_the_fleet_and_pays_once(node, provider, own):
    machine = own(node)
    provider(node, script={"text": "other"}, model=machine.model)
    before = node.balance()
    machine.terminate()
    node.wait_routable(machine.model, 1)
    assert text_of(ask(node, PREFER, machine.model)).startswith("other")
    assert len(node.usage()) == 1 and node.balance() < before
    refused(ask(node, SELF, machine.model), 503, "machine_offline", 30)
    assert len(node.usage()) == 1
    node.check_books()


def test_a_machine_without_the_model_is_said(node, provider, own):
    own(node, model="mine-only")
    other = provider(node, script={"text": "other"}, model="elsewhere")
    refused(ask(node, SELF, other.model), 503, "model_not_loaded", 15)
    node.check_books()


def test_a_key_for_own_machines_never_reaches_others(node, provider, own):
    other = provider(node, script={"text": "other"})
    key = make_key(node, name="home", self_route_only=True)
    before = node.balance()
    refused(ask(node, {}, other.model, key), 503, "machine_offline")
    refused(ask(node, PREFER, other.model, key), 503, "machine_offline")
    own(node, model=other.model)
    assert text_of(ask(node, {}, other.model, key)).startswith("mine")
    assert node.balance() == before
    node.check_books()


def test_an_account_without_a_linked_machine_is_told_so_at_the_door(coordinator, provider):
    bare = coordinator()
    other = provider(bare, script={"text": "other"})
    key = make_key(bare, name="home", self_route_only=True)
    before = bare.balance()
    for headers, used in ((SELF, None), ({}, key), (PREFER, key)):
        answer = ask(bare, headers, other.model, used)
        refused(answer, 409, "no_linked_machine")
        assert answer.json()["error"]["code"] == "no_linked_machine" and "darkbloom login" in answer.json()["error"]["message"]
    for path, body in (("/v1/responses", {"input": "x"}), ("/v1/completions", {"prompt": "x"}),
                       ("/v1/messages", {"messages": [{"role": "user", "content": "x"}], "max_tokens": 4})):
        answer = bare.client.post(path, headers=SELF, json={"model": other.model, **body})
        assert answer.status_code == 409 and "linked" in answer.json()["error"]["message"], (path, answer.text)
    assert text_of(ask(bare, PREFER, other.model)).startswith("other")
    assert bare.balance() < before
    bare.check_books()


def test_no_balance_is_needed_for_own_machines(coordinator, node, own):
    machine = own(node)
    key = make_key(node, name="nothing", limit_usd=0)
    assert ask(node, {}, machine.model, key).status_code == 402
    assert text_of(ask(node, SELF, machine.model, key)).startswith("mine")


def test_a_private_machine_serves_its_owner_alone_sealed_or_not_and_is_not_listed(node, provider, tmp_path):
    token = tmp_path / "provider-token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    machine = provider(node, script={"text": "mine"}, options=("--token-file", token, "--private-only"), wait=False)
    wait_until(lambda: len(node.providers()) == 1, "the private machine")
    wait_until(lambda: ask(node, SELF, machine.model).status_code == 200, "its first answer")
    before = node.balance()
    for wish in (SELF, PREFER):
        assert text_of(ask(node, wish, machine.model)).startswith("mine")
    assert node.routable(machine.model) == 0
    assert all(entry["routable_providers"] == 0 for entry in node.get("/v1/models/capacity")["models"])
    chat = {"model": machine.model, "messages": [{"role": "user", "content": "hi"}]}
    for wish in (SELF, PREFER):
        node.client.headers.update(wish)
        assert Blind(node.client, chat).whole()[0].startswith("mine")
        del node.client.headers["X-Darkbloom-Route"]
    assert node.balance() == before and node.usage() == []
    node.check_books()


def test_a_private_machine_of_somebody_else_serves_nobody_here(node, provider):
    machine = provider(node, script={"text": "theirs"}, options=("--private-only",), wait=False)

    def passed_over():
        told = node.command("explain", ask(node, {}, machine.model).headers["x-inference-job-id"], "--json")
        return told.returncode == 0 and json.loads(told.stdout)["route"]["passed_over"]
    wait_until(lambda: passed_over() == {"private_only": 1}, "the private machine to lack nothing else")
    before = node.balance()
    offer = {"model": machine.model, "max_prompt_tokens": 9, "max_tokens": 9}
    for wish in ({}, SELF, PREFER):
        assert ask(node, wish, machine.model).status_code in (404, 503)
        assert node.client.post("/v1/blind/offer", json=offer, headers=wish).status_code in (404, 503)
    assert node.balance() == before
    node.wait_idle()


def test_sealed_requests_name_machines_and_a_trust_floor_too(node, provider):
    machine = provider(node, script={"text": "other"})
    [serial] = [one["serial_number"] for one in node.providers()]
    offer = {"model": machine.model, "max_prompt_tokens": 9, "max_tokens": 9}
    refused(node.client.post("/v1/blind/offer", json=offer | {"provider_serial": "NOBODYS"}), 503, "model_unavailable")
    refused(node.client.post("/v1/blind/offer", json=offer | {"provider_serials": []}), 400, "invalid_request_error")
    refused(node.client.post("/v1/blind/offer", json=offer, headers={"X-Darkbloom-Min-Trust": "hardware"}), 503, "model_unavailable")
    assert node.client.post("/v1/blind/offer", json=offer, headers={"X-Darkbloom-Min-Trust": "self_signed"}).status_code == 200
    if serial:
        found = node.client.post("/v1/blind/offer", json=offer | {"provider_serials": ["NOBODYS", serial]})
        assert found.status_code == 200 and len(found.json()["candidates"]) == 1, found.text
    node.wait_idle()


def test_a_trust_floor_is_asked_for_by_request(node, provider):
    machine = provider(node, script={"text": "other"})
    assert text_of(ask(node, {"X-Darkbloom-Min-Trust": "self_signed"}, machine.model)).startswith("other")
    answer = ask(node, {"X-Darkbloom-Min-Trust": "hardware"}, machine.model)
    refused(answer, 503, "model_unavailable")
    answer = ask(node, {"X-Darkbloom-Min-Trust": "silicon"}, machine.model)
    refused(answer, 400, "invalid_request_error")
    assert answer.json()["error"]["param"] == "X-Darkbloom-Min-Trust"
    wait_until(lambda: node.inflight() == 0, "nothing to run")
    node.check_books()
