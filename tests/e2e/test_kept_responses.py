"""Answers of /v1/responses that are kept because their callers asked for it: found again, gone on from, deleted, sealed on disk."""

import json
import secrets

import httpx
import openai
import pytest
from openai.types.responses import ResponseItemList

import patient
from python_provider import PythonProvider, wait_standing
from test_login import PASSWORD, Browser
from test_privacy import files_below
from test_responses import check_object, post, sdk, stream


@pytest.fixture
def house(coordinator):
    """A coordinator with a provider that answers with the number of messages it was sent; bodies are in provider.prompts."""
    started = []

    def make(**config):
        class Counting(PythonProvider):
            def frames(self, request):
                text = f"{len(request['messages'])} messages"

                def chunk(delta, reason=None):
                    return "data: " + json.dumps({
                        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 5, "model": self.model,
                        "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}) + "\n\n"
                return [chunk({"role": "assistant", "content": ""}), chunk({"content": text}), chunk({}, "stop"),
                        'data: {"object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}\n\n']
        node = coordinator(config)
        one = Counting(node)
        started.append(one)
        one.start()
        wait_standing(node, one.serial, "self_signed", "online")
        node.wait_routable(one.model)
        return node, one
    yield make
    for one in started:
        one.stop()


def test_an_answer_is_kept_only_when_asked_for_and_found_as_it_was_given(house):
    node, one = house()
    api = sdk(node)
    silent = post(node, model=one.model, input="hi").json()
    assert silent["store"] is False
    assert node.client.get(f"/v1/responses/{silent['id']}").status_code == 404
    given = post(node, model=one.model, input="hi", store=True, metadata={"a": "b"}).json()
    assert given["store"] is True
    assert node.client.get(f"/v1/responses/{given['id']}").json() == given
    check_object(given)
    assert api.responses.retrieve(given["id"]).output_text == "1 messages"
    streamed = stream(node, model=one.model, input="hi", store=True)[-1][1]["response"]
    kept = node.client.get(f"/v1/responses/{streamed['id']}")
    assert kept.json() == streamed and kept.headers["cache-control"] == "no-store"
    node.check_books()


def test_a_conversation_goes_on_and_pays_for_what_came_before(house):
    node, one = house()
    api = sdk(node)
    first = api.responses.create(model=one.model, input="one", instructions="Be brief.", store=True)
    second = api.responses.create(model=one.model, input=[{"role": "user", "content": "two"}], previous_response_id=first.id, store=True)
    third = stream(node, model=one.model, input="three", previous_response_id=second.id)[-1][1]["response"]
    assert (first.output_text, second.output_text) == ("2 messages", "3 messages")
    assert third["previous_response_id"] == second.id and third["output"][0]["content"][0]["text"] == "5 messages"
    assert [(message["role"], message["content"]) for message in one.prompts[-1]["messages"]] == [
        ("user", "one"), ("assistant", "2 messages"), ("user", "two"), ("assistant", "3 messages"), ("user", "three")]
    assert "previous_response_id" not in one.prompts[-1] and "store" not in one.prompts[-1]
    node.check_books()


def test_input_items_are_complete_and_come_in_pages(house):
    node, one = house()
    api = sdk(node)
    answer = api.responses.create(model=one.model, store=True, input=[
        {"role": "user", "content": "one"}, {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "4"}])
    raw = node.client.get(f"/v1/responses/{answer.id}/input_items", params={"order": "asc"}).json()
    ResponseItemList.model_validate(raw)
    assert [item["type"] for item in raw["data"]] == ["message", "function_call", "function_call_output"]
    assert all(item["id"] and item["status"] == "completed" for item in raw["data"])
    assert raw["first_id"] == raw["data"][0]["id"] and raw["has_more"] is False
    paged = [item.id for item in api.responses.input_items.list(answer.id, limit=1, order="desc")]
    assert paged == [item["id"] for item in reversed(raw["data"])]
    for query in ({"limit": 0}, {"limit": 101}, {"limit": "x"}, {"order": "up"}, {"after": "none"}):
        refused = node.client.get(f"/v1/responses/{answer.id}/input_items", params=query)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, next(iter(query))), refused.text


def test_what_is_deleted_is_gone_and_nothing_goes_on_from_it(house):
    node, one = house()
    api = sdk(node)
    first = api.responses.create(model=one.model, input="one", store=True)
    second = api.responses.create(model=one.model, input="two", store=True, previous_response_id=first.id)
    gone = node.client.delete(f"/v1/responses/{first.id}")
    assert gone.json() == {"id": first.id, "object": "response", "deleted": True}
    assert node.client.delete(f"/v1/responses/{first.id}").status_code == 404
    before = node.balance()
    for lost in (first.id, second.id, "resp_unknown"):
        with pytest.raises(openai.BadRequestError) as refused:
            api.responses.create(model=one.model, input="x", previous_response_id=lost)
        assert (refused.value.code, refused.value.param) == ("previous_response_not_found", "previous_response_id")
    assert api.responses.retrieve(second.id).output_text == "3 messages"
    node.wait_idle()
    assert node.balance() == before
    node.check_books()


def test_no_other_account_sees_or_deletes_an_answer(house):
    node, one = house(accounts={"signup": "open"})
    answer = post(node, model=one.model, input="hi", store=True).json()
    stranger = Browser(node)
    stranger.logged_in(stranger.post("/v1/session/register", {"email": "a@example.test", "password": PASSWORD}))
    for method, path in (("GET", ""), ("GET", "/input_items"), ("DELETE", "")):
        assert stranger.send(method, f"/v1/responses/{answer['id']}{path}").status_code == 404
        assert patient.request(method, f"{node.url}/v1/responses/{answer['id']}{path}").status_code == 401
    assert node.client.get(f"/v1/responses/{answer['id']}").json() == answer
    stranger.client.close()


def test_what_is_kept_lies_sealed_on_disk_and_outlives_a_restart(house):
    node, one = house()
    canary = secrets.token_hex(24)
    answer = post(node, model=one.model, input=canary, store=True).json()
    assert node.client.get(f"/v1/responses/{answer['id']}/input_items").json()["data"][0]["content"][0]["text"] == canary
    node.restart()
    assert node.client.get(f"/v1/responses/{answer['id']}").json() == answer
    for path in files_below(node.data):
        assert canary.encode() not in path.read_bytes(), path
    assert canary not in node.log()


def test_a_coordinator_that_keeps_nothing_says_so(house):
    node, one = house(responses={"store": False})
    for body, param in (({"store": True}, "store"), ({"previous_response_id": "resp_1"}, "previous_response_id")):
        refused = post(node, model=one.model, input="hi", **body)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
        assert "keeps no answers" in refused.json()["error"]["message"]
    assert post(node, model=one.model, input="hi", store=False).status_code == 200
    assert node.client.get("/v1/responses/resp_1").status_code == 404


def test_answers_are_kept_in_postgresql_too(postgres, coordinator):
    node = coordinator(DARKBLOOM_STORE_URL=postgres.address)
    one = PythonProvider(node)
    one.start()
    wait_standing(node, one.serial, "self_signed", "online")
    node.wait_routable(one.model)
    first = post(node, model=one.model, input="hi", store=True).json()
    assert node.client.get(f"/v1/responses/{first['id']}").json() == first
    assert post(node, model=one.model, input="more", previous_response_id=first["id"], store=True).status_code == 200
    assert len(node.client.get(f"/v1/responses/{first['id']}/input_items").json()["data"]) == 1
    assert node.client.delete(f"/v1/responses/{first['id']}").json()["deleted"]
    assert node.client.get(f"/v1/responses/{first['id']}").status_code == 404
    one.stop()


@pytest.mark.parametrize("size", [10, 200_000])
def test_an_answer_is_found_by_whoever_asks_at_once(house, size):
    """Large records are sealed beside the loop: what comes behind them waits until they are there."""
    node, one = house()
    said = "word " * (size // 5)
    with httpx.Client(base_url=node.url, headers=node.client.headers, timeout=node.client.timeout) as other:
        for _ in range(5):
            first = post(node, model=one.model, input=said, store=True).json()
            assert other.get(f"/v1/responses/{first['id']}").json() == first
            second = post(node, model=one.model, input="more", previous_response_id=first["id"], store=True)
            assert second.status_code == 200, second.text
            assert [message["content"] for message in one.prompts[-1]["messages"]] == [said, "1 messages", "more"]
            gone = post(node, model=one.model, input=said, store=True).json()
            assert other.delete(f"/v1/responses/{gone['id']}").status_code == 200
            assert other.get(f"/v1/responses/{gone['id']}").status_code == 404


def test_a_large_answer_that_was_just_given_survives_the_end_of_the_coordinator(house):
    node, one = house()
    given = post(node, model=one.model, input="word " * 40_000, store=True).json()
    node.restart()
    assert node.client.get(f"/v1/responses/{given['id']}").json() == given
