"""Every object and every event against the published schemas, read strictly out of the installed SDKs; what a schema requires but
allows to be null must be there as null. And each dialect refuses what is missing or out of range."""

import json

import anthropic.types
import openai.types
import openai.types.chat
import openai.types.responses
import pydantic
import pytest

from harness import MODEL
from python_provider import wait_standing
from test_other_sdks import ADD, Tooling

CHAT = {"model": "plain", "messages": [{"role": "user", "content": "hello"}]}
BODIES = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"model": "plain", "prompt": "hello"},
    "/v1/responses": {"model": "plain", "input": "hello"},
    "/v1/messages": CHAT | {"max_tokens": 2000},
}
TOOLS = {
    "/v1/chat/completions": [{"type": "function", "function": ADD}],
    "/v1/responses": [{"type": "function", "strict": False, **ADD}],
    "/v1/messages": [{"name": "add", "description": "adds", "input_schema": ADD["parameters"]}],
}
WHOLE = {
    "/v1/chat/completions": openai.types.chat.ChatCompletion,
    "/v1/completions": openai.types.Completion,
    "/v1/responses": openai.types.responses.Response,
    "/v1/messages": anthropic.types.Message,
    "/v1/embeddings": openai.types.CreateEmbeddingResponse,
    "/v1/messages/count_tokens": anthropic.types.MessageTokensCount,
}
EVENT = {
    "/v1/chat/completions": openai.types.chat.ChatCompletionChunk,
    "/v1/completions": openai.types.Completion,
    "/v1/responses": openai.types.responses.ResponseStreamEvent,
    "/v1/messages": anthropic.types.RawMessageStreamEvent,
}
# Required by the published schemas although the SDKs' types have a default for them.
RESPONSE = {"id", "object", "created_at", "completed_at", "status", "error", "incomplete_details", "instructions", "max_output_tokens", "max_tool_calls",
            "model", "output", "parallel_tool_calls", "previous_response_id", "prompt_cache_key", "reasoning", "safety_identifier", "service_tier", "store",
            "temperature", "text", "tool_choice", "tools", "top_logprobs", "top_p", "truncation", "usage", "user", "metadata", "background",
            "presence_penalty", "frequency_penalty"}
MESSAGE = {"id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage", "container"}
USAGE = {"input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "cache_creation", "server_tool_use", "service_tier"}


@pytest.fixture(scope="module")
def node(house):
    made = house.coordinator()
    house.provider(MODEL, options=["--embeddings"])
    house.provider("plain", {"text": "one two three"})
    tooling = Tooling(made, "PY0001", "tooling").start()
    wait_standing(made, "PY0001", "self_signed", "online")
    made.wait_routable("tooling")
    yield made
    assert tooling.failure is None
    tooling.stop()


def strictly(kind, data):
    """As the schema says, without any conversion."""
    pydantic.TypeAdapter(kind).validate_json(json.dumps(data), strict=True)


def has(data, *names):
    assert set(names) <= data.keys(), f"missing: {set(names) - data.keys()}"


def check_whole(path, data):
    strictly(WHOLE[path], data)
    if path == "/v1/chat/completions":
        for choice in data["choices"]:
            has(choice, "index", "message", "finish_reason", "logprobs")
            has(choice["message"], "role", "content", "refusal")
    elif path == "/v1/completions":
        for choice in data["choices"]:
            has(choice, "index", "text", "finish_reason", "logprobs")
    elif path == "/v1/responses":
        has(data, *RESPONSE)
    elif path == "/v1/messages":
        has(data, *MESSAGE)
        has(data["usage"], *USAGE)
        for block in data["content"]:
            has(block, *{"text": ["text", "citations"], "tool_use": ["id", "name", "input"], "thinking": ["thinking", "signature"]}[block["type"]])


def check_event(path, name, data):
    if path == "/v1/completions":  # finish_reason is null until the end, as in the original's own streams
        for choice in data["choices"]:
            has(choice, "index", "text", "finish_reason", "logprobs")
        data = data | {"choices": [choice | {"finish_reason": choice["finish_reason"] or "stop"} for choice in data["choices"]]}
    if (path, name) in (("/v1/messages", "ping"), ("/v1/messages", "error")):
        assert data["type"] == name
        return
    strictly(EVENT[path], data)
    if path == "/v1/chat/completions":
        has(data, "id", "object", "created", "model", "choices")
        for choice in data["choices"]:
            has(choice, "index", "delta", "finish_reason")
    elif path == "/v1/responses":
        assert data["type"] == name
        if "response" in data:
            has(data["response"], *RESPONSE)
    elif path == "/v1/messages":
        assert data["type"] == name
        if name == "message_start":
            has(data["message"], *MESSAGE)
            has(data["message"]["usage"], *USAGE)
        if name == "message_delta":
            has(data["delta"], "stop_reason", "stop_sequence")


def post(node, path, body):
    return node.client.post(path, json=body)


def events(node, path, body):
    found, name = [], None
    with node.client.stream("POST", path, json=body | {"stream": True}) as response:
        assert response.status_code == 200, response.read()
        for line in response.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: ") and line != "data: [DONE]":
                found.append((name, json.loads(line.removeprefix("data: "))))
    return found


@pytest.mark.parametrize("model", ["plain", MODEL])
@pytest.mark.parametrize("path", BODIES)
def test_text_answers_are_complete(node, path, model):
    limit = {"max_output_tokens": 16} if path == "/v1/responses" else {"max_tokens": 16}
    body = BODIES[path] | {"model": model} | limit
    answer = post(node, path, body)
    assert answer.status_code == 200, answer.text
    check_whole(path, answer.json())
    said = events(node, path, body)
    assert said
    for name, data in said:
        check_event(path, name, data)


@pytest.mark.parametrize("path", TOOLS)
def test_tool_calls_and_reasoning_are_complete(node, path):
    body = BODIES[path] | {"model": "tooling", "tools": TOOLS[path]}
    answer = post(node, path, body)
    assert answer.status_code == 200, answer.text
    check_whole(path, answer.json())
    assert '"add"' in answer.text
    for name, data in events(node, path, body):
        check_event(path, name, data)


@pytest.mark.parametrize("path, more", [("/v1/chat/completions", {"logprobs": True, "top_logprobs": 2}), ("/v1/completions", {"logprobs": 2}),
                                        ("/v1/responses", {"include": ["message.output_text.logprobs"], "top_logprobs": 2})])
def test_log_probabilities_are_complete(node, path, more):
    limit = {"max_output_tokens": 16} if path == "/v1/responses" else {"max_tokens": 4}
    body = BODIES[path] | {"model": MODEL} | more | limit
    answer = post(node, path, body)
    assert answer.status_code == 200, answer.text
    check_whole(path, answer.json())
    assert '"logprob' in answer.text
    for name, data in events(node, path, body):
        check_event(path, name, data)


def test_vectors_counts_and_models_are_complete(node):
    for encoding in ("float", "base64"):
        data = post(node, "/v1/embeddings", {"model": MODEL, "input": ["a", "b"], "encoding_format": encoding}).json()
        if encoding == "float":
            check_whole("/v1/embeddings", data)
        has(data, "object", "data", "model", "usage")
    check_whole("/v1/messages/count_tokens", post(node, "/v1/messages/count_tokens", {"model": MODEL, "messages": CHAT["messages"]}).json())
    for entry in node.get("/v1/models")["data"]:
        strictly(openai.types.Model, entry)
        strictly(anthropic.types.ModelInfo, entry)


def test_every_model_entry_says_what_is_known(node):
    entries = {entry["id"]: entry for entry in node.get("/v1/models?include_builds=1")["data"]}
    real = entries[MODEL]
    assert node.get(f"/v1/models/{MODEL}") == real
    has(real, "id", "object", "created", "owned_by", "name", "input_modalities", "output_modalities", "quantization", "context_length", "max_output_length",
        "pricing", "supported_sampling_parameters", "supported_features", "metadata")
    assert real["quantization"] == "int4"
    assert real["context_length"] == 4096  # what the provider gives each sequence
    assert {"tools", "structured_outputs", "json_mode", "logprobs"} <= set(real["supported_features"])
    assert "logprobs" not in entries["tooling"]["supported_features"], "what an older provider does not name is not promised"
    has(real["pricing"], "prompt", "completion", "image", "request", "input_cache_read")
    has(real["metadata"], "model_type", "quantization", "provider_count", "attested_providers", "trust_level", "attestation", "display_name", "routable_providers",
        "warm_providers", "can_accept")
    shop = {entry["id"]: entry for entry in node.get("/v1/models/openrouter")["data"]}
    assert shop.keys() == entries.keys()
    has(shop[MODEL], "id", "hugging_face_id", "name", "created", "input_modalities", "output_modalities", "quantization", "context_length", "max_output_length",
        "pricing", "supported_sampling_parameters", "supported_features", "is_ready", "openrouter")


ABSENT = object()
WRONG = {
    "/v1/chat/completions": [("model", ABSENT), ("model", 1), ("messages", ABSENT), ("messages", []), ("messages", "x"), ("messages", [{"role": "user"}]),
                             ("messages", [{"role": "robot", "content": "x"}]), ("temperature", 2.1), ("temperature", -0.1), ("top_p", 1.1), ("max_tokens", 0),
                             ("max_completion_tokens", -1), ("max_tokens", 1.5), ("n", 0), ("stream", "yes"), ("stop", [1]), ("logprobs", 1), ("top_logprobs", 21),
                             ("frequency_penalty", 3), ("presence_penalty", -3), ("seed", "x"), ("tools", {}), ("tool_choice", "any"), ("response_format", {}),
                             ("logit_bias", [1]), ("user", 1)],
    "/v1/completions": [("model", ABSENT), ("prompt", ABSENT), ("prompt", []), ("temperature", 3), ("top_p", -1), ("max_tokens", -1), ("n", 0), ("logprobs", 99),
                        ("stream", 1), ("stop", {}), ("suffix", "x")],
    "/v1/responses": [("model", ABSENT), ("input", ABSENT), ("input", []), ("input", 1), ("temperature", 3), ("top_p", 2), ("max_output_tokens", 0), ("stream", 1),
                      ("tools", {}), ("tool_choice", 1), ("text", 1), ("instructions", 1)],
    "/v1/messages": [("model", ABSENT), ("messages", ABSENT), ("messages", []), ("max_tokens", ABSENT), ("max_tokens", 0), ("temperature", 1.1), ("top_p", 1.1),
                     ("top_k", -1), ("stream", 1), ("system", 1), ("stop_sequences", "x"), ("tools", {}), ("tool_choice", {"type": "any"}),
                     ("thinking", {"type": "enabled"}), ("metadata", 1)],
    "/v1/messages/count_tokens": [("model", ABSENT), ("messages", []), ("tools", 1)],
    "/v1/embeddings": [("model", ABSENT), ("input", ABSENT), ("input", []), ("encoding_format", "x")],
}


@pytest.mark.parametrize("path", WRONG)
def test_what_is_missing_or_out_of_range_is_400_and_costs_nothing(node, path):
    good = BODIES.get(path) or (CHAT if "messages" in path else {"model": MODEL, "input": "x"})
    before = node.balance()
    for name, value in WRONG[path]:
        body = {key: kept for key, kept in (good | {name: value}).items() if kept is not ABSENT}
        response = post(node, path, body)
        assert response.status_code == 400, (name, value, response.text)
        error = response.json()["error"]
        assert error["type"] == "invalid_request_error"
        assert error["message"]
        if "messages" in path:
            assert response.json()["type"] == "error"
        else:
            assert error["param"], (name, value, response.text)
    for text in ("", "{", "[]", "null", "{}", '{"model": "plain"', "\ufeff{}"):
        response = node.client.post(path, content=text.encode())
        assert response.status_code == 400, (text, response.text)
    assert node.balance() == before
