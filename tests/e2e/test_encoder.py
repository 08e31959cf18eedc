"""Embeddings of a model that is made for nothing else: an encoder of the BERT kind. Its vectors are those that numpy computes from
the same weights, whatever way a text comes."""

import base64
import subprocess
import sys

import numpy
import openai
import pytest

from harness import BIN, PATIENCE, TOP, environment

sys.path.insert(0, str(TOP / "tests/models"))
import tiny_bert  # noqa: E402

TEXTS = ["The quick dog walked.", "a", "Ships fell, quickly!", "caf\u00e9 \u2028 the  MARKET\u00e9\u0301's \u4e2d park?"]


@pytest.fixture(scope="module")
def node(house, tmp_path_factory):
    made = house.coordinator()
    folder = tmp_path_factory.mktemp("bert")
    for pooling in ("mean", "cls"):
        tiny_bert.write(str(folder / f"{pooling}.gguf"), pooling)
        subprocess.run([BIN / "darkbloom", "models", "pull", folder / f"{pooling}.gguf", "--id", pooling, "--models-dir", folder / "models"], check=True,
                       capture_output=True, env=environment(folder), timeout=60 * PATIENCE)
    house.provider("mean", options=["--model", "cls"], models_dir=folder / "models")
    return made


@pytest.fixture
def sdk(node):
    return openai.OpenAI(base_url=node.url + "/v1", api_key=node.key, max_retries=0, timeout=60 * PATIENCE)


def close(given, tokens, pooling):
    """The engine's table of the activation has half precision: the third digit may differ."""
    expected = tiny_bert.vector(tokens, pooling)
    return len(given) == len(expected) and float(numpy.abs(numpy.array(given) - expected).max()) < 4e-3


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_vectors_are_those_of_an_independent_computation_in_order(sdk, pooling):
    answer = sdk.embeddings.create(model=pooling, input=TEXTS, encoding_format="float")
    expected = [tiny_bert.pieces(text) for text in TEXTS]
    assert tiny_bert.IDS["[UNK]"] in expected[3] and len(expected[1]) == 3
    assert [one.index for one in answer.data] == list(range(len(TEXTS)))
    for one, tokens in zip(answer.data, expected):
        assert close(one.embedding, tokens, pooling)
        assert abs(float(numpy.linalg.norm(one.embedding)) - 1) < 1e-4
    assert not close(answer.data[0].embedding, expected[2], pooling), "texts differ"
    assert answer.usage.prompt_tokens == sum(map(len, expected))


def test_tokens_and_base64_say_the_same(node, sdk):
    tokens = tiny_bert.pieces(TEXTS[0])
    text = sdk.embeddings.create(model="mean", input=TEXTS[0], encoding_format="float").data[0].embedding
    given = sdk.embeddings.create(model="mean", input=[tokens], encoding_format="float").data[0].embedding
    assert given == text
    packed = node.client.post("/v1/embeddings", json={"model": "mean", "input": TEXTS[0], "encoding_format": "base64"}).json()
    assert numpy.array_equal(numpy.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), "<f4"), numpy.array(text, "<f4"))


def test_a_batch_of_many_keeps_its_order(sdk):
    texts = ["the ship" + " runs" * (at % 7) for at in range(40)]
    answer = sdk.embeddings.create(model="mean", input=texts, encoding_format="float")
    assert len(answer.data) == 40
    for at in (0, 5, 6, 7, 39):
        assert close(answer.data[at].embedding, tiny_bert.pieces(texts[at]), "mean")


def test_the_context_is_the_border(sdk):
    most = "dog " * (tiny_bert.CONTEXT - 2)
    assert sdk.embeddings.create(model="mean", input=most).usage.prompt_tokens == tiny_bert.CONTEXT
    with pytest.raises(openai.APIStatusError) as refused:  # another provider may have more context: 400, or 429 when there was none
        sdk.embeddings.create(model="mean", input=most + "dog")
    assert refused.value.status_code in (400, 429)
    assert f"context length of this model is {tiny_bert.CONTEXT} tokens" in refused.value.body["message"]


def test_chat_is_refused_and_costs_nothing(node):
    before = node.balance()
    refused = node.chat("mean", "Hello?")
    assert refused.status_code in (400, 404)
    assert "embeddings" in refused.json()["error"]["message"], refused.text
    assert node.balance() == before
