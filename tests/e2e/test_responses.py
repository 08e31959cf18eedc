"""/v1/responses: the OpenAI Python SDK, unchanged, and its published schema over every object and event."""

import json

import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from harness import MODEL, PATIENCE
from python_provider import PythonProvider, wait_standing

EVENT = TypeAdapter(ResponseStreamEvent)

# What the published schema marks as required beyond what the SDK's models ask for; nullable ones as explicit nulls.
REQUIRED = {
    "id", "object", "created_at", "completed_at", "status", "error", "incomplete_details", "instructions", "max_output_tokens",
    "max_tool_calls", "model", "output", "parallel_tool_calls", "previous_response_id", "prompt_cache_key", "reasoning",
    "safety_identifier", "service_tier", "store", "temperature", "top_p", "presence_penalty", "frequency_penalty", "text",
    "tool_choice", "tools", "top_logprobs", "truncation", "usage", "user", "metadata", "background",
}

WEATHER = {
    "type": "function", "name": "weather", "description": "Weather of a place.", "strict": True,
    "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"], "additionalProperties": False},
}


def sdk(coordinator):
    return openai.OpenAI(base_url=coordinator.url + "/v1", api_key=coordinator.key, max_retries=0, timeout=60 * PATIENCE)


def post(coordinator, **body):
    return coordinator.client.post("/v1/responses", json=body)


def stream(coordinator, **body):
    """The events as (name, data), each checked against the published schema."""
    found, name = [], None
    with coordinator.client.stream("POST", "/v1/responses", json={**body, "stream": True}) as response:
        assert response.status_code == 200, response.read()
        for line in response.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                found.append((name, json.loads(line.removeprefix("data: "))))
    for place, (name, data) in enumerate(found):
        assert data["type"] == name
        assert data["sequence_number"] == place
        EVENT.validate_python(data)
        if "response" in data:
            check_object(data["response"])
    return found


def check_object(answer):
    Response.model_validate(answer)
    assert REQUIRED <= answer.keys(), REQUIRED - answer.keys()


@pytest.fixture
def frames(coordinator):
    """A coordinator with one provider that sends just these deltas; its bodies are in provider.prompts."""
    started = []

    def make(*deltas, finish="stop"):
        class Scripted(PythonProvider):
            def frames(self, request):
                def chunk(delta, reason=None):
                    return "data: " + json.dumps({
                        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 5, "model": self.model,
                        "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}) + "\n\n"
                usage = {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16}
                return [chunk({"role": "assistant", "content": ""}), *map(chunk, deltas), chunk({}, finish),
                        'data: {"object":"chat.completion.chunk","choices":[],"usage":' + json.dumps(usage) + "}\n\n"]
        node = coordinator()
        one = Scripted(node)
        started.append(one)
        one.start()
        wait_standing(node, one.serial, "self_signed", "online")
        node.wait_routable(one.model)
        return node, one
    yield make
    for one in started:
        one.stop()


CALLS = (
    {"reasoning_content": "I should "}, {"reasoning_content": "look."},
    {"content": "Let me "}, {"content": "see."},
    {"tool_calls": [{"index": 0, "id": "call_a", "type": "function", "function": {"name": "weather", "arguments": ""}}]},
    {"tool_calls": [{"index": 1, "id": "call_b", "type": "function", "function": {"name": "weather", "arguments": "{\"pl"}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": "{\"place\":\"Oslo\"}"}}]},
    {"tool_calls": [{"index": 1, "function": {"arguments": "ace\":\"Rome\"}"}}]},
)


def test_whole_answer_is_complete_and_echoes_the_request(coordinator, provider):
    node = coordinator()
    provider(node, {"text": "The answer is 42."})
    answer = sdk(node).responses.create(model="scripted", input="hello", instructions="Be brief.", temperature=0.5, max_output_tokens=9,
                                        metadata={"a": "b"}, user="me")
    assert answer.output_text == "The answer is 42."
    assert (answer.status, answer.model, answer.instructions, answer.temperature) == ("completed", "scripted", "Be brief.", 0.5)
    assert (answer.max_output_tokens, answer.metadata, answer.user) == (9, {"a": "b"}, "me")
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    raw = post(node, model="scripted", input="hello")
    assert raw.headers["x-inference-job-id"] and raw.headers["x-timing"] and raw.headers["x-provider-trust-level"]
    check_object(raw.json())
    node.check_books()


def test_stream_tells_every_step_of_a_text(coordinator, provider):
    node = coordinator()
    provider(node, {"text": "one two three"})
    events = stream(node, model="scripted", input=[{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}])
    names = [name for name, _ in events]
    assert names[:4] == ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"]
    assert names[-4:] == ["response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed"]
    assert set(names[4:-4]) == {"response.output_text.delta"}
    said = "".join(data["delta"] for name, data in events if name == "response.output_text.delta")
    final = events[-1][1]["response"]
    assert said == "one two three" == final["output"][0]["content"][0]["text"]
    assert final["usage"]["output_tokens"] == 3
    assert events[0][1]["response"]["output"] == [] and events[0][1]["response"]["status"] == "in_progress"
    with sdk(node).responses.stream(model="scripted", input="hi") as live:
        for _ in live:
            pass
        assert live.get_final_response().output_text == "one two three"


def test_reasoning_text_and_interleaved_calls_become_items(frames):
    node, one = frames(*CALLS, finish="tool_calls")
    events = stream(node, model=one.model, input="Weather in Oslo and Rome?", tools=[WEATHER])
    final = events[-1][1]["response"]
    assert [item["type"] for item in final["output"]] == ["reasoning", "message", "function_call", "function_call"]
    assert final["output"][0]["summary"][0]["text"] == "I should look."
    assert final["output"][1]["content"][0]["text"] == "Let me see."
    assert [(item["call_id"], item["arguments"]) for item in final["output"][2:]] == [
        ("call_a", '{"place":"Oslo"}'), ("call_b", '{"place":"Rome"}')]
    assert final["tools"] == [WEATHER]
    done = [data["item"] for name, data in events if name == "response.output_item.done"]
    assert sorted(done, key=lambda item: int(item["id"].rsplit("_", 1)[1])) == final["output"]
    whole = post(node, model=one.model, input="Weather in Oslo and Rome?", tools=[WEATHER]).json()
    check_object(whole)

    def without_ids(items):
        return [{key: value for key, value in item.items() if key != "id"} for item in items]
    assert without_ids(whole["output"]) == without_ids(final["output"])


def test_what_the_model_reads_is_what_was_meant(frames):
    node, one = frames({"content": "ok"})
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
    answer = post(
        node, model=one.model, instructions="Be kind.", max_output_tokens=50, parallel_tool_calls=False, custom={"kept": [1, 2]},
        input=[
            {"role": "developer", "content": "Rules."},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "thought"}]},
            {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed",
             "content": [{"type": "output_text", "text": "calling", "annotations": []}]},
            {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
            {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": "{\"place\":1}"},
            {"type": "function_call_output", "call_id": "c1", "output": "cold"},
            {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "warm"}]},
        ],
        tools=[WEATHER], tool_choice={"type": "function", "name": "weather"},
        text={"format": {"type": "json_schema", "name": "shape", "schema": schema, "strict": True}})
    assert answer.status_code == 200, answer.text
    body = one.prompts[-1]

    def call(name, arguments):
        return {"id": name, "type": "function", "function": {"name": "weather", "arguments": arguments}}
    assert body["messages"] == [
        {"role": "system", "content": "Be kind."}, {"role": "system", "content": "Rules."}, {"role": "user", "content": "a\nb"},
        {"role": "assistant", "content": "calling", "reasoning_content": "thought", "tool_calls": [call("c1", "{}"), call("c2", '{"place":1}')]},
        {"role": "tool", "tool_call_id": "c1", "content": "cold"}, {"role": "tool", "tool_call_id": "c2", "content": "warm"}]
    function = body["tools"][0]["function"]
    assert (function["name"], function["parameters"], function["strict"]) == ("weather", WEATHER["parameters"], True)
    assert body["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert body["response_format"] == {"type": "json_schema", "json_schema": {"name": "shape", "schema": schema, "strict": True}}
    assert (body["max_tokens"], body["parallel_tool_calls"], body["custom"]) == (50, False, {"kept": [1, 2]})
    assert "input" not in body and "instructions" not in body and "text" not in body


def test_a_cut_answer_is_incomplete(coordinator, provider):
    node = coordinator()
    provider(node, {"text": "a b c d e f"})
    for final in (post(node, model="scripted", input="x", max_output_tokens=2).json(),
                  stream(node, model="scripted", input="x", max_output_tokens=2)[-1][1]["response"]):
        assert final["status"] == "incomplete"
        assert final["incomplete_details"] == {"reason": "max_output_tokens"}
        assert final["output"][0]["status"] == "incomplete"


def test_a_failure_after_content_ends_the_stream_and_costs_nothing(coordinator, provider):
    node = coordinator()
    provider(node, {"text": "one two three four", "fail_status": 500, "fail_text": "fatal error", "fail_after_tokens": 2})
    before = node.balance()
    events = stream(node, model="scripted", input="x")
    assert [name for name, _ in events][-2:] == ["response.failed", "error"]
    assert events[-2][1]["response"]["status"] == "failed" and events[-2][1]["response"]["error"]["code"] == "server_error"
    with pytest.raises(openai.APIError):
        for _ in sdk(node).responses.create(model="scripted", input="x", stream=True):
            pass
    node.wait_idle()
    assert node.balance() == before
    node.check_books()


REFUSED = [
    ({}, "input"),
    ({"messages": [{"role": "user", "content": "x"}]}, "messages"),
    ({"input": 5}, "input"),
    ({"input": []}, "input"),
    ({"input": [{"type": "web_search_call"}]}, "input"),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:"}]}]}, "input"),
    ({"input": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]}, "input"),
    ({"input": [{"type": "item_reference", "id": "x"}]}, "input"),
    ({"input": "x", "tools": [{"type": "web_search"}]}, "tools"),
    ({"input": "x", "tools": [{"type": "function"}]}, "tools"),
    ({"input": "x", "tool_choice": {"type": "function", "name": "absent"}}, "tool_choice"),
    ({"input": "x", "text": {"format": {"type": "json_schema"}}}, "text"),
    ({"input": "x", "text": {"format": {"type": "json_schema", "name": "a", "schema": 4}}}, "text"),
    ({"input": "x", "background": True}, "background"),
    ({"input": "x", "truncation": "sometimes"}, "truncation"),
    ({"input": "x", "previous_response_id": 4}, "previous_response_id"),
    ({"input": "x", "store": "yes"}, "store"),
    ({"input": "x", "conversation": "conv_1"}, "conversation"),
    ({"input": "x", "temperature": 3}, "temperature"),
    ({"input": "x", "max_output_tokens": 0}, "max_output_tokens"),
    ({"input": "x", "top_logprobs": 21}, "top_logprobs"),
    ({"input": "x", "metadata": {"a": 1}}, "metadata"),
    ({"input": "x", "instructions": 4}, "instructions"),
    ({"input": "x", "parallel_tool_calls": "yes"}, "parallel_tool_calls"),
]


def test_what_cannot_be_done_is_refused_with_the_parameter(coordinator):
    node = coordinator()
    before = node.balance()
    for body, param in REFUSED:
        answer = post(node, model="scripted", **body)
        error = answer.json()["error"]
        assert (answer.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param), (body, answer.text)
        assert error["message"]
    assert post(node, input="x").json()["error"]["param"] == "model"
    assert node.balance() == before


@pytest.mark.slow
def test_truncation_auto_leaves_out_the_oldest_items(coordinator, provider):
    node = coordinator()
    provider(node, options=["--context", "512"])
    context = 512
    old = [{"role": role, "content": f"Note {n}. " + "7 " * 50} for n in range(8) for role in ("user", "assistant")]
    items = [*old, {"role": "user", "content": "What is the capital of France?"}]
    asked = {"model": MODEL, "instructions": "Be brief.", "temperature": 0, "max_output_tokens": 16}
    whole = post(node, **asked, input=items)
    assert whole.status_code in (400, 429, 503) and whole.json()["error"]["message"], whole.text
    answer = post(node, **asked, input=items, truncation="auto")
    assert answer.status_code == 200, answer.text
    answer = answer.json()
    check_object(answer)
    assert answer["truncation"] == "auto"
    assert context // 2 < answer["usage"]["input_tokens"] <= context - 16
    short = next(one for one in (post(node, **asked, input=items[2 * n:]) for n in range(1, 9)) if one.status_code == 200).json()
    assert short["truncation"] == "disabled"
    assert short["usage"]["input_tokens"] == answer["usage"]["input_tokens"]
    assert short["output"][0]["content"] == answer["output"][0]["content"]
    streamed = stream(node, **asked, input=items, truncation="auto")[-1][1]["response"]
    assert (streamed["truncation"], streamed["output"][0]["content"]) == ("auto", answer["output"][0]["content"])
    node.check_books()
