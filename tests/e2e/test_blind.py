"""Blind mode against an independent client: the coordinator routes and bills a text that it cannot open."""

import base64
import json
import os
import time

import pytest

from harness import wait_until
from sealing import Blind, Sealer, b64, read_blind_stream, timed_nonce

CHAT = {"model": "scripted", "messages": [{"role": "user", "content": "one two three"}]}
SCRIPT = {"text": "a scripted answer of several words"}


@pytest.fixture
def house(coordinator, provider):
    made = coordinator()
    provider(made, script=SCRIPT)
    return made


def test_whole_and_streamed_answers_open_and_are_signed(house):
    before = house.balance()
    text, receipt = Blind(house.client, CHAT).whole()
    assert text == "a scripted answer of several words"
    assert receipt["usage"] == {"prompt_tokens": 3, "completion_tokens": 6, "reasoning_tokens": 0}
    assert before - house.balance() == receipt["cost_micro_usd"] == 100
    text, receipt, response = Blind(house.client, CHAT).stream()
    assert response.status_code == 200 and text == "a scripted answer of several words" and "answer of" not in response.text
    assert response.headers["x-inference-job-id"] == receipt["request_id"] and response.headers["x-provider-blind"] == "true"
    assert {len(base64.b64decode(chunk)) - 40 for chunk in read_blind_stream(response.text)[0]} <= {256, 512}
    house.wait_idle()
    assert house.usage()[0]["completion_tokens"] == 6
    house.check_books()


def test_a_provider_may_be_chosen_from_the_list_without_an_offer(house):
    listed = [one for one in house.providers() if one["blind"]]
    blind = Blind(house.client, CHAT)
    body = blind.seal(listed[0])
    del body["offer_id"]
    response = blind.post(body | {"model": "scripted", **blind.limits})
    answer = response.json()
    assert blind.text(blind.open_all(answer["chunks"], answer["receipt"])) == "a scripted answer of several words"
    for missing in ("model", "max_tokens", "max_prompt_tokens"):
        refused = blind.post({name: value for name, value in (body | {"model": "scripted", **blind.limits}).items() if name != missing})
        assert refused.status_code == 400 and refused.json()["error"]["param"] == missing


def test_a_provider_holds_a_body_to_what_was_declared(house):
    before = house.balance()
    for inside in ({"max_tokens": 51}, {"n": 2}, {"model": "other"}, {"blind": {"max_prompt_tokens": 200, "max_tokens": 60}},
                   {"blind": {"max_prompt_tokens": 300, "max_tokens": 50}}, {"blind": None}, {"messages": []}):
        blind = Blind(house.client, CHAT)
        refused = blind.post(blind.seal(inside=inside))
        assert refused.status_code == 400, (inside, refused.text)
        assert refused.json()["error"]["type"] == "invalid_request_error"
    blind = Blind(house.client, CHAT, max_prompt_tokens=2, prompt_tokens=1)  # the prompt has three
    refused = blind.post(blind.seal())
    assert refused.status_code == 413 and "declared" in refused.text
    text, receipt = Blind(house.client, CHAT, max_tokens=2).whole()
    assert text == "a scripted " and receipt["usage"]["completion_tokens"] == 2
    house.wait_idle()
    assert before - house.balance() == 100
    house.check_books()


def test_what_was_changed_on_the_way_is_refused(house):
    def bent(body, field, at):
        data = bytearray(base64.b64decode(body[field]))
        data[at] ^= 1
        return body | {field: b64(bytes(data))}
    before = house.balance()
    blind = Blind(house.client, CHAT)
    body = blind.seal()
    for wrong in (bent(body, "ciphertext", 3), bent(body, "ciphertext", 30), bent(body, "ciphertext", -1), bent(body, "ephemeral_public_key", 5)):
        assert blind.post(wrong).status_code == 400
    for wrong, param in (({"ephemeral_public_key": "x"}, "ephemeral_public_key"), ({"ciphertext": ""}, "ciphertext"), ({"provider_id": ""}, "provider_id"),
                         ({"provider_id": "another"}, "provider_id"), ({"stream": "yes"}, "stream"), ({"offer_id": 5}, "offer_id")):
        refused = blind.post(body | wrong)
        assert refused.status_code == 400 and refused.json()["error"]["param"] == param, refused.text
    assert blind.post(body | {"offer_id": "blind_of_somebody_else"}).status_code == 404
    house.wait_idle()
    assert house.balance() == before
    assert blind.post(body).status_code == 200  # as it was, it is good


def test_a_sealed_body_runs_once_and_while_it_is_fresh(house):
    blind = Blind(house.client, CHAT)
    body = blind.seal()
    assert blind.post(body).status_code == 200
    for wrong in (body, blind.seal(nonce=timed_nonce(time.time() - 700)), blind.seal(nonce=timed_nonce(time.time() + 700)), blind.seal(nonce=os.urandom(24))):
        refused = blind.post(wrong)
        assert refused.status_code == 400 and "fresh" in refused.text
    house.check_books()


def test_an_offer_says_what_it_needs_and_is_its_accounts_own(house, api):
    wrong = ({"model": ""}, {"max_tokens": 0}, {"max_prompt_tokens": -1}, {"max_tokens": 1.5}, {"prompt_tokens": 500}, {"candidates": 9})
    good = {"model": "scripted", "max_prompt_tokens": 200, "max_tokens": 50}
    for change in wrong:
        refused = house.client.post("/v1/blind/offer", json=good | change)
        assert refused.status_code == 400 and refused.json()["error"]["param"] == next(iter(change)), refused.text
    assert house.client.post("/v1/blind/offer", content=b"[1]").status_code == 400
    unknown = house.client.post("/v1/blind/offer", json=good | {"model": "unknown"})
    assert unknown.status_code == 404 and unknown.json()["error"]["code"] == "model_not_found"
    assert api(house, key="sk-db-" + "0" * 64).post("/v1/blind/offer", json=good).status_code == 401
    offer = house.client.post("/v1/blind/offer", json=good).json()
    assert offer["object"] == "blind.offer" and offer["expires_at"] > time.time()
    assert offer["candidates"][0]["max_cost_micro_usd"] >= 100


def test_without_enough_credit_nothing_is_sent(coordinator, provider):
    house = coordinator({"accounts": {"first_grant_usd": "0.01"}})
    provider(house, script=SCRIPT)
    blind = Blind(house.client, CHAT, max_tokens=1_000_000)
    refused = blind.post(blind.seal())
    assert refused.status_code == 402 and refused.json()["error"]["type"] == "insufficient_funds"
    house.check_books()


def test_a_provider_that_dies_mid_stream_costs_nothing(coordinator, provider):
    house = coordinator()
    one = provider(house, script={"text": "word", "tokens": 5000, "token_delay_ms": 5})
    before = house.balance()
    blind = Blind(house.client, CHAT, max_tokens=6000)
    with house.client.stream("POST", "/v1/blind/completions", json=blind.seal(stream=True)) as response:
        lines = response.iter_lines()
        while not next(lines).startswith("data: "):
            pass
        one.kill()
        rest = "\n".join(lines)
    error = json.loads(rest[rest.index("event: error\ndata: ") + len("event: error\ndata: "):])["error"]
    assert error["type"] == "blind_provider_unavailable" and error["code"] == "seal_again"
    house.wait_idle()
    assert house.balance() == before
    house.check_books()


def test_a_consumer_that_leaves_pays_what_the_provider_signed(coordinator, provider):
    house = coordinator()
    provider(house, script={"text": "word", "tokens": 5000, "token_delay_ms": 5})
    blind = Blind(house.client, CHAT, max_tokens=6000)
    with house.client.stream("POST", "/v1/blind/completions", json=blind.seal(stream=True)) as response:
        lines = response.iter_lines()
        while not next(lines).startswith("data: "):
            pass
        job = response.headers["x-inference-job-id"]
    house.wait_idle()
    billed = house.billed(job)
    assert billed and 1 <= billed["completion_tokens"] < 5000, billed
    house.check_books()


def test_a_busy_provider_is_waited_for(coordinator, provider):
    house = coordinator()
    provider(house, script={"text": "word", "tokens": 40, "token_delay_ms": 10, "max_concurrency": 1})
    first, second = Blind(house.client, CHAT), Blind(house.client, CHAT)
    with house.client.stream("POST", "/v1/blind/completions", json=first.seal(stream=True)) as response:
        lines = response.iter_lines()
        while not next(lines).startswith("data: "):
            pass
        text, _, _ = second.stream()
        assert text.count("word") == 40
        for _ in lines:
            pass
    house.check_books()


def test_a_gone_provider_is_said_and_nothing_is_charged(house, programs):
    blind = Blind(house.client, CHAT)
    body = blind.seal()
    programs[-1].terminate()
    wait_until(lambda: not house.providers(), "the provider to leave")
    refused = blind.post(body)
    assert refused.status_code == 503 and refused.json()["error"]["code"] == "seal_again" and "retry-after" in refused.headers
    house.check_books()


def test_a_sealed_body_sent_as_an_ordinary_one_is_not_opened(coordinator, provider):
    """The coordinator's own key opens nothing that was sealed to a provider."""
    from sealing import MNEMONIC, post
    house = coordinator(MNEMONIC=MNEMONIC)
    provider(house, script=SCRIPT)
    blind = Blind(house.client, CHAT)
    body = blind.seal()
    refused = post(house.client, "/v1/chat/completions", {"ephemeral_public_key": body["ephemeral_public_key"], "ciphertext": body["ciphertext"]})
    assert refused.json()["error"]["type"] == "decryption_failed"


def test_blind_mode_inside_the_sealed_transport(coordinator, provider):
    from sealing import MNEMONIC, post
    house = coordinator(MNEMONIC=MNEMONIC)
    provider(house, script=SCRIPT)
    blind = Blind(house.client, CHAT)
    outer = Sealer(house.get("/v1/encryption-key")["public_key"])
    answer = outer.answer(post(house.client, "/v1/blind/completions", outer.envelope(blind.seal())))
    assert blind.text(blind.open_all(answer["chunks"], answer["receipt"])) == "a scripted answer of several words"
