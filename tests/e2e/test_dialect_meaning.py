"""One conversation said in each dialect is one and the same to the model: what a chat request means, lowered to a dialect by this
file and back by the coordinator, is what the provider reads."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from python_provider import PythonProvider, wait_standing

TEXT = st.text(min_size=1, max_size=40).filter(lambda text: text.strip() == text)
NAMES = st.sampled_from(["look", "add_2", "find-it"])
VALUES = st.recursive(st.none() | st.booleans() | st.integers(-2**53, 2**53) | TEXT, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=4)
ARGUMENTS = st.dictionaries(TEXT, VALUES, max_size=3)


@st.composite
def turns(draw):
    """[("user", text), ("assistant", text or "", [(id, name, arguments, result)]) ...], the last one a user's or a tool's."""
    said, calls = [("user", draw(TEXT))], 0
    for _ in range(draw(st.integers(0, 3))):
        made = []
        for _ in range(draw(st.integers(0, 2))):
            calls += 1
            made.append((f"call_{calls}", draw(NAMES), draw(ARGUMENTS), draw(TEXT)))
        said.append(("assistant", draw(TEXT) if not made else draw(TEXT | st.just("")), made))
        if not made or draw(st.booleans()):
            said.append(("user", draw(TEXT)))
    return said


@st.composite
def requests(draw):
    tools = draw(st.lists(st.tuples(NAMES, TEXT), max_size=3, unique_by=lambda tool: tool[0]))
    choice = draw(st.sampled_from(["auto", "required", "none", "named"])) if tools else None
    return {"system": draw(st.none() | TEXT), "turns": draw(turns()), "tools": tools, "choice": choice,
            "limit": draw(st.integers(1, 5000)), "temperature": draw(st.none() | st.sampled_from([0, 0.25, 1])),
            "top_p": draw(st.none() | st.sampled_from([0.5, 1]))}


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}


def common(request):
    return {name: request[name] for name in ("temperature", "top_p") if request[name] is not None}


def as_chat(request):
    messages = [{"role": "system", "content": request["system"]}] if request["system"] else []
    for who, text, *calls in request["turns"]:
        message = {"role": who, "content": text}
        made = calls[0] if calls else []
        if made:
            message["tool_calls"] = [{"id": call, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}} for call, name, arguments, _ in made]
        messages.append(message)
        messages += [{"role": "tool", "tool_call_id": call, "content": result} for call, _, _, result in made]
    body = {**common(request), "max_tokens": request["limit"], "messages": messages}
    if request["tools"]:
        body["tools"] = [{"type": "function", "function": {"name": name, "description": about, "parameters": SCHEMA}} for name, about in request["tools"]]
        body["tool_choice"] = {"type": "function", "function": {"name": request["tools"][0][0]}} if request["choice"] == "named" else request["choice"]
    return body


def as_responses(request):
    items = []
    for who, text, *calls in request["turns"]:
        if text:
            kind = "output_text" if who == "assistant" else "input_text"
            items.append({"type": "message", "role": who, "content": [{"type": kind, "text": text}]})
        for call, name, arguments, _ in calls[0] if calls else []:
            items.append({"type": "function_call", "call_id": call, "name": name, "arguments": json.dumps(arguments)})
        for call, _, _, result in calls[0] if calls else []:
            items.append({"type": "function_call_output", "call_id": call, "output": result})
    body = {**common(request), "max_output_tokens": request["limit"], "input": items, "instructions": request["system"]}
    if request["tools"]:
        body["tools"] = [{"type": "function", "name": name, "description": about, "parameters": SCHEMA} for name, about in request["tools"]]
        body["tool_choice"] = {"type": "function", "name": request["tools"][0][0]} if request["choice"] == "named" else request["choice"]
    return body


def as_messages(request):
    messages = []
    for who, text, *calls in request["turns"]:
        made = calls[0] if calls else []
        said = [{"type": "text", "text": text}] if text else []
        said += [{"type": "tool_use", "id": call, "name": name, "input": arguments} for call, name, arguments, _ in made]
        if who == "user" and messages and messages[-1]["role"] == "user":
            messages[-1]["content"] += said
        else:
            messages.append({"role": who, "content": said})
        if made:
            messages.append({"role": "user", "content": [{"type": "tool_result", "tool_use_id": call, "content": result} for call, _, _, result in made]})
    body = {**common(request), "max_tokens": request["limit"], "messages": messages}
    if request["system"]:
        body["system"] = request["system"]
    if request["tools"]:
        body["tools"] = [{"name": name, "description": about, "input_schema": SCHEMA} for name, about in request["tools"]]
        names = {"auto": "auto", "required": "any", "none": "none"}
        body["tool_choice"] = {"type": "tool", "name": request["tools"][0][0]} if request["choice"] == "named" else {"type": names[request["choice"]]}
    return body


def text_of(content):
    return content if isinstance(content, str) else "".join(part["text"] for part in content or [])


def meaning(body):
    """What a model is told, whichever of the equal ways it was written in."""
    messages = []
    for message in body["messages"]:
        calls = [(call["id"], call["function"]["name"], json.loads(call["function"]["arguments"])) for call in message.get("tool_calls") or []]
        messages.append((message["role"], text_of(message.get("content")), message.get("tool_call_id"), calls))
    tools = [(tool["function"]["name"], tool["function"].get("description"), tool["function"]["parameters"]) for tool in body.get("tools") or []]
    return messages, tools, body.get("tool_choice"), body["max_tokens"], body.get("temperature"), body.get("top_p"), body["model"]


@pytest.fixture
def reader(coordinator):
    node = coordinator()
    one = PythonProvider(node)
    one.start()
    wait_standing(node, one.serial, "self_signed", "online")
    node.wait_routable(one.model)
    yield node, one
    one.stop()


def test_a_conversation_means_the_same_in_every_dialect(reader):
    node, one = reader

    @settings(max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(requests())
    def check(request):
        read = []
        for path, body in (("chat/completions", as_chat(request)), ("responses", as_responses(request)), ("messages", as_messages(request))):
            answer = node.client.post(f"/v1/{path}", json={"model": one.model, **body})
            assert answer.status_code == 200, (path, body, answer.text)
            read.append(meaning(one.prompts[-1]))
        assert read[0] == meaning({**as_chat(request), "model": one.model})
        assert read[1] == read[0]
        assert read[2] == read[0]
    check()
