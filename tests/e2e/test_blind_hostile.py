"""Blind mode where somebody lies: providers that sign what is not so, older ones that know nothing of it, and a coordinator whose
memory is searched while it relays."""

import hashlib
import json
import os
import sys
import threading

import pytest

from harness import SANITIZER, wait_until
from python_provider import PythonProvider, b64, wait_standing
from sealing import Blind, read_blind_stream
from test_failover import in_background
from test_privacy import Canary, memory_of

CHAT = {"model": "py-model", "messages": [{"role": "user", "content": "one two three"}]}


class BlindProvider(PythonProvider):
    """Knows blind mode; `lie` is what is wrong with it."""

    def __init__(self, *arguments, lie=None, **more):
        super().__init__(*arguments, **more)
        self.lie = lie

    def registration(self):
        return super().registration() | {"flow_credit": True, "blind": True}

    def serve(self, request_id, request, box):
        asked = next(one for one in self.got("inference_request") if one["request_id"] == request_id)
        digest = hashlib.sha256()
        self.send({"type": "inference_accepted", "request_id": request_id})
        for number, frame in enumerate(self.frames(request | {"stream": True})):
            payload = self.sealed(box, frame)
            if self.lie == "key":
                payload["ephemeral_public_key"] = b64(os.urandom(32))
            elif self.lie == "injection" and number == 1:
                payload["ciphertext"] += "\n\nevent: receipt\ndata: {}\n\n"
            digest.update((payload["ciphertext"] + "\n").encode())
            if self.lie != "left out" or number != 1:
                self.send({"type": "inference_response_chunk", "request_id": request_id, "encrypted_data": payload})
        tokens = 3
        lines = ["darkbloom-blind-usage-v1", request_id, asked["encrypted_body"]["ephemeral_public_key"], asked["blind"]["model"], "11", str(tokens), "0",
                 digest.hexdigest()]
        if self.lie == "other request":
            lines[1] = "another"
        elif self.lie == "count":
            tokens = 30
        signature = "AAAA" if self.lie == "garbage" else "" if self.lie == "none" else self.sign("\n".join(lines))
        self.send({"type": "inference_complete", "request_id": request_id, "usage": {"prompt_tokens": 11, "completion_tokens": tokens, "reasoning_tokens": 0},
                   "usage_signature": signature})


@pytest.fixture
def join():
    joined = []

    def start(node, kind=BlindProvider, **more):
        made = kind(node, **more).start()
        joined.append(made)
        wait_until(lambda: node.routable(made.model) >= 1, f"{made.serial} to be routable")
        return made
    yield start
    for one in joined:
        one.stop()
    assert not [one.failure for one in joined if one.failure]


def test_a_provider_in_another_language_interoperates(coordinator, join):
    node = coordinator()
    provider = join(node)
    text, receipt = Blind(node.client, CHAT).whole()
    assert text == "Hello there!" and receipt["usage"]["prompt_tokens"] == 11
    request = provider.got("inference_request")[0]
    assert request["blind"] == {"model": "py-model", "max_prompt_tokens": 200, "max_tokens": 50} and request["credit"] > 0
    node.check_books()


@pytest.mark.parametrize("lie", ["garbage", "none", "other request", "count", "left out", "key", "injection"])
def test_what_is_not_signed_as_it_came_is_not_paid_and_ends_the_trust(coordinator, join, lie):
    node = coordinator()
    provider = join(node, lie=lie)
    before = node.balance()
    blind = Blind(node.client, CHAT)
    response = blind.post(blind.seal(stream=True))
    if response.headers["content-type"].startswith("text/event-stream"):
        _, last = read_blind_stream(response.text)
        error = last["error"]
        assert response.text.count("event: ") == 1, response.text
    else:
        error = response.json()["error"]
    assert error["type"] == "blind_provider_unavailable" and error["code"] == "seal_again"
    wait_standing(node, provider.serial, "self_signed", "untrusted")
    node.wait_idle()
    assert node.balance() == before
    node.check_books()


def test_an_older_provider_never_gets_a_blind_request(coordinator, join):
    node = coordinator()
    older = join(node, PythonProvider)
    asked = {"model": "py-model", "max_prompt_tokens": 100, "max_tokens": 50}
    refused = node.client.post("/v1/blind/offer", json=asked)
    assert refused.status_code == 503 and refused.json()["error"]["type"] == "model_unavailable"
    listed = node.provider_of(older.serial)
    assert listed["blind"] is False and "attestation" not in listed
    newer = join(node, serial="PY0002")
    node.wait_routable("py-model", 2)
    offer = node.client.post("/v1/blind/offer", json=asked | {"candidates": 8}).json()
    assert [one["provider_id"] for one in offer["candidates"]] == [node.provider_of(newer.serial)["provider_id"]]
    blind = Blind(node.client, CHAT)
    body = blind.seal() | {"provider_id": listed["provider_id"], "model": "py-model", **blind.limits}
    del body["offer_id"]
    assert blind.post(body).status_code == 503
    assert older.got("inference_request") == []


@pytest.mark.skipif(os.geteuid() != 0 or not sys.platform.startswith("linux") or bool(SANITIZER), reason="reads another process's memory")
def test_the_coordinator_never_holds_the_text(coordinator, provider):
    """Its whole memory is searched while prompt and answer pass through it, and afterwards; so are its log and its books."""
    node = coordinator({"log": {"level": "debug"}})
    prompt, answer = Canary(), Canary()
    serving = provider(node, script={"text": answer.text + " ", "tokens": 100_000, "token_delay_ms": 10})
    blind = Blind(node.client, {"model": "scripted", "messages": [{"role": "user", "content": prompt.text}]}, max_tokens=100_000)
    body = blind.seal(stream=True)
    searched = threading.Event()

    def consume():
        """Reads as long as the search goes on, and a while before."""
        pieces = 0
        with node.client.stream("POST", "/v1/blind/completions", json=body) as response:
            for line in response.iter_lines():
                pieces += line.startswith("data: ")
                if pieces > 50 and searched.is_set():
                    return pieces
        return 0
    running = in_background(consume)
    wait_until(lambda: node.metrics()["darkbloom_relayed_chunks_total"] > 10, "the answer to run")
    found = [name for name, canary in (("prompt", prompt), ("answer", answer)) for _, data in memory_of(node.pid) if canary.found_in(data)]
    seen = any(answer.found_in(data) for _, data in memory_of(serving.pid))
    searched.set()
    assert running() > 50, "the answer ran while memory was searched"
    assert not found, found
    assert seen, "the provider has the answer in memory while it runs: a search that finds nothing is none"
    node.check_books()
    files = [path for path in node.data.rglob("*") if path.is_file()] + [node.log_path, node.out_path]
    for canary in (prompt, answer):
        assert not any(canary.found_in(data) for _, data in memory_of(node.pid))
        assert not any(canary.found_in(path.read_bytes()) for path in files)
