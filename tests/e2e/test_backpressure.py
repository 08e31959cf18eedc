"""A consumer that stops reading: it gets every chunk and the usage in the end, or an honest error, never a gap; the coordinator's
memory stays bounded and nobody else notices."""

import http.client
import json
import socket
import time

import pytest

from harness import PATIENCE, SANITIZER, wait_until
from test_failover import in_background

MIB = 1024


class SlowReader:
    """A consumer over HTTP/1.1 with small receive buffers, so that the network between us hides nothing."""

    def __init__(self, node, model="swarm-model"):
        self.connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=120 * PATIENCE)
        self.connection.sock = socket.socket()
        self.connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        self.connection.sock.connect(("127.0.0.1", node.port))
        body = json.dumps({"model": model, "stream": True, "max_tokens": 40000, "messages": [{"role": "user", "content": "hello"}]})
        self.connection.request("POST", "/v1/chat/completions", body, {"Authorization": f"Bearer {node.key}", "Content-Type": "application/json"})
        self.response = self.connection.getresponse()
        assert self.response.status == 200, self.response.read()
        self.job = self.response.getheader("X-Inference-Job-ID")
        self.first = self.response.readline()

    def read_to_end(self):
        """The events of the whole stream as dicts, and whether [DONE] came."""
        data = (self.first + self.response.read()).decode()
        self.connection.close()
        events = [line.removeprefix("data: ") for line in data.split("\n") if line.startswith("data: ")]
        return [json.loads(event) for event in events if event != "[DONE]"], "[DONE]" in events


def numbers(events):
    """The numbers that the swarm's providers write at the head of each chunk's text."""
    texts = [choice["delta"].get("content") for event in events for choice in event.get("choices", [])]
    return [int(text.split()[0]) for text in texts if text]


def check_whole(events, done, chunks):
    assert numbers(events) == list(range(1, chunks + 1))
    assert [event["usage"]["completion_tokens"] for event in events if event.get("usage")] == [chunks]
    assert done
    return chunks


def check_honest(events, done, chunks):
    """Whole, or cut with an error: never a gap."""
    if done:
        return check_whole(events, done, chunks)
    seen = numbers(events)
    assert seen == list(range(1, len(seen) + 1)), "no gap"
    assert "error" in events[-1], events[-1]
    assert events[-1]["error"]["message"]
    assert not any(event.get("usage") for event in events)
    return len(seen)


RICH = {"accounts": {"first_grant_usd": "1000"}}  # more than the load can spend on any machine
CHUNKS = 40000
OTHERS = 500


def stall(node, swarm, seconds, chunks, check_brother, **options):
    """One consumer stalls in the middle of a burst, for so long at least, while others, on the same providers, go on. Returns what it got
    in the end. `check_brother(events, done, chunks)` says how many chunks of another, who reads all the time, count as delivered."""
    swarm(node, "providers", providers=1, chunks=chunks, chunk_bytes=24, **options)
    swarm(node, "providers", providers=1, chunks=8, model="brisk", first_index=50)
    node.wait_routable("swarm-model")
    node.wait_routable("brisk")
    before = node.rss_kib()
    slow = SlowReader(node)
    others = swarm(node, "load", model="brisk", clients=4, requests=OTHERS, stream=True)
    brother = SlowReader(node)
    brothers = in_background(brother.read_to_end)
    most = before
    until = time.monotonic() + seconds
    while time.monotonic() < until or others.alive():
        time.sleep(0.1)
        most = max(most, node.rss_kib())
    load = others.result()
    assert (load["ok"], load["failed"], load["incomplete"]) == (OTHERS, 0, 0), "others are served meanwhile"
    delivered = check_brother(*brothers(), chunks)
    if not SANITIZER:
        assert most - before < 40 * MIB, "the coordinator keeps no more than its buffer"
    events, done = slow.read_to_end()
    node.check_books()
    assert abs(node.billed(brother.job)["completion_tokens"] - delivered) <= (0 if delivered == chunks else 10)
    return events, done, node.billed(slow.job)["completion_tokens"]


def bear_with_credit(node, swarm, seconds):
    events, done, billed = stall(node, swarm, seconds, CHUNKS, check_whole)
    check_whole(events, done, CHUNKS)
    assert billed == CHUNKS


def bear_without_credit(node, swarm, seconds):
    # Nothing holds the provider back: also who reads all the time may fall behind it on a busy machine, and is cut honestly.
    events, done, billed = stall(node, swarm, seconds, CHUNKS, check_honest, no_credit=True)
    received = check_honest(events, done, CHUNKS)
    assert abs(billed - received) <= 10, "what was delivered is billed, and nothing else"


def test_with_credit_every_chunk_arrives(coordinator, swarm):
    bear_with_credit(coordinator(RICH), swarm, 3)


def test_without_credit_there_is_never_a_gap(coordinator, swarm):
    bear_without_credit(coordinator(RICH), swarm, 3)


@pytest.mark.slow
def test_so_it_is_when_the_consumer_stalls_for_long(coordinator, sides):
    def background(bear):
        node, (_, swarm) = coordinator(RICH), sides()
        return in_background(lambda: bear(node, swarm, 15))

    for done in [background(bear_with_credit), background(bear_without_credit)]:
        done()


def test_without_credit_a_short_answer_fits_the_buffer(coordinator, swarm):
    node = coordinator(RICH)
    swarm(node, "providers", providers=1, chunks=4000, no_credit=True)
    node.wait_routable("swarm-model")
    slow = SlowReader(node)
    time.sleep(1)
    check_whole(*slow.read_to_end(), 4000)
    node.check_books()


def test_real_provider_pauses_its_sequence(coordinator, provider):
    """The scripted engine runs in the real provider program: paused by credit, resumed by reading."""
    node = coordinator(RICH)
    provider(node, {"text": "word", "tokens": 40000})
    slow = SlowReader(node, "scripted")

    def stands_still():
        relayed = node.metrics()["darkbloom_relayed_chunks_total"]
        time.sleep(0.5)
        return node.metrics()["darkbloom_relayed_chunks_total"] == relayed and relayed
    assert 0 < wait_until(stands_still, "the sequence to stand still while nobody reads") < 40000
    assert node.chat("scripted", max_tokens=3).json()["usage"]["completion_tokens"] == 3, "another sequence does not"
    events, done = slow.read_to_end()
    assert done
    assert sum(len(text.split()) for event in events for choice in event.get("choices", []) if (text := choice["delta"].get("content"))) == 40000
    assert [event["usage"]["completion_tokens"] for event in events if event.get("usage")] == [40000]
    node.check_books()


def test_many_stalled_consumers_are_bounded_and_let_go(coordinator, swarm):
    node = coordinator({"limits": {"relay_buffer_kib": 256}})
    swarm(node, "providers", providers=2, chunks=20000, concurrency=24)
    node.wait_routable("swarm-model", 2)
    before = node.rss_kib()
    readers = [SlowReader(node) for _ in range(10)]
    time.sleep(2)
    if not SANITIZER:
        assert node.rss_kib() - before < 40 * MIB
    for reader in readers:
        reader.connection.close()
    node.check_books()
    node.wait_sent(0)
    rows = node.usage()
    assert len(rows) == 10
    assert max(row["completion_tokens"] for row in rows) < 20000, "what nobody read was not made"
