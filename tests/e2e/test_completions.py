"""/v1/completions: the OpenAI Python SDK, unchanged, real text_completion objects, and prompts that no template touches."""

import json

import openai
from openai.types import Completion

from harness import MODEL, PATIENCE
from python_provider import PythonProvider, wait_standing

REQUIRED = {"id", "object", "created", "model", "choices"}


def sdk(coordinator):
    return openai.OpenAI(base_url=coordinator.url + "/v1", api_key=coordinator.key, max_retries=0, timeout=60 * PATIENCE)


def post(coordinator, **body):
    return coordinator.client.post("/v1/completions", json=body)


def stream(coordinator, **body):
    with coordinator.client.stream("POST", "/v1/completions", json={**body, "stream": True}) as response:
        assert response.status_code == 200, response.read()
        data = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]
    assert data[-1] == "[DONE]" and data.count("[DONE]") == 1
    return [json.loads(line) for line in data[:-1]]


def test_whole_and_streamed_answers_are_text_completions(coordinator, provider):
    node = coordinator()
    provider(node, {"text": "one two three four"})
    raw = post(node, model="scripted", prompt="hello there")
    assert raw.status_code == 200, raw.text
    answer = raw.json()
    Completion.model_validate(answer)
    assert (answer["object"], answer["model"], answer["id"][:5]) == ("text_completion", "scripted", "cmpl-")
    assert answer["choices"] == [{"text": "one two three four", "index": 0, "logprobs": None, "finish_reason": "stop"}]
    assert answer["usage"] == {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}
    assert raw.headers["x-timing"] and raw.headers["x-provider-id"] and raw.headers["x-inference-job-id"]
    chunks = stream(node, model="scripted", prompt="hello there")
    assert all(REQUIRED <= chunk.keys() and chunk["object"] == "text_completion" and len(chunk["choices"]) == 1 for chunk in chunks)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "one two three four"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert [chunk["usage"]["completion_tokens"] for chunk in chunks if "usage" in chunk] == [4]
    chunks = stream(node, model="scripted", prompt="hello there", stream_options={"include_usage": True})
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["total_tokens"] == 6
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    node.check_books()


def test_sdk_reads_both_forms(coordinator, provider):
    node = coordinator()
    provider(node, {"text": "one two three four"})
    answer = sdk(node).completions.create(model="scripted", prompt="x", max_tokens=2)
    assert (answer.choices[0].text.split(), answer.choices[0].finish_reason) == (["one", "two"], "length")
    said = [chunk.choices[0].text for chunk in sdk(node).completions.create(model="scripted", prompt="x", stop="three", stream=True)]
    assert "".join(said).strip() == "one two"


def test_several_prompts_are_answered_one_by_one_and_numbered_through(coordinator, provider):
    node = coordinator()
    provider(node, {})  # each prompt has an answer of its own
    prompts = ["first text", "second text here", [5, 6, 7]]
    alone = [post(node, model="scripted", prompt=prompt).json() for prompt in prompts]
    raw = post(node, model="scripted", prompt=prompts)
    answer = raw.json()
    Completion.model_validate(answer)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert [choice["text"] for choice in answer["choices"]] == [one["choices"][0]["text"] for one in alone]
    assert len({choice["text"] for choice in answer["choices"]}) == 3
    for count in ("prompt_tokens", "completion_tokens"):
        assert answer["usage"][count] == sum(one["usage"][count] for one in alone)
    node.wait_idle()
    assert node.usage()[0]["completion_tokens"] == answer["usage"]["completion_tokens"]
    twice = post(node, model="scripted", prompt=prompts[:2], n=2, echo=True).json()
    assert [choice["index"] for choice in twice["choices"]] == [0, 1, 2, 3]
    assert [choice["text"].startswith(prompts[choice["index"] // 2]) for choice in twice["choices"]] == [True] * 4
    said, ends = {}, {}
    for chunk in stream(node, model="scripted", prompt=prompts):
        for choice in chunk["choices"]:
            said[choice["index"]] = said.get(choice["index"], "") + choice["text"]
            ends[choice["index"]] = choice["finish_reason"] or ends.get(choice["index"])
    assert said == {choice["index"]: choice["text"] for choice in answer["choices"]} and set(ends.values()) == {"stop"}
    node.check_books()


def test_several_prompts_need_a_provider_that_takes_them(coordinator):
    node = coordinator()

    class OnePrompt(PythonProvider):
        def registration(self):
            return super().registration() | {"plain_prompts": True}

    one = OnePrompt(node)
    one.start()
    wait_standing(node, one.serial, "self_signed", "online")
    node.wait_routable(one.model)
    refused = post(node, model=one.model, prompt=["a", "b"])
    assert (refused.status_code, refused.json()["error"]["param"]) == (503, "prompt")
    one.stop()


def test_echo_puts_the_prompt_before_the_answer(coordinator, provider):
    node = coordinator()
    provider(node, {"text": "one two"})
    assert post(node, model="scripted", prompt="Say: ", echo=True).json()["choices"][0]["text"] == "Say: one two"
    chunks = stream(node, model="scripted", prompt=["Say: "], echo=True)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "Say: one two"


def test_tokens_are_a_prompt_too(coordinator, provider):
    node = coordinator()
    provider(node, {"text": "ok"})
    for prompt in ([1, 2, 3], [[1, 2, 3]]):
        assert post(node, model="scripted", prompt=prompt).json()["usage"]["prompt_tokens"] == 3


def test_the_real_model_goes_on_with_the_text_as_it_stands(coordinator, provider):
    node = coordinator()
    provider(node)
    plain = post(node, model=MODEL, prompt="The capital of France is", max_tokens=8, temperature=0, logprobs=2).json()
    choice = plain["choices"][0]
    assert "Paris" in choice["text"]
    assert plain["usage"]["prompt_tokens"] < 8, "no template's markers around it"
    probabilities = choice["logprobs"]
    assert "".join(probabilities["tokens"]) == choice["text"]
    assert len(probabilities["token_logprobs"]) == len(probabilities["tokens"]) == len(probabilities["text_offset"]) == 8
    assert all(len(top) in (1, 2) for top in probabilities["top_logprobs"])
    assert [choice["text"][at:].startswith(token) for at, token in zip(probabilities["text_offset"], probabilities["tokens"])] == [True] * 8
    Completion.model_validate(plain)
    pieces = stream(node, model=MODEL, prompt="The capital of France is", max_tokens=8, temperature=0, logprobs=2)
    assert "".join(piece["choices"][0]["text"] for piece in pieces) == choice["text"]
    offsets = [at for piece in pieces if piece["choices"][0]["logprobs"] for at in piece["choices"][0]["logprobs"]["text_offset"]]
    assert offsets == probabilities["text_offset"]
    unknown = post(node, model=MODEL, prompt=[1, 2, 2_000_000_000])
    assert (unknown.status_code, unknown.json()["error"]["type"]) == (400, "invalid_request_error")
    node.check_books()


def test_a_provider_that_takes_no_plain_prompt_never_gets_one(coordinator):
    node = coordinator()
    older = PythonProvider(node)
    older.start()
    try:
        wait_standing(node, older.serial, "self_signed", "online")
        node.wait_routable(older.model)
        answer = post(node, model=older.model, prompt="x")
        assert (answer.status_code, answer.json()["error"]["type"]) == (503, "model_unavailable")
        assert older.prompts == []
    finally:
        older.stop()


REFUSED = [
    ({}, "prompt"),
    ({"messages": [{"role": "user", "content": "x"}]}, "messages"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": 5}, "prompt"),
    ({"prompt": [1, "a"]}, "prompt"),
    ({"prompt": [1, -1]}, "prompt"),
    ({"prompt": ["a", ""]}, "prompt"),
    ({"prompt": ["a", [1]], "echo": True}, "echo"),
    ({"prompt": [["a"], ["b"]]}, "prompt"),
    ({"prompt": [["a"]]}, "prompt"),
    ({"prompt": ["a"] * 33}, "prompt"),
    ({"prompt": ["a"] * 5, "n": 8}, "n"),
    ({"prompt": "x", "suffix": "y"}, "suffix"),
    ({"prompt": "x", "best_of": 2}, "best_of"),
    ({"prompt": "x", "logprobs": 6}, "logprobs"),
    ({"prompt": "x", "logprobs": True}, "logprobs"),
    ({"prompt": "x", "echo": 1}, "echo"),
    ({"prompt": "x", "echo": True, "logprobs": 1}, "echo"),
    ({"prompt": [1, 2], "echo": True}, "echo"),
    ({"prompt": "x", "tools": []}, "tools"),
    ({"prompt": "x", "response_format": {"type": "json_object"}}, "response_format"),
    ({"prompt": "x", "max_tokens": 0}, "max_tokens"),
    ({"prompt": "x", "temperature": -1}, "temperature"),
    ({"prompt": "x", "stop": ""}, "stop"),
]


def test_what_cannot_be_done_is_refused_with_the_parameter(coordinator):
    node = coordinator()
    before = node.balance()
    for body, param in REFUSED:
        answer = post(node, model="scripted", **body)
        error = answer.json()["error"]
        assert (answer.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param), (body, answer.text)
    assert node.balance() == before


def test_the_dialect_follows_the_path(coordinator):
    node = coordinator()
    for path, body, param in (
            ("/v1/chat/completions", {"input": "x"}, "input"),
            ("/v1/chat/completions", {"prompt": "x", "endpoint": "/v1/completions"}, "prompt"),
            ("/v1/responses", {"messages": [{"role": "user", "content": "x"}]}, "messages"),
            ("/v1/completions", {"messages": [{"role": "user", "content": "x"}]}, "messages")):
        answer = node.client.post(path, json={"model": "scripted", **body})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
