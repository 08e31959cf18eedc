"""An answer that does not satisfy response_format is refused, in every dialect, and costs nothing."""

import json

import openai
import pytest

from harness import PATIENCE

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
FORMAT = {"type": "json_schema", "json_schema": {"name": "count", "strict": True, "schema": SCHEMA}}
ASK = [{"role": "user", "content": "How many?"}]


def sdk(node):
    return openai.OpenAI(base_url=node.url + "/v1", api_key=node.key, max_retries=0, timeout=60 * PATIENCE)


def test_a_whole_answer_of_another_form_is_422_and_free(coordinator, provider):
    node = coordinator()
    provider(node, {"text": "There are three of them."})
    before = node.balance()
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        sdk(node).chat.completions.create(model="scripted", messages=ASK, response_format=FORMAT)
    assert refused.value.body["type"] == "invalid_request_error"
    assert refused.value.body["param"] == "response_format"
    assert "does not satisfy response_format" in refused.value.body["message"]
    with pytest.raises(openai.UnprocessableEntityError):
        sdk(node).responses.create(model="scripted", input="How many?", text={"format": {"type": "json_schema", "name": "count", "strict": True, "schema": SCHEMA}})
    assert node.chat("scripted").status_code == 200  # nobody was blamed
    node.check_books()
    assert len(node.usage()) == 1 and node.balance() <= before


def test_an_answer_that_was_cut_is_given_as_far_as_it_came_and_billed(coordinator, provider):
    node = coordinator()
    provider(node, {"text": '{"n": 3 }'})
    asked = {"model": "scripted", "messages": ASK, "response_format": FORMAT, "max_tokens": 2}
    cut = sdk(node).chat.completions.create(**asked)
    assert (cut.choices[0].message.content, cut.choices[0].finish_reason) == ('{"n": 3 ', "length")
    assert cut.usage.completion_tokens == 2
    chunks = list(sdk(node).chat.completions.create(**asked, stream=True))
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason] == ["length"]
    stopped = sdk(node).chat.completions.create(**(asked | {"max_tokens": 20, "stop": "3"}))
    assert (stopped.choices[0].message.content, stopped.choices[0].finish_reason) == ('{"n": ', "stop")
    whole = sdk(node).chat.completions.create(**(asked | {"max_tokens": 20}))
    assert json.loads(whole.choices[0].message.content) == {"n": 3}
    assert whole.choices[0].finish_reason == "stop"
    node.wait_idle()
    assert len(node.usage()) == 4
    node.check_books()


def test_a_stream_of_another_form_ends_with_the_error(coordinator, provider):
    node = coordinator()
    provider(node, {"text": "There are three of them."})
    heard = []
    with pytest.raises(openai.APIError) as refused:
        for chunk in sdk(node).chat.completions.create(model="scripted", messages=ASK, response_format={"type": "json_object"}, stream=True):
            heard += [choice.finish_reason for choice in chunk.choices]
    assert "does not satisfy response_format" in str(refused.value)
    assert heard and not any(heard)
    node.wait_idle()
    assert node.usage() == []
    node.check_books()
