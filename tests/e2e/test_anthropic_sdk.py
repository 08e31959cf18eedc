"""The Anthropic Python SDK, unchanged, against the whole private path: it works as it does against the original."""

import anthropic
import httpx
import pytest

from harness import MODEL, PATIENCE, wait_until


@pytest.fixture(scope="module")
def node(house):
    made = house.coordinator()
    house.provider("plain", {"text": "one two three STOP four five"})
    house.provider("slow", {"text": "word", "tokens": 20000, "token_delay_ms": 20, "max_concurrency": 1})
    house.provider("failing", {"fail_status": 500, "fail_text": "internal error"})
    house.provider("breaking", {"text": "one two three four", "fail_status": 500, "fail_after_tokens": 2, "fail_text": "internal error"})
    return made


def sdk(node, **options):
    return anthropic.Anthropic(base_url=node.url, api_key=node.key, max_retries=0, timeout=60 * PATIENCE, **options)


def ask(text="hello"):
    return [{"role": "user", "content": text}]


def post(node, body, headers=None):
    return httpx.post(node.url + "/v1/messages", json=body, timeout=60 * PATIENCE,
                      headers={"x-api-key": node.key, "anthropic-version": "2023-06-01"} if headers is None else headers)


def test_whole_message(node):
    before = node.balance()
    message = sdk(node).messages.create(model="plain", max_tokens=100, messages=ask("hello there"))
    assert message.id.startswith("msg_")
    assert (message.type, message.role, message.model) == ("message", "assistant", "plain")
    assert [(block.type, block.text) for block in message.content] == [("text", "one two three STOP four five")]
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    assert (message.usage.input_tokens, message.usage.output_tokens) == (2, 6)
    assert message.usage.cache_read_input_tokens == 0
    assert message._request_id, "the request-id header is read by the SDK"
    assert node.balance() < before


def test_stream_tells_every_event_in_order(node):
    with sdk(node).messages.create(model="plain", max_tokens=100, messages=ask(), stream=True) as stream:
        events = list(stream)
    kinds = [event.type for event in events]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert set(kinds[2:-3]) == {"content_block_delta"}
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert events[0].message.content == []
    assert events[0].message.stop_reason is None
    assert "".join(event.delta.text for event in events if event.type == "content_block_delta") == "one two three STOP four five"
    assert events[-2].delta.stop_reason == "end_turn"
    assert (events[-2].usage.input_tokens, events[-2].usage.output_tokens) == (1, 6)


def test_raw_stream_names_its_events_and_pings(node):
    response = post(node, {"model": "plain", "max_tokens": 2, "messages": ask(), "stream": True})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    names = [line.removeprefix("event: ") for line in response.text.splitlines() if line.startswith("event: ")]
    assert names == ["message_start", "ping", "content_block_start", "content_block_delta", "content_block_delta", "content_block_stop",
                     "message_delta", "message_stop"]
    assert "[DONE]" not in response.text
    for name in ("x-inference-job-id", "x-provider-encrypted", "x-provider-trust-level", "x-timing", "x-request-id", "request-id"):
        assert name in response.headers
    assert response.headers["request-id"] == response.headers["x-request-id"]


def test_stream_helper_puts_the_message_together(node):
    with sdk(node).messages.stream(model="plain", max_tokens=100, messages=ask()) as stream:
        text = "".join(stream.text_stream)
        message = stream.get_final_message()
    assert text == message.content[0].text == "one two three STOP four five"
    assert message.usage.output_tokens == 6


def test_stop_sequence_is_named(node):
    for stream in (False, True):
        body = {"model": "plain", "max_tokens": 100, "messages": ask(), "stop_sequences": ["never", "STOP"]}
        if stream:
            with sdk(node).messages.stream(**body) as events:
                message = events.get_final_message()
        else:
            message = sdk(node).messages.create(**body)
        assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "STOP")
        assert message.content[0].text.strip() == "one two three"


def test_token_limit_is_max_tokens(node):
    message = sdk(node).messages.create(model="plain", max_tokens=2, messages=ask())
    assert message.stop_reason == "max_tokens"
    assert message.usage.output_tokens == 2


@pytest.mark.parametrize("headers", [{"x-api-key": "{key}"}, {"Authorization": "Bearer {key}"}])
def test_either_header_carries_the_key(node, headers):
    response = post(node, {"model": "plain", "max_tokens": 1, "messages": ask()}, {name: value.format(key=node.key) for name, value in headers.items()})
    assert response.status_code == 200


def test_models_are_listed_in_this_shape_too(node):
    listed = sdk(node).models.list()
    assert "plain" in [model.id for model in listed.data]
    model = sdk(node).models.retrieve("plain")
    assert (model.id, model.type, model.display_name, model.lifecycle) == ("plain", "model", "plain", "active")
    assert model.max_input_tokens > 0
    with pytest.raises(anthropic.NotFoundError):
        sdk(node).models.retrieve("no-such-model")


ERRORS = [
    ({"key": "sk-db-wrong"}, anthropic.AuthenticationError, "authentication_error"),
    ({"model": "no-such-model"}, anthropic.NotFoundError, "not_found_error"),
    ({"messages": []}, anthropic.BadRequestError, "invalid_request_error"),
    ({"extra_body": {"temperature": 1.5}}, anthropic.BadRequestError, "invalid_request_error"),
    ({"max_tokens": 0}, anthropic.BadRequestError, "invalid_request_error"),
    ({"extra_body": {"top_k": -1}}, anthropic.BadRequestError, "invalid_request_error"),
    ({"extra_body": {"top_p": 2}}, anthropic.BadRequestError, "invalid_request_error"),
    ({"model": "failing"}, anthropic.InternalServerError, "api_error"),
]


@pytest.mark.parametrize("change, kind, name", ERRORS, ids=[str(change) for change, _, _ in ERRORS])
@pytest.mark.parametrize("stream", [False, True])
def test_errors_are_those_of_this_api(node, change, kind, name, stream):
    before = node.balance()
    change = dict(change)
    client = sdk(node).with_options(api_key=change.pop("key", node.key))
    with pytest.raises(kind) as caught:
        client.messages.create(**{"model": "plain", "max_tokens": 10, "messages": ask(), "stream": stream} | change)
    body = caught.value.body
    assert body["type"] == "error"
    assert body["error"]["type"] == name
    assert body["error"]["message"]
    assert body["request_id"] == caught.value.response.headers["request-id"]
    assert node.balance() == before


def test_missing_parameters_are_refused(node):
    whole = {"model": "plain", "max_tokens": 10, "messages": ask()}
    for name in whole:
        response = post(node, {key: value for key, value in whole.items() if key != name})
        assert response.status_code == 400, name
        assert response.json()["error"]["type"] == "invalid_request_error"
        assert name in response.json()["error"]["message"]


def test_images_are_refused_clearly(node):
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    response = post(node, {"model": "plain", "max_tokens": 10, "messages": [{"role": "user", "content": [image]}]})
    assert response.status_code == 400
    assert "image" in response.json()["error"]["message"]


def test_a_broken_stream_says_so(node):
    with pytest.raises(anthropic.APIStatusError) as caught:
        with sdk(node).messages.stream(model="breaking", max_tokens=100, messages=ask()) as stream:
            for _ in stream:
                pass
    assert caught.value.body["error"]["type"] == "api_error"


def test_abort_frees_the_engine(node):
    with sdk(node).messages.create(model="slow", max_tokens=20000, messages=ask(), stream=True) as stream:
        for _, event in zip(range(6), stream):
            assert event
    wait_until(lambda: node.metrics()["darkbloom_jobs_open"] == 0, "the provider to end the aborted request")
    assert sdk(node).messages.create(model="slow", max_tokens=2, messages=ask()).usage.output_tokens == 2


def test_timeout_of_the_client_is_its_own(node):
    with pytest.raises(anthropic.APITimeoutError):
        sdk(node).with_options(timeout=0.5).messages.create(model="slow", max_tokens=20000, messages=ask())
    wait_until(lambda: node.metrics()["darkbloom_jobs_open"] == 0, "the provider to be told")


def test_what_the_api_has_and_no_model_needs_is_accepted(node):
    message = sdk(node).messages.create(
        model="plain", max_tokens=2000, metadata={"user_id": "u1"}, service_tier="auto", extra_body={"top_k": 5, "top_p": 0.9, "temperature": 1},
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}], thinking={"type": "enabled", "budget_tokens": 1024},
        messages=[{"role": "user", "content": [{"type": "text", "text": "a b", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "c"}]},
                  {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "x"}, {"type": "text", "text": "d"},
                                                    {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}]},
                  {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "is_error": True,
                                                "content": [{"type": "text", "text": "e"}]}, {"type": "text", "text": "f"}]}],
        tools=[{"name": "f", "description": "does f", "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}}}}],
        tool_choice={"type": "auto", "disable_parallel_tool_use": True})
    assert message.usage.input_tokens == 9  # the scripted engine counts words: "Be brief." a b c d "Error: e" f


def test_the_real_model_answers(node, house):
    house.provider()
    message = sdk(node).messages.create(model=MODEL, max_tokens=200, extra_body={"temperature": 0}, messages=ask("What is the capital of France?"),
                                        system="You are a helpful assistant.")
    assert "Paris" in message.content[0].text
    assert message.stop_reason == "end_turn"
    with sdk(node).messages.stream(model=MODEL, max_tokens=200, extra_body={"temperature": 0}, messages=ask("What is the capital of France?"),
                                   system="You are a helpful assistant.") as stream:
        assert stream.get_final_message().content[0].text == message.content[0].text
