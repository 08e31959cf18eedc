"""Several answers to one request, as the OpenAI SDK sees them: whole, streamed, cut short, and what they cost."""

import openai
import pytest

from harness import MODEL, PATIENCE, wait_until
from python_provider import PythonProvider

N = 3
ASK = [{"role": "user", "content": "Name three colours."}]


def sdk(node):
    return openai.OpenAI(base_url=node.url + "/v1", api_key=node.key, max_retries=0, timeout=60 * PATIENCE)


def told(stream):
    """The text and the ends of every choice, and the usages, of a stream; roles come first, ends before the usage."""
    texts, ends, usages, roles = [""] * N, [[] for _ in range(N)], [], set()
    for chunk in stream:
        if chunk.usage:
            usages.append(chunk.usage)
        for choice in chunk.choices:
            assert not usages
            if choice.delta.role:
                assert not texts[choice.index]
                roles.add(choice.index)
            assert choice.index in roles or not choice.delta.content
            texts[choice.index] += choice.delta.content or ""
            assert not ends[choice.index]
            if choice.finish_reason:
                ends[choice.index].append(choice.finish_reason)
    return texts, ends, usages


def test_several_answers_come_whole_and_count_their_prompt_once(coordinator, provider):
    node = coordinator()
    provider(node, {"text": "red green blue"})
    answer = sdk(node).chat.completions.create(model="scripted", messages=ASK, n=N)
    assert [choice.index for choice in answer.choices] == list(range(N))
    assert {choice.message.content for choice in answer.choices} == {"red green blue"}
    assert {choice.finish_reason for choice in answer.choices} == {"stop"}
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 3 * N)
    rows = node.usage()
    assert [(row["prompt_tokens"], row["completion_tokens"]) for row in rows] == [(3, 3 * N)]
    node.check_books()


def test_several_answers_stream_side_by_side_and_each_ends_once(coordinator, provider):
    node = coordinator()
    provider(node, {"text": "red green blue"})
    texts, ends, usages = told(sdk(node).chat.completions.create(model="scripted", messages=ASK, n=N, stream=True, max_tokens=2,
                                                                  stream_options={"include_usage": True}))
    assert [text.split() for text in texts] == [["red", "green"]] * N
    assert ends == [["length"]] * N
    assert [usage.completion_tokens for usage in usages] == [2 * N]


def test_several_completions_of_one_prompt(coordinator, provider):
    node = coordinator()
    provider(node, {"text": "red green blue"})
    answer = sdk(node).completions.create(model="scripted", prompt="Name three colours.", n=N)
    assert [(choice.index, choice.text, choice.finish_reason) for choice in answer.choices] == [(i, "red green blue", "stop") for i in range(N)]


def test_the_hold_covers_every_answer(coordinator, provider):
    """A little money holds one answer's worth, not eight times as much."""
    node = coordinator({"pricing": {"input_price": 3_000_000, "output_price": 20_000_000}, "accounts": {"first_grant_usd": "0.01"}})
    provider(node, {"text": "red green blue"})
    asked = {"model": "scripted", "messages": ASK, "max_tokens": 100}
    with pytest.raises(openai.APIStatusError) as refused:
        sdk(node).chat.completions.create(**asked, n=8)
    assert refused.value.status_code == 402
    assert sdk(node).chat.completions.create(**asked).choices[0].message.content
    node.check_books()


def test_a_consumer_that_leaves_several_answers_pays_for_what_came(coordinator, provider):
    node = coordinator()
    provider(node, {"text": "w", "tokens": 100000, "token_delay_ms": 20})
    stream = sdk(node).chat.completions.create(model="scripted", messages=ASK, n=N, stream=True)
    for seen, _ in enumerate(stream):
        if seen > 12:
            break
    stream.close()
    node.wait_idle()
    wait_until(lambda: node.usage(), "the cut answer to be billed")
    [row] = node.usage()
    assert 0 < row["completion_tokens"] < 20000
    node.check_books()


def test_a_provider_that_cannot_give_several_answers_is_not_asked(coordinator):
    """One that never said it can would answer once, and the others would be missing."""
    node = coordinator()
    older = PythonProvider(node)
    older.start()
    try:
        node.wait_routable(older.model)
        assert node.chat(older.model).status_code == 200
        assert node.chat(older.model, n=2).status_code == 503
        assert len(older.prompts) == 1
    finally:
        older.stop()


def test_real_model_gives_several_answers_that_differ(coordinator, provider):
    node = coordinator()
    provider(node)
    asked = {"model": MODEL, "messages": ASK, "n": N, "temperature": 1.0, "seed": 7, "max_tokens": 24}
    whole = sdk(node).chat.completions.create(**asked)
    assert len({choice.message.content for choice in whole.choices}) > 1
    texts, ends, usages = told(sdk(node).chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert [len(end) for end in ends] == [1] * N
    assert all(texts)
    assert usages[0].prompt_tokens == whole.usage.prompt_tokens
    assert usages[0].completion_tokens <= 24 * N
    node.check_books()
