"""One conversation said in each dialect is one and the same to the model: what a chat request means, lowered to a dialect by this
file and back by the coordinator, is what the provider reads."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from python_provider import PythonProvider, wait_standing
from test_families import WAYS, events, whole

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


# --- answers ---

class Prompted(PythonProvider):
    def registration(self):
        made = super().registration()
        made["models"][0]["capabilities"] = ["chat", "choices", "prompts"]
        return made | {"plain_prompts": True}


class Saying(Prompted):
    """Says `pieces`, deltas of a chat completion, and ends with `reason`."""

    pieces, reason = [], "stop"

    def frames(self, request):
        head = {"id": "chatcmpl-py", "created": 1767225600, "model": self.model, "object": "chat.completion.chunk"}
        said = [head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in self.pieces]
        said.append(head | {"choices": [{"index": 0, "delta": {}, "finish_reason": self.reason}]})
        said.append(head | {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 9, "total_tokens": 14}})
        return [f"data: {json.dumps(frame)}\n\n" for frame in said] + ["data: [DONE]\n\n"]


@pytest.fixture
def speaker(coordinator):
    node = coordinator()
    one = Saying(node)
    one.start()
    wait_standing(node, one.serial, "self_signed", "online")
    node.wait_routable(one.model)
    yield node, one
    one.stop()


def cut(text, at):
    """In up to three pieces, none of them empty."""
    places = sorted({0, *(place % (len(text) + 1) for place in at), len(text)})
    return [text[a:b] for a, b in zip(places, places[1:])]


@st.composite
def answers(draw):
    cuts = draw(st.lists(st.integers(0, 60), max_size=2))
    calls = draw(st.lists(st.tuples(NAMES, ARGUMENTS), max_size=3))
    text = draw(TEXT) if not calls else draw(TEXT | st.just(""))
    return draw(TEXT | st.just("")), text, calls, cuts


def pieces_of(thoughts, text, calls, cuts):
    made = [{"role": "assistant", "content": ""}]
    made += [{"reasoning_content": piece} for piece in cut(thoughts, cuts)]
    made += [{"content": piece} for piece in cut(text, cuts)]
    for index, (name, arguments) in enumerate(calls):
        made.append({"tool_calls": [{"index": index, "id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": ""}}]})
        made += [{"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in cut(json.dumps(arguments), cuts)]
    return made


def test_an_answer_means_the_same_in_every_dialect(speaker):
    node, one = speaker

    @settings(max_examples=100, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(answers())
    def check(answer):
        thoughts, text, calls, cuts = answer
        one.pieces, one.reason = pieces_of(*answer), "tool_calls" if calls else "stop"
        for way in WAYS:
            said, thought, made, why = way(node, one.model)
            assert (said or "", thought or "") == (text, thoughts), way.__name__
            assert [(name, json.loads(arguments)) for name, arguments in made] == calls, way.__name__
            assert why == one.reason, way.__name__
        one.pieces, one.reason = pieces_of("", text, [], cuts), "stop"
        prompt = {"model": one.model, "prompt": "x"}
        assert whole(node, "/v1/completions", prompt)["choices"][0]["text"] == text
        assert "".join(choice["text"] for chunk in events(node, "/v1/completions", prompt) for choice in chunk["choices"]) == text
    check()


# --- plain prompts: what is not the conversation itself means what it means in chat ---

PLAIN = st.fixed_dictionaries({}, optional={
    "temperature": st.sampled_from([0, 0.5, 2]), "top_p": st.sampled_from([0.25, 1]), "seed": st.integers(0, 2**63), "n": st.integers(1, 4),
    "stop": TEXT | st.lists(TEXT, min_size=1, max_size=4), "frequency_penalty": st.sampled_from([-2, 0.5]), "presence_penalty": st.sampled_from([-1, 2]),
    "logit_bias": st.dictionaries(st.integers(0, 40000).map(str), st.integers(-100, 100), max_size=3), "user": TEXT, "top_k": st.integers(0, 50),
    "min_p": st.sampled_from([0, 0.1])})
PROMPTS = TEXT | st.lists(st.integers(0, 1000), min_size=1, max_size=5)


def test_a_plain_prompt_means_what_it_says_and_its_parameters_what_they_mean_in_chat(coordinator):
    node = coordinator()
    one = Prompted(node)
    one.start()
    wait_standing(node, one.serial, "self_signed", "online")
    node.wait_routable(one.model)

    @settings(max_examples=100, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(PROMPTS, PLAIN, st.integers(1, 5000))
    def check(prompt, parameters, limit):
        asked = {"model": one.model, "max_tokens": limit, **parameters}
        read = []
        for path, body in (("chat/completions", {"messages": [{"role": "user", "content": "x"}]}), ("completions", {"prompt": prompt})):
            answer = node.client.post(f"/v1/{path}", json=asked | body)
            assert answer.status_code == 200, (path, asked | body, answer.text)
            read.append(one.prompts[-1])
        assert read[1]["prompt"] == prompt and "messages" not in read[1]
        for name in asked:
            assert read[1][name] == read[0][name] == asked[name], name
    check()
    one.stop()
