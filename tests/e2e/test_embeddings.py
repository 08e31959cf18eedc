"""Embeddings with a real model: the vectors of each input, in both encodings, billed by their tokens; and exact token counts."""

import base64
import math
import struct

import anthropic
import openai
import pytest

from harness import MODEL, PATIENCE


@pytest.fixture(scope="module")
def node(house):
    made = house.coordinator()
    house.provider(MODEL, options=["--embeddings"])
    house.provider("plain", {"text": "one"})
    return made


@pytest.fixture(scope="module")
def sdk(node):
    return openai.OpenAI(base_url=node.url + "/v1", api_key=node.key, max_retries=0, timeout=60 * PATIENCE)


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def test_a_text_has_a_vector_of_length_one(node, sdk):
    before = node.balance()
    answer = sdk.embeddings.create(model=MODEL, input="The capital of France is Paris.")
    assert answer.object == "list"
    assert answer.model == MODEL
    assert [(one.object, one.index) for one in answer.data] == [("embedding", 0)]
    assert len(answer.data[0].embedding) == 576  # the width of SmolLM2-135M
    assert abs(math.sqrt(sum(value * value for value in answer.data[0].embedding)) - 1) < 1e-4
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 3
    assert node.balance() < before
    row = node.usage()[0]
    assert (row["model"], row["prompt_tokens"], row["completion_tokens"]) == (MODEL, answer.usage.prompt_tokens, 0)


def test_vectors_come_in_the_order_of_the_inputs(sdk):
    texts = ["A dog runs in the park.", "The stock market fell today.", "A puppy plays outside."]
    together = [one.embedding for one in sdk.embeddings.create(model=MODEL, input=texts).data]
    for text, vector in zip(texts, together):
        alone = sdk.embeddings.create(model=MODEL, input=text).data[0].embedding
        assert cosine(alone, vector) > 0.9999
    assert cosine(together[0], together[2]) > cosine(together[0], together[1])


def test_both_encodings_say_the_same(node):
    answers = [node.client.post("/v1/embeddings", json={"model": MODEL, "input": "hello", "encoding_format": encoding}).json()
               for encoding in ("float", "base64")]
    floats, text = answers[0]["data"][0]["embedding"], answers[1]["data"][0]["embedding"]
    raw = base64.b64decode(text)
    decoded = struct.unpack(f"<{len(raw) // 4}f", raw)
    assert len(decoded) == len(floats)
    assert all(struct.pack("<f", one) == struct.pack("<f", other) for one, other in zip(floats, decoded))


def test_tokens_are_inputs_too(sdk):
    answer = sdk.embeddings.create(model=MODEL, input=[[1, 2, 3], [4, 5]])
    assert len(answer.data) == 2
    assert answer.usage.prompt_tokens == 5
    assert len(sdk.embeddings.create(model=MODEL, input=[1, 2, 3]).data) == 1


@pytest.mark.parametrize("change, param", [({"input": ""}, "input"), ({"input": []}, "input"), ({"input": [""]}, "input"), ({"input": None}, "input"),
                                           ({"input": [1.5]}, "input"), ({"input": [[-1]]}, "input"), ({"input": {"a": 1}}, "input"),
                                           ({"model": ""}, "model"), ({"encoding_format": "hex"}, "encoding_format"), ({"dimensions": 8}, "dimensions"),
                                           ({"stream": True}, "stream"), ({"user": 1}, "user")])
def test_what_is_wrong_is_refused_and_costs_nothing(node, change, param):
    before = node.balance()
    response = node.client.post("/v1/embeddings", json={"model": MODEL, "input": "hello"} | change)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert response.json()["error"]["param"] == param
    assert node.balance() == before


def test_a_token_that_the_model_does_not_know_is_refused(node):
    response = node.client.post("/v1/embeddings", json={"model": MODEL, "input": [99999999]})
    assert response.status_code == 400
    assert "does not know" in response.json()["error"]["message"]


def test_an_input_above_the_context_is_refused(node):
    response = node.client.post("/v1/embeddings", json={"model": MODEL, "input": "word " * 2400})
    assert response.status_code in (400, 429), response.text
    assert "context" in response.json()["error"]["message"]


def test_a_model_that_nobody_embeds_with_is_not_found(node, sdk):
    with pytest.raises(openai.NotFoundError) as caught:
        sdk.embeddings.create(model="plain", input="hello")
    assert caught.value.code == "model_not_found"
    assert "embeddings" in caught.value.body["message"]
    with pytest.raises(openai.NotFoundError):
        sdk.embeddings.create(model="no-such-model", input="hello")


def test_the_internal_endpoint_is_no_parameter(node):
    response = node.chat(MODEL, endpoint="/v1/embeddings")
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "endpoint"


def test_counted_tokens_are_those_of_an_answer_and_cost_nothing(node):
    client = anthropic.Anthropic(base_url=node.url, api_key=node.key, max_retries=0, timeout=60 * PATIENCE)
    said = {"model": MODEL, "system": "Be brief.", "messages": [{"role": "user", "content": "What is the capital of France?"}]}
    before, rows = node.balance(), len(node.usage())
    counted = client.messages.count_tokens(**said).input_tokens
    assert node.balance() == before
    assert len(node.usage()) == rows
    assert counted == client.messages.create(max_tokens=1, **said).usage.input_tokens
    with pytest.raises(anthropic.BadRequestError):
        client.messages.count_tokens(model=MODEL, messages=[])
