"""Sick machines among healthy ones: killed, frozen, slow, lying, flapping. Requests end well, each is paid for once, and blame goes to
the one that earned it (issue: breakers open for the sick and never for the healthy)."""

import threading
import time
from contextlib import contextmanager

import pytest

from harness import Failed, wait_until
from python_provider import PythonProvider, stop_joined
from test_failover import contents, in_background, stream_events

ADMIN = "an operator's key for sick machines"
BREAKERS = {"shape_breaker", "node_breaker", "load_cooldown"}


def start(coordinator, **limits):
    return coordinator({"accounts": {"admin_key": ADMIN, "first_grant_usd": "1000"}, "limits": limits})


def routes(node):
    """Newest first."""
    answer = node.client.get("/v1/admin/routes?limit=1000", headers={"Authorization": f"Bearer {ADMIN}"})
    assert answer.status_code == 200, answer.text
    return answer.json()["routes"]


def text_of(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["message"]["content"]


def check_paid_once(node, answers):
    """As many usage rows as answers, each of another request, and books that add up."""
    node.check_books()
    jobs = [row["job_id"] for row in node.usage()]
    assert len(jobs) == len(set(jobs)) == answers, jobs


@pytest.fixture
def join():
    joined = []

    def make(node, kind=PythonProvider, **more):
        before = node.routable("scripted")
        made = kind(node, model="scripted", **more).start()
        joined.append(made)
        wait_until(lambda: node.routable("scripted") == before + 1, f"{made.serial} to be routable")
        return made
    yield make
    stop_joined(joined)


def test_frozen_in_the_middle_another_goes_on_long_before_the_idle_timeout(coordinator, provider):
    node = start(coordinator, stall_timeout_s=6, idle_timeout_s=3600)
    words = "zero one two three four five six seven eight nine"
    frozen = provider(node, {"text": words, "tokens": 60, "token_delay_ms": 100})
    events = []
    for event in stream_events(node.client, "scripted"):
        events.append(event)
        if len(events) == 5:
            provider(node, {"text": words, "tokens": 60})
            frozen.freeze()
    frozen.thaw()
    assert contents(events).split() == [words.split()[i % 10] for i in range(60)] and events[-1] == "[DONE]"
    assert routes(node)[0]["resumed"] and routes(node)[0]["attempts"] == 2
    check_paid_once(node, 1)
    for _ in range(4):  # once is no habit: nobody is shut out
        assert node.chat("scripted", max_tokens=3).status_code == 200
    assert all(not BREAKERS & set(route["passed_over"]) for route in routes(node))


def test_a_machine_that_fails_is_shut_out_and_the_healthy_one_never_is(coordinator, provider):
    node = start(coordinator)
    provider(node, {"text": "x", "fail_status": 500, "fail_text": "internal error"})
    for _ in range(2):  # two strikes
        assert node.chat("scripted").status_code == 500
    healthy = provider(node, {"text": "healthy"})
    for _ in range(20):
        assert text_of(node.chat("scripted", max_tokens=2)).startswith("healthy")
    told = routes(node)[:20]
    assert all(route["attempts"] == 1 and not route["bypassed_breaker"] for route in told), "the sick one was asked again"
    assert len({route["provider"] for route in told}) == 1
    healthy.terminate()
    node.wait_routable("scripted", 0)
    assert node.chat("scripted").status_code == 500
    assert routes(node)[0]["bypassed_breaker"], "better a sick machine than none"
    check_paid_once(node, 20)


def test_what_the_client_did_wrong_shuts_nobody_out(coordinator, provider):
    node = start(coordinator)
    provider(node, {"text": "x", "fail_status": 400, "fail_text": "bad request"})
    for _ in range(12):
        assert node.chat("scripted").status_code == 400
    told = routes(node)
    assert all(route["attempts"] == 1 and not route["passed_over"] for route in told)
    check_paid_once(node, 0)


def test_a_slow_machine_is_overtaken_and_not_blamed(coordinator, provider):
    node = start(coordinator, hedge_percent=100, first_content_ms=600000)
    provider(node, {"text": "slow", "first_delay_ms": 3000})
    fast = provider(node, {"text": "fast"})
    answered = 0
    while not any(route["hedged"] for route in routes(node)):
        assert answered < 40, "the slow one was never the first choice"
        assert text_of(node.chat("scripted", max_tokens=2)).startswith("fast")
        answered += 1
    check_paid_once(node, answered)
    fast.terminate()
    node.wait_routable("scripted", 1)
    assert text_of(node.chat("scripted", max_tokens=2)).startswith("slow")
    assert all(not BREAKERS & set(route["passed_over"]) for route in routes(node))


class Liar(PythonProvider):
    """Claims to be the best machine there ever was, and to have done a million times the work."""
    busy = False

    def heartbeat(self):
        message = super().heartbeat()
        message["backend_capacity"] |= {"gpu_memory_active_gb": 0, "total_memory_gb": 1e9, "free_for_load_gb": 1e9}
        message["backend_capacity"]["slots"][0] |= {"max_concurrency": 1000000, "observed_decode_tps": 1e9, "observed_prefill_tps": 1e9,
                                                    "active_token_budget_used": 0, "active_token_budget_max": 10**15, "max_tokens_potential": 0}
        return message

    def registration(self):
        return super().registration() | {"decode_tps": 1e9, "prefill_tps": 1e9}

    def completion(self, request_id):
        return super().completion(request_id) | {"usage": {"prompt_tokens": 10**9, "completion_tokens": 10**9, "reasoning_tokens": 0}}

    def serve(self, request_id, request, box):
        if self.busy:
            self.send({"type": "inference_error", "request_id": request_id, "error": "server busy", "status_code": 503})
        else:
            super().serve(request_id, request, box)


def test_claimed_usage_is_bounded_by_what_came(coordinator, join, provider):
    node = start(coordinator)
    join(node, Liar, serial="LIAR")
    lied = node.chat("scripted", max_tokens=50)
    assert text_of(lied) == "Hello there!"
    [row] = node.usage()
    assert row["completion_tokens"] <= 50 and row["prompt_tokens"] < 5000, row
    assert lied.json()["usage"]["completion_tokens"] == row["completion_tokens"]
    check_paid_once(node, 1)


def test_claimed_room_that_is_not_there_costs_the_others_nothing(coordinator, join, provider):
    node = start(coordinator)
    liar = join(node, Liar, serial="LIAR")
    liar.busy = True
    provider(node, {"text": "honest"})
    for _ in range(20):
        assert text_of(node.chat("scripted", max_tokens=2)).startswith("honest")
    told = routes(node)
    assert all(not BREAKERS & set(route["passed_over"]) for route in told), "want of room shuts nobody out"
    assert all(route["capacity_failures"] <= 1 and route["attempts"] <= 2 for route in told)
    assert len(liar.got("inference_request")) >= 1
    check_paid_once(node, 20)
    liar.busy = False  # and it is still asked
    wait_until(lambda: node.chat("scripted", max_tokens=4).headers.get("x-provider-serial") == "LIAR", "the liar to answer", 60)


class Quitter(PythonProvider):
    """Delivers its whole answer, and then says that it failed."""

    def serve(self, request_id, request, box):
        self.send({"type": "inference_accepted", "request_id": request_id})
        for frame in self.frames(request)[:len(self.answer)]:
            self.send_chunk(request_id, box, frame)
        self.send({"type": "inference_error", "request_id": request_id, "error": "internal error", "status_code": 500})


def test_failing_on_purpose_after_the_answer_pays_nobody_is_seen_and_soon_over(coordinator, join, provider):
    """Who delivers everything and then fails gives answers away (billing 13.13): for a friend who wants no other to go on with them.
    It is the provider's own work, it costs nobody else, the operator sees who gave it to whom, and others get that machine no more."""
    node = start(coordinator)
    before = node.balance()
    join(node, Quitter, serial="QUITS")
    node.client.headers["X-Darkbloom-Resume"] = "off"

    def ask():
        return list(stream_events(node.client, "scripted", max_tokens=20))[-1] == "[DONE]"

    assert not any([ask(), ask(), ask()])
    node.wait_idle()
    assert node.balance() == before and node.usage() == []
    told = routes(node)
    assert len({(route["account_digest"], route["provider"]) for route in told}) == 1 and all(told[0][name] for name in ("account_digest", "provider"))
    for route in told:
        assert [(one["end"], one["status"]) for one in route["tries"]] == [("lost", 500)] and route["tries"][0]["tokens"] > 0, route
    provider(node, {"text": "honest work"})
    answered = [ask() for _ in range(20)].count(True)
    node.wait_idle()
    later = routes(node)[:20]
    assert all(route["provider"] != told[0]["provider"] or route["probe"] for route in later), "it was asked again before its time was over"
    assert answered == sum(route["provider"] != told[0]["provider"] for route in later) > 0
    check_paid_once(node, answered)
    assert before - node.balance() == sum(row["cost_micro_usd"] for row in node.usage()) == node.audit()["charged_micro_usd"]


def test_a_machine_that_comes_and_goes_loses_nothing_for_anybody(coordinator, provider):
    node = start(coordinator)
    words = "zero one two three four five six seven eight nine"
    provider(node, {"text": words, "tokens": 20, "token_delay_ms": 5})
    ended, answers, wrong = threading.Event(), [], []

    def ask():
        while not ended.is_set():
            events = list(stream_events(node.client, "scripted"))
            answers.append(events)
            if contents(events).split() != words.split() * 2 or events[-1] != "[DONE]":
                wrong.append(events[-3:])
    asking = [in_background(ask) for _ in range(3)]
    for _ in range(5):
        flapping = PythonProvider(node, serial="FLAP", model="scripted", answer=tuple(f"{word} " for word in words.split() * 2))
        flapping.start()
        asked = len(answers)
        wait_until(lambda: len(flapping.prompts) >= 1 or len(answers) > asked + 20, "the machine to be asked")
        flapping.stop()
        flapping.wait_closed()
    ended.set()
    for value in asking:
        value()
    told = routes(node)
    # A provider of another kind cannot go on where it left off: its streams may be lost after content, and say so.
    lost = [route for route in told if route["outcome"] != "success"]
    assert len(wrong) == len(lost), (wrong[:3], lost[:3])
    healthy = [route for route in told if route["outcome"] == "success"]
    assert len(healthy) == len(answers) - len(wrong) >= 1
    assert all(not route["bypassed_breaker"] for route in told), "the one that stays was shut out"
    check_paid_once(node, len(healthy))


@contextmanager
def pulse():
    """Notices when the whole machine stands still: how long at most, in seconds."""
    longest, ended = [0.0], threading.Event()

    def beat():
        last = time.monotonic()
        while not ended.wait(0.02):
            now = time.monotonic()
            longest[0], last = max(longest[0], now - last), now
    thread = threading.Thread(target=beat)
    thread.start()
    yield lambda: longest[0]
    ended.set()
    thread.join()


class Absorbed(PythonProvider):
    """Streams to its first caller and lets the second wait, without a word, until that has ended."""

    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.first_ended = threading.Event()
        self.second_asked = threading.Event()

    def serve(self, request_id, request, box):
        if len(self.prompts) > 1:
            self.second_asked.set()
            if not self.first_ended.wait(60):
                raise Failed("the first answer never ended")
            return super().serve(request_id, request, box)
        self.send({"type": "inference_accepted", "request_id": request_id})
        frames = self.frames(request)
        for frame in frames[:2]:
            self.send_chunk(request_id, box, frame)
        self.second_asked.wait(60)
        until = time.monotonic() + 2.5  # far beyond the deadline of the second
        while time.monotonic() < until:
            self.send_chunk(request_id, box, frames[1])
            time.sleep(0.05)
        for frame in frames[2:]:
            self.send_chunk(request_id, box, frame)
        self.send(self.completion(request_id))
        self.first_ended.set()


def test_a_machine_that_works_for_others_is_not_given_up_at_the_deadline(coordinator, join):
    for _ in range(6):  # a machine that stands still for half of the deadline tells nothing
        node = start(coordinator, first_content_ms=1000)
        machine = join(node, Absorbed)
        with pulse() as stood_still:
            first = in_background(lambda: node.chat("scripted", max_tokens=1000))
            wait_until(lambda: len(machine.prompts) == 1, "the first request")
            second = node.chat("scripted", max_tokens=5)
            first()
        if stood_still() < 0.5:
            break
    assert text_of(second) == "Hello there!"
    assert first().status_code == 200
    assert len(machine.got("inference_request")) == 2 and machine.got("cancel") == []
    assert node.metrics()["darkbloom_failovers_total"] == 0
    check_paid_once(node, 2)


def test_what_was_learnt_outlives_a_restart(coordinator, provider):
    """A machine that was shut out still is, and how long answers are is still known, however the coordinator ended."""
    node = coordinator({"accounts": {"admin_key": ADMIN, "first_grant_usd": "1000"}, "routing": {"memory_interval_s": 1}})
    provider(node, {"text": "x", "fail_status": 500, "fail_text": "internal error"})
    for _ in range(2):
        assert node.chat("scripted").status_code == 500
    provider(node, {"text": "healthy"})
    for _ in range(60):
        text_of(node.chat("scripted", max_tokens=500))
    learnt = routes(node)[0]["expected_tokens"]
    assert learnt < 60, "256 when nothing is known"
    memory = node.data / "routing_memory"
    for end in (node.kill, node.terminate):
        if end == node.kill:  # one that began after all that happened
            for _ in range(2):
                before = memory.stat().st_mtime_ns if memory.exists() else 0
                wait_until(lambda: memory.exists() and memory.stat().st_mtime_ns > before, "a snapshot")
        end()
        node.start()
        wait_until(lambda: len(node.providers()) == 2, "both to be back")
        node.wait_routable("scripted", 1)
        for _ in range(4):
            assert text_of(node.chat("scripted", max_tokens=500)).startswith("healthy")
        newest = routes(node)[:4]
        assert len({route["provider"] for route in newest}) == 1 and all(route["attempts"] == 1 for route in newest), newest
        assert newest[-1]["expected_tokens"] <= learnt + 5, newest
        assert node.routable("scripted") == 1
