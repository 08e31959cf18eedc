"""Every class of a provider's failure before content (routing 10, 11.2): who is asked next, what the consumer hears, who is blamed; and
what cannot be continued after content is not."""

import json

import pytest

from harness import wait_until
from python_provider import PythonProvider
from test_failover import stream_events
from test_sick_providers import BREAKERS, join, routes, start  # noqa: F401  join is a fixture

MACHINES = 5


class Refuses(PythonProvider):
    how = (500, "internal error")

    def serve(self, request_id, request, box):
        status, text = self.how
        self.send({"type": "inference_error", "request_id": request_id, "error": text, "status_code": status})


def kind(status, text):
    return type("Refuses", (Refuses,), {"how": (status, text)})


# what the provider says, how many of five are asked, what the consumer hears
CLASSES = [
    # a fault: everybody is asked
    (500, "internal error", MACHINES, 500), (502, "boom", MACHINES, 502), (504, "boom", MACHINES, 504), (503, "boom", MACHINES, 503),
    (400, "decryption failed", MACHINES, 502),  # no consumer wrote that
    # no room: three are
    (503, "server busy", 3, 429), (429, "boom", 3, 429), (500, "token_budget_exhausted", 3, 429),
    # no room anywhere, and requests that are wrong: nobody else is
    (503, "prompt exceeds the context window", 1, 429),
    (400, "bad request", 1, 400), (413, "too much", 1, 413), (422, "bad structured output", 1, 422), (403, "not this", 1, 400),
]


def test_each_class_is_retried_or_ended_as_it_should_be_and_nobody_pays(coordinator, join):  # noqa: F811
    node = start(coordinator)
    before = node.balance()
    for number, (status, text, asked, heard) in enumerate(CLASSES):
        machines = [join(node, kind(status, text), serial=f"M{number}-{i}") for i in range(MACHINES)]
        answer = node.chat("scripted", max_tokens=3)
        [route] = routes(node)[:1]
        told = (status, text, answer.status_code, route["attempts"])
        assert answer.status_code == heard and route["attempts"] == asked, told
        assert ("retry-after" in answer.headers) == (heard in (429, 503)), told
        assert {one["end"] for one in route["tries"]} == {"failed"} and {one["status"] for one in route["tries"]} == {status}, told
        for machine in machines:
            machine.stop()
        node.wait_routable("scripted", 0)
    node.wait_idle()
    assert node.balance() == before and node.usage() == []
    node.check_books()


@pytest.mark.parametrize("how", [(400, "bad request"), (413, "too much"), (422, "bad structured output"), (403, "not this"),
                                 (503, "prompt exceeds the context window"), (503, "server busy"), (429, "slow down")])
def test_what_is_no_fault_of_a_machine_never_opens_a_breaker(coordinator, join, how):  # noqa: F811
    node = start(coordinator)
    join(node, kind(*how), serial="M")
    for _ in range(12):
        assert node.chat("scripted", max_tokens=3).status_code in (400, 413, 422, 429)
    assert not any(BREAKERS & set(route["passed_over"]) or route["probe"] or route["bypassed_breaker"] for route in routes(node))


class Breaks(PythonProvider):
    """Says how its answer can be continued, begins it, and is gone."""
    delta = {"content": "so far"}

    def registration(self):
        message = super().registration()
        message["models"][0]["capabilities"] = ["chat", "tools", "resume"]
        return message

    def serve(self, request_id, request, box):
        self.send({"type": "inference_accepted", "request_id": request_id})
        frame = json.dumps({"id": "x", "created": 1, "model": self.model, "object": "chat.completion.chunk",
                            "choices": [{"index": 0, "delta": self.delta, "finish_reason": None}]})
        self.send_chunk(request_id, box, f": resume 0123456789abcdef 7 8\ndata: {frame}\n\n")
        if "darkbloom_resume" not in request:
            self.send({"type": "inference_error", "request_id": request_id, "error": "internal error", "status_code": 500})
        else:
            self.send_chunk(request_id, box, "data: [DONE]\n\n")
            self.send(self.completion(request_id))


class BreaksInACall(Breaks):
    delta = {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{\"at\":"}}]}


@pytest.mark.parametrize("kind_of,goes_on", [(Breaks, True), (BreaksInACall, False)])
def test_an_answer_goes_on_elsewhere_unless_a_tool_call_was_begun(coordinator, join, kind_of, goes_on):  # noqa: F811
    node = start(coordinator)
    before = node.balance()
    machines = [join(node, kind_of, serial=f"M{i}") for i in range(2)]
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    events = list(stream_events(node.client, "scripted", tools=tools, max_tokens=20))
    asked = [json.loads(prompt) if isinstance(prompt, (str, bytes)) else prompt for machine in machines for prompt in machine.prompts]
    assert len(asked) == (2 if goes_on else 1), asked
    [route] = routes(node)
    if goes_on:
        assert events[-1] == "[DONE]" and route["resumed"]
        assert [one["end"] for one in route["tries"]] == ["lost", "answered"]
        assert [prompt["darkbloom_resume"]["tokens"] for prompt in asked if "darkbloom_resume" in prompt] == [[7, 8]]
    else:
        assert json.loads(events[-1])["error"]["type"] == "provider_error" and not route["resumed"]
        assert [one["end"] for one in route["tries"]] == ["lost"]
        wait_until(lambda: node.balance() == before, "the hold to be given back")
    node.check_books()
