"""The tool syntax of every model family through every dialect, whole and streamed: a scripted engine says what a model of the
family would, word by word, and the family's own template and reader make calls of it."""

import json

import pytest

from harness import GGUF, TOP

TEMPLATES = TOP / "build" / "deps" / "src" / "llama.cpp" / "models" / "templates"

WEATHER = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]}
JSON = '{"name": "get_weather", "arguments": {"city": "Paris"}}'
# family: (template, what its model says, what it thought, the cities it asks for)
FAMILIES = {
    "json-in-tags": ("Qwen-Qwen2.5-7B-Instruct.jinja", f"<tool_call>\n{JSON}\n</tool_call>", "", ["Paris"]),
    "two-calls": ("Qwen-Qwen3-0.6B.jinja", f"<think>\nBoth.\n</think>\n\n<tool_call>\n{JSON}\n</tool_call>\n<tool_call>\n{JSON.replace('Paris', 'Rome')}\n</tool_call>",
                  "Both.", ["Paris", "Rome"]),
    "hermes": ("NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use.jinja", f"<tool_call>\n{JSON}\n</tool_call>", "", ["Paris"]),
    "xml": ("Qwen3-Coder.jinja", "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n</tool_call>", "", ["Paris"]),
    "nemotron": ("NVIDIA-Nemotron-Nano-v2.jinja", f"Ask.\n</think>\n\n<TOOLCALL>[{JSON}]</TOOLCALL>", "Ask.", ["Paris"]),
    "gemma-4": ("google-gemma-4-31B-it.jinja", '<|tool_call>call:get_weather{city:<|"|>Paris<|"|>}<tool_call|>', "", ["Paris"]),
    "harmony": ("openai-gpt-oss-120b.jinja", "<|channel|>analysis<|message|>Ask.<|end|><|start|>assistant<|channel|>commentary to=functions.get_weather "
                '<|constrain|>json<|message|>{"city": "Paris"}', "Ask.", ["Paris"]),
    "llama-3": ("meta-llama-Llama-3.1-8B-Instruct.jinja", '{"name": "get_weather", "parameters": {"city": "Paris"}}', "", ["Paris"]),
    "mistral": ("mistralai-Mistral-Nemo-Instruct-2407.jinja", f"[TOOL_CALLS][{JSON[:-1]}, \"id\": \"123456789\"}}]", "", ["Paris"]),
    "mistral-v11": ("unsloth-mistral-Devstral-Small-2507.jinja", '[TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}', "", ["Paris"]),
    "minimax": ("MiniMax-M2.jinja", 'Ask.</think>\n\n<minimax:tool_call>\n<invoke name="get_weather">\n<parameter name="city">Paris</parameter>\n</invoke>\n'
                "</minimax:tool_call>", "Ask.", ["Paris"]),
    "kimi-k2": ("moonshotai-Kimi-K2.jinja", "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>"
                '{"city": "Paris"}<|tool_call_end|><|tool_calls_section_end|>', "", ["Paris"]),
    "glm-4": ("GLM-4.6.jinja", "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n</tool_call>", "", ["Paris"]),
    "lfm2": ("LFM2-8B-A1B.jinja", '<|tool_call_start|>[get_weather(city="Paris")]<|tool_call_end|>', "", ["Paris"]),
}
ASK = [{"role": "user", "content": "What is the weather?"}]


@pytest.fixture(scope="module")
def node(house):
    made = house.coordinator()
    for name, (template, text, _, _) in FAMILIES.items():
        house.provider(name, {"text": text, "vocabulary": str(GGUF), "chat_template": str(TEMPLATES / template)})
    return made


def events(node, path, body):
    with node.client.stream("POST", path, json=body | {"stream": True}) as answer:
        lines = answer.read().decode().split("\n")  # and not where Unicode has line ends: text may have them
        assert answer.status_code == 200, lines
        return [json.loads(line[6:]) for line in lines if line.startswith("data: ") and line != "data: [DONE]"]


def whole(node, path, body):
    answer = node.client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


# Each returns (text, thoughts, [(name, arguments)], why it ended).

def chat_whole(node, model):
    choice = whole(node, "/v1/chat/completions", {"model": model, "messages": ASK, "tools": [{"type": "function", "function": {
        "name": "get_weather", "parameters": WEATHER}}]})["choices"][0]
    message = choice["message"]
    calls = [(call["function"]["name"], call["function"]["arguments"]) for call in message.get("tool_calls") or []]
    return message["content"], message.get("reasoning"), calls, choice["finish_reason"]


def chat_streamed(node, model):
    text, thoughts, calls, why = "", "", {}, None
    for chunk in events(node, "/v1/chat/completions", {"model": model, "messages": ASK, "tools": [{"type": "function", "function": {
            "name": "get_weather", "parameters": WEATHER}}]}):
        for choice in chunk["choices"]:
            delta = choice["delta"]
            text += delta.get("content") or ""
            thoughts += delta.get("reasoning_content") or ""
            why = choice["finish_reason"] or why
            for call in delta.get("tool_calls") or []:
                known = calls.setdefault(call["index"], ["", ""])
                known[0] += call["function"].get("name") or ""
                known[1] += call["function"].get("arguments") or ""
    return text, thoughts, [tuple(calls[index]) for index in sorted(calls)], why


def of_items(items):
    text = "".join(part["text"] for item in items if item["type"] == "message" for part in item["content"])
    thoughts = "".join(part["text"] for item in items if item["type"] == "reasoning" for part in item["summary"])
    calls = [(item["name"], item["arguments"]) for item in items if item["type"] == "function_call"]
    return text, thoughts, calls, "tool_calls" if calls else "stop"


RESPONSES_TOOL = [{"type": "function", "name": "get_weather", "parameters": WEATHER}]


def responses_whole(node, model):
    answer = whole(node, "/v1/responses", {"model": model, "input": "What is the weather?", "tools": RESPONSES_TOOL})
    assert answer["status"] == "completed"
    return of_items(answer["output"])


def responses_streamed(node, model):
    said = events(node, "/v1/responses", {"model": model, "input": "What is the weather?", "tools": RESPONSES_TOOL})
    arguments = {}
    for event in said:
        if event["type"] == "response.function_call_arguments.delta":
            arguments[event["item_id"]] = arguments.get(event["item_id"], "") + event["delta"]
    items = said[-1]["response"]["output"]
    assert arguments == {item["id"]: item["arguments"] for item in items if item["type"] == "function_call"}
    return of_items(items)


MESSAGES = {"messages": ASK, "max_tokens": 2000, "tools": [{"name": "get_weather", "input_schema": WEATHER}]}


def messages_whole(node, model):
    answer = whole(node, "/v1/messages", MESSAGES | {"model": model})
    blocks = answer["content"]
    text = "".join(block["text"] for block in blocks if block["type"] == "text")
    thoughts = "".join(block["thinking"] for block in blocks if block["type"] == "thinking")
    calls = [(block["name"], json.dumps(block["input"])) for block in blocks if block["type"] == "tool_use"]
    return text, thoughts, calls, {"tool_use": "tool_calls", "end_turn": "stop"}[answer["stop_reason"]]


def messages_streamed(node, model):
    text, thoughts, calls, why = "", "", {}, None
    for event in events(node, "/v1/messages", MESSAGES | {"model": model}):
        if event["type"] == "content_block_start" and event["content_block"]["type"] == "tool_use":
            calls[event["index"]] = [event["content_block"]["name"], ""]
        elif event["type"] == "content_block_delta":
            delta = event["delta"]
            text += delta.get("text", "")
            thoughts += delta.get("thinking", "")
            if delta["type"] == "input_json_delta":
                calls[event["index"]][1] += delta["partial_json"]
        elif event["type"] == "message_delta":
            why = event["delta"]["stop_reason"]
    return text, thoughts, [tuple(call) for call in calls.values()], {"tool_use": "tool_calls", "end_turn": "stop"}[why]


WAYS = [chat_whole, chat_streamed, responses_whole, responses_streamed, messages_whole, messages_streamed]


@pytest.mark.parametrize("family", FAMILIES)
def test_calls_of_a_family_arrive_in_every_dialect(node, family):
    _, _, thought, cities = FAMILIES[family]
    for way in WAYS:
        text, thoughts, calls, why = way(node, family)
        assert (text or "").strip() == "", (way.__name__, text)
        assert (thoughts or "").strip() == thought, (way.__name__, thoughts)
        assert [(name, json.loads(arguments)) for name, arguments in calls] == [("get_weather", {"city": city}) for city in cities], (way.__name__, calls)
        assert why == "tool_calls", (way.__name__, why)
    node.check_books()


def test_markers_in_plain_prompts_are_text(node):
    answer = whole(node, "/v1/completions", {"model": "hermes", "prompt": "What is the weather?", "max_tokens": 100})
    assert answer["choices"][0]["text"] == FAMILIES["hermes"][1]
