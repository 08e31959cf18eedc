"""The sealed transport (http-api 3) against an independent client, on every inference route."""

import base64
import datetime
import json
import os
import time

import pytest

from harness import wait_until
from sealing import MNEMONIC, OLD_MNEMONIC, SEALED_TYPE, Sealer, b64, kid_of, post, timed_nonce

CHAT = {"model": "scripted", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 50}
# Every inference route: a body for it, and what a whole answer, a stream and a refusal of it look like.
ROUTES = {
    "/v1/chat/completions": (CHAT, lambda answer: answer["object"] == "chat.completion", "data: [DONE]"),
    "/v1/completions": ({"model": "scripted", "prompt": "hello", "max_tokens": 50}, lambda answer: answer["object"] == "text_completion", "data: [DONE]"),
    "/v1/responses": ({"model": "scripted", "input": "hello", "max_output_tokens": 50}, lambda answer: answer["object"] == "response",
                      "event: response.completed"),
    "/v1/messages": (CHAT, lambda answer: answer["type"] == "message", "event: message_stop"),
}


@pytest.fixture
def sealed(coordinator, provider):
    """A coordinator with a key and a provider; returns (coordinator, public key)."""
    house = coordinator(MNEMONIC=MNEMONIC)
    provider(house, script={"text": "a scripted answer of several words"})
    return house, house.get("/v1/encryption-key")["public_key"]


def test_the_key_is_published_with_its_id(coordinator):
    house = coordinator(MNEMONIC=MNEMONIC)
    key = house.get("/v1/encryption-key")
    assert key["algorithm"] == "x25519-nacl-box" and "previous" not in key
    assert key["kid"] == kid_of(base64.b64decode(key["public_key"]))


def test_without_a_key_an_envelope_is_refused_and_the_clear_path_works(coordinator, provider):
    house = coordinator()
    provider(house, script={"text": "hi"})
    assert house.client.get("/v1/encryption-key").status_code == 503
    response = post(house.client, "/v1/chat/completions", Sealer(b64(bytes(range(32)))).envelope(CHAT))
    assert response.status_code == 503 and response.json()["error"]["type"] == "encryption_unavailable"
    assert house.chat("scripted").status_code == 200


@pytest.mark.parametrize("path", ROUTES)
def test_every_route_answers_whole_stream_and_error_sealed(sealed, path):
    house, key = sealed
    body, is_answer, last = ROUTES[path]
    sealer = Sealer(key)
    whole = post(house.client, path, sealer.envelope(body))
    assert whole.status_code == 200 and "scripted answer" not in whole.text
    assert is_answer(sealer.answer(whole)) and "scripted answer" in json.dumps(sealer.answer(whole))

    sealer = Sealer(key)
    stream = post(house.client, path, sealer.envelope(body | {"stream": True}))
    assert stream.status_code == 200 and "scripted" not in stream.text
    pieces = sealer.events(stream)
    assert pieces[-1].startswith(last)
    clear = house.client.post(path, json=body | {"stream": True})
    assert len(pieces) == len(clear.text.rstrip("\n").split("\n\n"))

    sealer = Sealer(key)
    refused = post(house.client, path, sealer.envelope(body | {"model": "no-such-model"}))
    expected = house.client.post(path, json=body | {"model": "no-such-model"})
    assert refused.status_code == expected.status_code >= 400
    assert sealer.answer(refused).keys() == expected.json().keys() and sealer.answer(refused)["error"] == expected.json()["error"]

    sealer = Sealer(key)
    garbled = post(house.client, path, sealer.envelope(b"not json at all"))
    assert garbled.status_code == 400 and sealer.answer(garbled)["error"]["type"] == "invalid_request_error"


def test_the_content_type_may_differ_in_case_and_parameters(sealed):
    house, key = sealed
    for content_type in ("Application/EigenInference-SEALED+JSON", SEALED_TYPE + "; charset=utf-8", SEALED_TYPE + ";;broken=\""):
        sealer = Sealer(key)
        assert sealer.answer(post(house.client, "/v1/chat/completions", sealer.envelope(CHAT), content_type))["object"] == "chat.completion"


def test_large_bodies_are_opened_too(sealed):
    house, key = sealed
    sealer = Sealer(key)
    response = post(house.client, "/v1/chat/completions", sealer.envelope(CHAT | {"metadata": {"padding": "x" * 3_000_000}}))
    assert response.status_code == 200, response.text[:300]
    assert sealer.answer(response)["object"] == "chat.completion"
    too_large = house.client.post("/v1/chat/completions", content=b"{" + b" " * (17 << 20), headers={"content-type": SEALED_TYPE})
    assert too_large.status_code == 400 and too_large.json()["error"]["type"] == "invalid_request_error"


def tampered(envelope, field, at):
    data = bytearray(base64.b64decode(envelope[field]))
    data[at] ^= 1
    return envelope | {field: b64(bytes(data))}


def test_what_was_changed_on_the_way_is_refused_in_the_clear(sealed):
    house, key = sealed
    good = Sealer(key).envelope(CHAT)
    without_kid = {name: value for name, value in Sealer(key).envelope(CHAT).items() if name != "kid"}
    assert post(house.client, "/v1/chat/completions", without_kid).status_code == 200
    wrong = {
        "kid_mismatch": [good | {"kid": "0123456789abcdef"}],
        "decryption_failed": [tampered(good, "ciphertext", at) for at in (0, 12, 23, 24, 39, 40, -1)] + [
            tampered(good, "ephemeral_public_key", 3), good | {"ciphertext": b64(os.urandom(24))}, good | {"ephemeral_public_key": b64(bytes(32))}],
        "invalid_sealed_envelope": [
            good | {"ciphertext": "%%%"}, good | {"ciphertext": b64(b"short")}, good | {"ciphertext": 5}, good | {"ephemeral_public_key": b64(b"x" * 31)},
            good | {"ephemeral_public_key": None}, {"kid": good["kid"]}, good | {"kid": 7}, [], "text"],
    }
    for kind, envelopes in wrong.items():
        for envelope in envelopes:
            response = post(house.client, "/v1/chat/completions", envelope)
            assert response.status_code == 400, (kind, envelope)
            assert response.json()["error"]["type"] == kind, (response.json(), envelope)
            assert "x-eigen-sealed" not in response.headers
    assert post(house.client, "/v1/chat/completions", good).status_code == 200
    house.check_books()


def test_an_envelope_is_taken_once(sealed):
    house, key = sealed
    for nonce in (None, os.urandom(24)):  # with the time in it, and of an older client
        sealer = Sealer(key)
        envelope = sealer.envelope(CHAT, nonce)
        assert post(house.client, "/v1/chat/completions", envelope).status_code == 200
        before = house.balance()
        # the same again, under another name of the same key, and without the key's id
        other_name = tampered(envelope, "ephemeral_public_key", 31)
        other_name["ephemeral_public_key"] = b64(sealer.public[:31] + bytes([sealer.public[31] ^ 0x80]))
        for replay in (envelope, other_name, envelope | {"kid": ""}):
            refused = post(house.client, "/v1/chat/completions", replay)
            assert refused.status_code == 400 and refused.json()["error"]["type"] == "replayed_envelope", refused.text
        assert house.balance() == before


def test_the_time_in_an_envelope_must_be_about_now(sealed):
    house, key = sealed
    for at in (time.time() - 400, time.time() + 400):
        refused = post(house.client, "/v1/chat/completions", Sealer(key).envelope(CHAT, timed_nonce(at)))
        assert refused.status_code == 400 and refused.json()["error"]["type"] == "stale_envelope"


def test_a_restart_forgets_no_envelope_that_tells_its_time(coordinator, provider):
    house = coordinator(MNEMONIC=MNEMONIC)
    provider(house, script={"text": "hi"})
    sealer = Sealer(house.get("/v1/encryption-key")["public_key"])
    envelope = sealer.envelope(CHAT)
    assert post(house.client, "/v1/chat/completions", envelope).status_code == 200
    house.restart()
    house.wait_routable("scripted")
    assert post(house.client, "/v1/chat/completions", envelope).json()["error"]["type"] == "stale_envelope"


def test_times_can_be_required(coordinator):
    house = coordinator({"sealed": {"require_time": True}}, MNEMONIC=MNEMONIC)
    key = house.get("/v1/encryption-key")["public_key"]
    refused = post(house.client, "/v1/chat/completions", Sealer(key).envelope(CHAT, os.urandom(24)))
    assert refused.json()["error"]["type"] == "stale_envelope"
    sealer = Sealer(key)  # one with a time gets as far as having no provider
    assert sealer.answer(post(house.client, "/v1/chat/completions", sealer.envelope(CHAT)))["error"]["type"] != "stale_envelope"


def test_the_key_before_is_good_until_it_expires(coordinator, provider):
    house = coordinator(MNEMONIC=OLD_MNEMONIC)
    old = house.get("/v1/encryption-key")
    house.terminate()
    house.environment_more = {"MNEMONIC": MNEMONIC, "MNEMONIC_PREVIOUS": OLD_MNEMONIC}
    house.configure({"sealed": {"previous_until": "2999-01-01T00:00:00Z"}})
    house.start()
    provider(house, script={"text": "hi"})
    new = house.get("/v1/encryption-key")
    assert new["kid"] != old["kid"]
    expires = int(datetime.datetime(2999, 1, 1, tzinfo=datetime.timezone.utc).timestamp())
    assert new["previous"] == [old | {"expires_at": expires}]
    for key in (old, new):
        for kid in (key["kid"], ""):
            sealer = Sealer(key["public_key"])
            response = post(house.client, "/v1/chat/completions", sealer.envelope(CHAT, kid=kid))
            assert response.headers["x-eigen-sealed-kid"] == key["kid"]
            assert sealer.answer(response)["object"] == "chat.completion"
    house.configure({"sealed": {"previous_until": "2020-01-01T00:00:00Z"}})
    house.restart()
    assert "previous" not in house.get("/v1/encryption-key")
    sealer = Sealer(old["public_key"])
    assert post(house.client, "/v1/chat/completions", sealer.envelope(CHAT)).json()["error"]["type"] == "kid_mismatch"
    assert post(house.client, "/v1/chat/completions", sealer.envelope(CHAT, kid="")).json()["error"]["type"] == "decryption_failed"


def test_what_comes_before_the_envelope_is_said_in_the_clear(sealed, api):
    house, key = sealed
    stranger = api(house, key="sk-db-" + "0" * 64)
    response = post(stranger, "/v1/chat/completions", Sealer(key).envelope(CHAT))
    assert response.status_code == 401 and "x-eigen-sealed" not in response.headers
    assert response.json()["error"]["type"] == "authentication_error"


def test_a_consumer_that_leaves_a_sealed_stream_leaves_nothing_behind(coordinator, provider):
    house = coordinator(MNEMONIC=MNEMONIC)
    provider(house, script={"text": "word " * 2000, "tokens": 2000, "token_delay_ms": 5})
    sealer = Sealer(house.get("/v1/encryption-key")["public_key"])
    with house.client.stream("POST", "/v1/chat/completions", content=json.dumps(sealer.envelope(CHAT | {"stream": True, "max_tokens": 2000})),
                             headers={"content-type": SEALED_TYPE}) as response:
        assert response.status_code == 200
        next(response.iter_bytes())
    wait_until(lambda: house.inflight() == 0, "the request to end")
    house.check_books()
