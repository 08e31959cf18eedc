"""The OpenAI Python SDK, unchanged, against the whole private path: it works as it does against the original."""

import json

import openai
import pytest

from harness import MODEL, PATIENCE, wait_until


def sdk(coordinator, key=None):
    return openai.OpenAI(base_url=coordinator.url + "/v1", api_key=key or coordinator.key, max_retries=0, timeout=60 * PATIENCE)


def ask(text="hello"):
    return [{"role": "user", "content": text}]


def events(response):
    """The data of every SSE event of an httpx stream."""
    return [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]


def test_whole_answer(coordinator, provider):
    node = coordinator()
    provider(node, {"text": "The answer is 42."})
    answer = sdk(node).chat.completions.create(model="scripted", messages=ask())
    assert answer.object == "chat.completion"
    assert answer.model == "scripted"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content == "The answer is 42."
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (1, 4, 5)
    rows = node.usage()
    assert [(row["model"], row["prompt_tokens"], row["completion_tokens"]) for row in rows] == [("scripted", 1, 4)]
    assert node.balance() == 10_000_000 - rows[0]["cost_micro_usd"]
    node.check_books()


def test_stream_has_role_text_finish_and_usage(coordinator, provider):
    node = coordinator()
    provider(node, {"text": "one two three four"})
    chunks = list(sdk(node).chat.completions.create(model="scripted", messages=ask(), stream=True, stream_options={"include_usage": True}))
    with_choice = [chunk for chunk in chunks if chunk.choices]
    assert len({chunk.id for chunk in chunks}) == 1
    assert {chunk.model for chunk in chunks} == {"scripted"}
    assert with_choice[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in with_choice) == "one two three four"
    assert [chunk.choices[0].finish_reason for chunk in with_choice][-1] == "stop"
    assert all(chunk.choices[0].finish_reason is None for chunk in with_choice[:-1])
    assert [chunk.usage.completion_tokens for chunk in chunks if chunk.usage] == [4]
    assert chunks[-1].usage.total_tokens == 5


def test_stream_ends_with_exactly_one_done(coordinator, provider):
    node = coordinator()
    provider(node, {"text": "one two three"})
    with node.client.stream("POST", "/v1/chat/completions", json={"model": "scripted", "messages": ask(), "stream": True}) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-cache"
        data = events(response)
    assert data[-1] == "[DONE]"
    assert data.count("[DONE]") == 1
    assert json.loads(data[-2])["usage"]["completion_tokens"] == 3


def test_token_limit_ends_the_answer_with_length(coordinator, provider):
    node = coordinator()
    provider(node, {"text": "a b c d e f g h"})
    answer = sdk(node).chat.completions.create(model="scripted", messages=ask(), max_tokens=3)
    assert answer.choices[0].message.content.split() == ["a", "b", "c"]
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 3
    newer = sdk(node).chat.completions.create(model="scripted", messages=ask(), max_completion_tokens=2)
    assert newer.usage.completion_tokens == 2


def test_a_limit_above_the_context_is_the_context(coordinator, provider):
    node = coordinator()
    provider(node, {"text": "a b c"})
    answer = sdk(node).chat.completions.create(model="scripted", messages=ask(), max_tokens=1_000_000_000)
    assert answer.choices[0].message.content == "a b c"


def test_stop_string_ends_the_answer_before_it(coordinator, provider):
    node = coordinator()
    provider(node, {"text": "red green blue yellow"})
    answer = sdk(node).chat.completions.create(model="scripted", messages=ask(), stop=["blue"])
    assert answer.choices[0].message.content.strip() == "red green"
    assert answer.choices[0].finish_reason == "stop"


def test_abort_frees_the_engine_slot_and_is_settled(coordinator, provider):
    node = coordinator()
    # One slot and an answer of minutes: a second request is answered only when the first one's slot was freed.
    provider(node, {"text": "word", "tokens": 20000, "token_delay_ms": 20, "max_concurrency": 1})
    stream = sdk(node).chat.completions.create(model="scripted", messages=ask(), stream=True)
    seen = [next(stream) for _ in range(8)]
    assert seen
    stream.close()
    wait_until(lambda: node.metrics()["darkbloom_jobs_open"] == 0, "the provider to end the aborted request")
    answer = sdk(node).chat.completions.create(model="scripted", messages=ask(), max_tokens=2)
    assert answer.usage.completion_tokens == 2
    node.check_books()
    aborted = [row for row in node.usage() if row["completion_tokens"] != 2]
    assert len(aborted) == 1, "what was generated until the abort is charged, once"
    assert 6 <= aborted[0]["completion_tokens"] < 2000


def test_abort_before_the_first_token_costs_nothing(coordinator, provider, api):
    node = coordinator()
    provider(node, {"text": "late", "first_delay_ms": 60000, "max_concurrency": 1})
    with pytest.raises(openai.APITimeoutError):
        sdk(node).with_options(timeout=0.7).chat.completions.create(model="scripted", messages=ask(), stream=True)
    wait_until(lambda: node.metrics()["darkbloom_jobs_open"] == 0, "the provider to be told")
    node.check_books()
    assert node.balance() == 10_000_000
    assert node.usage() == []


def test_commit_headers_tell_who_answered(coordinator, provider):
    node = coordinator()
    provider(node, {"text": "hi"})
    shown = node.providers()[0]
    for stream in (False, True):
        headers = node.chat("scripted", stream=stream).headers
        assert headers["x-provider-encrypted"] == "true"
        assert headers["x-provider-attested"] == "true"
        assert headers["x-provider-trust-level"] == "self_signed"
        assert headers["x-provider-id"] == shown["provider_id"]
        assert headers["x-provider-chip"] == shown["chip_name"]
        assert headers["x-provider-model"] == shown["hardware_model"]
        assert headers["x-provider-secure-enclave"] == "false"
        assert headers["x-attestation-se-public-key"] == shown["se_public_key"]
        assert "x-provider-mda-verified" not in headers
        timing = json.loads(headers["x-timing"])
        assert {"parse_us", "reserve_us", "dispatch_us", "queue_us", "provider_us"} <= set(timing)
        assert all(isinstance(value, int) and value >= 0 for value in timing.values())
        assert headers["x-request-id"]
    assert node.chat("scripted", stream=True).headers["x-inference-job-id"]
    mine = node.client.post("/v1/chat/completions", json={"model": "scripted", "messages": ask()}, headers={"X-Request-ID": "mine-7"})
    assert mine.headers["x-request-id"] == "mine-7"


def test_models_are_listed_as_the_sdk_expects(coordinator, provider):
    node = coordinator()
    provider(node, {"text": "hi"}, model="acme/tiny-4bit")
    listed = list(sdk(node).models.list())
    assert [model.id for model in listed] == ["acme/tiny-4bit"]
    assert listed[0].object == "model"
    assert sdk(node).models.retrieve("acme/tiny-4bit").id == "acme/tiny-4bit"
    with pytest.raises(openai.NotFoundError) as refused:
        sdk(node).models.retrieve("acme/none")
    assert refused.value.code == "model_not_found"
    assert refused.value.param == "model"


# --- errors ---


def test_wrong_key_is_401(coordinator):
    node = coordinator()
    for key in ("sk-db-" + "0" * 48, "wrong", "eyJhbGciOiJFUzI1NiJ9.e30.x"):
        with pytest.raises(openai.AuthenticationError) as refused:
            sdk(node, key).chat.completions.create(model="scripted", messages=ask())
        assert refused.value.status_code == 401
        assert refused.value.type == "authentication_error"
        assert key not in node.log()


def test_missing_key_is_401(coordinator, api):
    node = coordinator()
    for headers in ({"Authorization": ""}, {"Authorization": "Basic abc"}, {"Authorization": "", "x-api-key": node.key}):
        refused = api(node).post("/v1/chat/completions", json={"model": "m", "messages": ask()}, headers=headers)
        assert refused.status_code == 401
        assert refused.json()["error"]["type"] == "authentication_error"


def test_empty_balance_is_402(coordinator, provider):
    node = coordinator({"accounts": {"first_grant_usd": "0"}})
    provider(node, {"text": "hi"})
    for stream in (False, True):
        with pytest.raises(openai.APIStatusError) as refused:
            sdk(node).chat.completions.create(model="scripted", messages=ask(), stream=stream)
        assert refused.value.status_code == 402
        assert refused.value.type == "insufficient_funds"
        assert refused.value.code == "insufficient_quota"
    assert node.metrics()["darkbloom_jobs_total"] == 0, "nothing was sent to a provider"
    node.check_books()


def test_unknown_model_is_404(coordinator, provider):
    node = coordinator()
    provider(node, {"text": "hi"})
    with pytest.raises(openai.NotFoundError) as refused:
        sdk(node).chat.completions.create(model="no-such-model", messages=ask())
    assert refused.value.code == "model_not_found"
    assert refused.value.param == "model"
    node.check_books()
    assert node.balance() == 10_000_000


def test_too_large_body_is_413(coordinator, provider, api):
    node = coordinator()
    provider(node, {"text": "hi"})
    refused = api(node).post("/v1/chat/completions", json={"model": "scripted", "messages": ask("x" * (17 << 20))})
    assert refused.status_code == 413
    assert refused.json()["error"]["type"] == "invalid_request_error"

    def unsized():
        yield b'{"model":"scripted","messages":[{"role":"user","content":"'
        for _ in range(17):
            yield b"x" * (1 << 20)
        yield b'"}]}'
    refused = api(node).post("/v1/chat/completions", content=unsized(), headers={"Content-Type": "application/json"})
    assert refused.status_code == 413
    assert node.chat("scripted").status_code == 200


def test_body_just_below_the_limit_is_answered(coordinator, provider):
    node = coordinator()
    provider(node, {"text": "hi"})
    assert node.chat("scripted", metadata={"note": "x" * (15 << 20)}).status_code == 200


def test_prompt_larger_than_every_context_is_refused(coordinator, provider):
    node = coordinator({"accounts": {"first_grant_usd": "100"}})
    provider(node, {"text": "hi"})
    refused = node.chat("scripted", "word " * ((15 << 20) // 5))
    assert refused.status_code == 503
    assert refused.json()["error"]["type"] == "model_unavailable"
    node.check_books()
    assert node.balance() == 100_000_000


@pytest.mark.parametrize("body", ["{", "", "null", "[]", '{"model":"scripted","messages":[', '{"model":"scripted"} trailing', '"text"', "\xff\xfe",
                                  '{"model":"scripted","messages":[{"role":"user","content":"\ud800"}]}', "[" * 100000])
def test_malformed_json_is_400(coordinator, body):
    node = coordinator()
    refused = node.client.post("/v1/chat/completions", content=body.encode("utf-8", "surrogatepass"), headers={"Content-Type": "application/json"})
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert error["type"] == error["code"] == "invalid_request_error"
    assert error["message"]
    assert node.balance() == 10_000_000


@pytest.mark.parametrize("change, param", [({"n": 9}, "n"), ({"model": None}, "model"), ({"model": ""}, "model"), ({"model": 7}, "model"),
                                           ({"messages": None}, None), ({"messages": []}, None), ({"messages": "hello"}, None)])
def test_bad_field_is_400_and_named(coordinator, change, param):
    node = coordinator()
    body = {key: value for key, value in ({"model": "scripted", "messages": ask()} | change).items() if value is not None}
    refused = node.client.post("/v1/chat/completions", json=body)
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert error["type"] == "invalid_request_error"
    if param:
        assert error["param"] == param


def test_unknown_routes_are_json_below_v1_and_text_elsewhere(coordinator):
    node = coordinator()
    for method, path in (("GET", "/v1/nothing"), ("GET", "/v1/chat/completions"), ("PATCH", "/v1/models")):
        refused = node.client.request(method, path)
        assert refused.status_code == 404
        assert refused.json()["error"]["type"] == "invalid_request_error"
    assert node.client.get("/nothing").status_code == 404
    assert node.client.post("/health").status_code == 405
    assert node.client.get("/nothing").headers["content-type"].startswith("text/plain")


# --- the real model ---


def test_real_model_answers(coordinator, provider):
    node = coordinator()
    provider(node)
    answer = sdk(node).chat.completions.create(model=MODEL, messages=ask("Please tell me the capital of France."), temperature=0, max_tokens=40)
    assert "Paris" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.prompt_tokens > 10
    assert 2 <= answer.usage.completion_tokens <= 40
    node.check_books()


def test_real_model_streams_what_it_says_whole(coordinator, provider):
    node = coordinator()
    provider(node)
    request = {"model": MODEL, "messages": ask("Count from one to five."), "temperature": 0, "seed": 7, "max_tokens": 24}
    whole = sdk(node).chat.completions.create(**request)
    chunks = list(sdk(node).chat.completions.create(**request, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    assert len(chunks) > 10, "it comes in pieces"


@pytest.mark.slow
def test_real_model_stops_when_the_consumer_leaves(coordinator, provider):
    node = coordinator()
    serving = provider(node)
    stream = sdk(node).chat.completions.create(model=MODEL, messages=ask("Write a very long story about a dragon."), max_tokens=2000, stream=True,
                                               temperature=0.8, extra_body={"ignore_eos": True})
    for _ in range(4):
        next(stream)
    stream.close()
    wait_until(lambda: node.metrics()["darkbloom_jobs_open"] == 0, "the engine to stop")
    wait_until(lambda: serving.status()["requests_active"] == 0, "the provider to report it")
    assert serving.status()["tokens_generated"] < 500
    node.check_books()
