"""The JavaScript SDKs, LangChain and curl, unchanged, against the whole private path: whole answers, streams, tools, structured
output, aborts, time limits, retries. The Python SDKs have files of their own."""

import json
import subprocess

import langchain_anthropic
import langchain_openai
import openai
import pytest
from langchain_core.messages import HumanMessage, ToolMessage

from harness import MODEL, PATIENCE, run_node, wait_until
from python_provider import PythonProvider, wait_standing

ADD = {"name": "add", "description": "adds", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}}


class Answering(PythonProvider):
    """Frames of our own making in place of a text."""

    def chunks(self, request):
        raise NotImplementedError

    def frames(self, request):
        head = {"id": "chatcmpl-py", "created": 1767225600, "model": self.model, "object": "chat.completion.chunk"}
        said = [head | {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]} for delta, reason in self.chunks(request)]
        said.append(head | {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 9, "total_tokens": 14}})
        return [f"data: {json.dumps(frame)}\n\n" for frame in said] + ["data: [DONE]\n\n"]


class Tooling(Answering):
    """Thinks, then calls two tools at once, their arguments in pieces; told the results, it says them."""

    def chunks(self, request):
        results = [message["content"] for message in request["messages"] if message["role"] == "tool"]
        yield {"role": "assistant", "content": ""}, None
        if results:
            yield {"content": "The results are " + " and ".join(results) + "."}, None
            yield {}, "stop"
            return
        yield {"reasoning_content": "I need to add."}, None
        for index, (a, b) in enumerate([(1, 2), (3, 4)]):
            yield {"tool_calls": [{"index": index, "id": f"call_{index}", "type": "function", "function": {"name": "add", "arguments": ""}}]}, None
            for piece in (f'{{"a": {a},', f' "b": {b}}}'):
                yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}, None
        yield {}, "tool_calls"


class Busy(PythonProvider):
    """Has no room for every first of two requests."""

    def serve(self, request_id, request, box):
        if len(self.prompts) % 2:
            self.send({"type": "inference_error", "request_id": request_id, "error": "queue full", "status_code": 429})
        else:
            super().serve(request_id, request, box)


@pytest.fixture(scope="module")
def node(house):
    made = house.coordinator()
    house.provider(MODEL, options=["--embeddings"])
    house.provider("plain", {"text": "one two three"})
    house.provider("slow", {"text": "word", "tokens": 20000, "token_delay_ms": 20})
    others = [Tooling(made, "PY0001", "tooling").start(), Busy(made, "PY0002", "busy").start()]
    for other in others:
        wait_standing(made, other.serial, "self_signed", "online")
        made.wait_routable(other.model)
    yield made
    for other in others:
        assert other.failure is None
        other.stop()


def run(script, node, tmp_path):
    lines = run_node(script, tmp_path, BASE_URL=node.url, API_KEY=node.key, REAL_MODEL=MODEL, PATIENCE=str(PATIENCE))
    return {line.pop("test"): line for line in lines}


def test_openai_in_javascript(node, tmp_path):
    said = run("openai.mjs", node, tmp_path)
    assert said["whole"]["text"] == said["stream"]["text"] == "one two three"
    assert said["whole"]["reason"] == "stop"
    assert said["whole"]["usage"]["completion_tokens"] == said["stream"]["usage"]["completion_tokens"] == 3
    assert said["tools_stream"] == {"reason": "tool_calls", "calls": [["call_0", "add", {"a": 1, "b": 2}], ["call_1", "add", {"a": 3, "b": 4}]]}
    assert said["tools_whole"]["text"] == "The results are 3 and 7."
    assert said["structured"]["keys"] == ["city", "country"]
    assert said["responses"] == {"text": "one two three", "streamed": "one two three", "status": "completed"}
    assert said["completions"]["text"] == "one two three"
    assert said["embeddings"]["sizes"] == [576, 576]
    assert {"plain", "slow", "tooling", "busy", MODEL} <= set(said["models"]["listed"])
    assert said["models"]["one"] == "plain"
    assert said["abort"]["seen"] >= 5
    assert said["errors"]["failures"] == [["timeout", "APIConnectionTimeoutError", None, None, None], ["key", "AuthenticationError", 401, "authentication_error", None],
                                          ["model", "NotFoundError", 404, "model_not_found", "model"],
                                          ["messages", "BadRequestError", 400, "invalid_request_error", "messages"]]
    assert said["retry"]["text"] == "Hello there!"
    wait_until(lambda: node.metrics()["darkbloom_jobs_open"] == 0, "aborted requests to end")


def test_anthropic_in_javascript(node, tmp_path):
    said = run("anthropic.mjs", node, tmp_path)
    assert said["whole"] == {"text": "one two three", "reason": "end_turn", "usage": [1, 3]}
    assert said["stream"]["events"] == ["message_start", "content_block_start", *["content_block_delta"] * 3, "content_block_stop", "message_delta", "message_stop"]
    assert said["tools_stream"]["reason"] == "tool_use"
    assert said["tools_stream"]["blocks"] == ["thinking", "tool_use", "tool_use"]
    assert said["tools_stream"]["inputs"] == [["call_0", "add", {"a": 1, "b": 2}], ["call_1", "add", {"a": 3, "b": 4}]]
    assert said["tools_whole"]["text"] == "The results are 3 and 7."
    assert said["structured"]["keys"] == ["city"]
    assert said["count"]["tokens"] > 3
    assert "plain" in said["models"]["listed"]
    assert said["models"]["one"] == "plain"
    assert said["abort"]["kind"] == "APIUserAbortError"
    assert said["errors"]["failures"] == [["timeout", "APIConnectionTimeoutError", None, None, True],
                                          ["key", "AuthenticationError", 401, "authentication_error", True],
                                          ["model", "NotFoundError", 404, "not_found_error", True],
                                          ["messages", "BadRequestError", 400, "invalid_request_error", True]]
    assert said["retry"]["text"] == "Hello there!"
    wait_until(lambda: node.metrics()["darkbloom_jobs_open"] == 0, "aborted requests to end")


def chat_models(node, model, **more):
    limits = {"max_retries": 4, "timeout": 60 * PATIENCE, "api_key": node.key, **more}
    return {"openai": langchain_openai.ChatOpenAI(model=model, base_url=node.url + "/v1", **limits),
            "responses": langchain_openai.ChatOpenAI(model=model, base_url=node.url + "/v1", use_responses_api=True, **limits),
            "anthropic": langchain_anthropic.ChatAnthropic(model=model, base_url=node.url, max_tokens=2000, **limits)}


@pytest.mark.parametrize("dialect", ["openai", "responses", "anthropic"])
def test_langchain_speaks_each_dialect(node, dialect):
    chat = chat_models(node, "plain")[dialect]
    answer = chat.invoke("hello")
    assert answer.text == "one two three"
    assert answer.usage_metadata["output_tokens"] == 3
    assert "".join(chunk.text for chunk in chat.stream("hello")) == "one two three"


@pytest.mark.parametrize("dialect", ["openai", "responses", "anthropic"])
def test_langchain_calls_tools(node, dialect):
    chat = chat_models(node, "tooling")[dialect].bind_tools([ADD])
    question = [HumanMessage("1 and 2?")]
    called = chat.invoke(question)
    assert [(call["name"], call["args"]) for call in called.tool_calls] == [("add", {"a": 1, "b": 2}), ("add", {"a": 3, "b": 4})]
    results = [ToolMessage(str(call["args"]["a"] + call["args"]["b"]), tool_call_id=call["id"]) for call in called.tool_calls]
    assert chat.invoke([*question, called, *results]).text == "The results are 3 and 7."


def test_langchain_retries_when_told_to(node):
    assert chat_models(node, "busy")["openai"].invoke("hello").text == "Hello there!"
    assert chat_models(node, "busy")["anthropic"].invoke("hello").text == "Hello there!"


def test_langchain_embeds(node):
    vectors = langchain_openai.OpenAIEmbeddings(model=MODEL, base_url=node.url + "/v1", api_key=node.key, check_embedding_ctx_length=False)
    assert [len(vector) for vector in vectors.embed_documents(["one", "two"])] == [576, 576]


def test_python_sdk_retries_when_told_to(node):
    client = openai.OpenAI(base_url=node.url + "/v1", api_key=node.key, max_retries=4, timeout=60 * PATIENCE)
    assert client.chat.completions.create(model="busy", messages=[{"role": "user", "content": "x"}]).choices[0].message.content == "Hello there!"


def curl(node, path, body, *options):
    result = subprocess.run(["curl", "-sS", "--max-time", str(60 * PATIENCE), node.url + path, "-H", "Content-Type: application/json", "-d", json.dumps(body), *options],
                            capture_output=True, text=True, timeout=90 * PATIENCE)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_curl_needs_nothing_else(node):
    bearer, key = ("-H", f"Authorization: Bearer {node.key}"), ("-H", f"x-api-key: {node.key}")
    said = [{"role": "user", "content": "hello"}]
    assert json.loads(curl(node, "/v1/chat/completions", {"model": "plain", "messages": said}, *bearer))["choices"][0]["message"]["content"] == "one two three"
    assert curl(node, "/v1/chat/completions", {"model": "plain", "messages": said, "stream": True}, "-N", *bearer).rstrip().endswith("data: [DONE]")
    message = {"model": "plain", "max_tokens": 9, "messages": said}
    assert json.loads(curl(node, "/v1/messages", message, *key))["content"][0]["text"] == "one two three"
    assert curl(node, "/v1/messages", message | {"stream": True}, "-N", *key).rstrip().endswith('data: {"type":"message_stop"}')
    assert json.loads(curl(node, "/v1/responses", {"model": "plain", "input": "hello"}, *bearer))["status"] == "completed"
    assert json.loads(curl(node, "/v1/completions", {"model": "plain", "prompt": "hello"}, *bearer))["choices"][0]["text"] == "one two three"
    assert len(json.loads(curl(node, "/v1/embeddings", {"model": MODEL, "input": "hello"}, *bearer))["data"]) == 1
