"""Continuations through the whole house: providers are killed at random moments under many streams, and every consumer reads exactly
what it would have read. DARKBLOOM_FAILOVER_KILLS says how many streams must have lost their provider (default 20); the share that went
on exactly is printed as `bench failover_exact_coordinator_pct` (run with -s)."""

import os
import random
import threading

import pytest

from harness import PATIENCE
from test_failover import contents, in_background, stream_events

KILLS = int(os.environ.get("DARKBLOOM_FAILOVER_KILLS", "20"))
STREAMS = 16
TOKENS = 120
WORDS = [f"word{n}" for n in range(37)]
SCRIPT = {"text": " ".join(WORDS), "tokens": TOKENS, "token_delay_ms": 10, "max_concurrency": 64}


def one_round(node, victim, rng):
    """Kills the victim under streams that began together; returns their texts."""
    seen, reached, at = 0, threading.Event(), rng.randrange(STREAMS, STREAMS * TOKENS // 3)
    lock = threading.Lock()

    def read():
        nonlocal seen
        events = []
        for event in stream_events(node.client, "scripted", max_tokens=1000):
            events.append(event)
            with lock:
                seen += 1
                if seen == at:
                    reached.set()
        return events
    reading = [in_background(read) for _ in range(STREAMS)]
    assert reached.wait(60 * PATIENCE)
    victim.kill()
    return [value() for value in reading]


@pytest.mark.slow
def test_every_stream_goes_on_exactly_wherever_its_provider_is_killed(coordinator, provider):
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    node = coordinator({"accounts": {"first_grant_usd": "100000"}})
    alive = [provider(node, SCRIPT), provider(node, SCRIPT)]
    wanted = [WORDS[n % len(WORDS)] for n in range(TOKENS)]
    streams = exact = 0

    def lost():
        return int(node.metrics()['darkbloom_resumed_total{outcome="tried"}'])
    while lost() < KILLS:
        victim = alive.pop(rng.randrange(2))
        for events in one_round(node, victim, rng):
            streams += 1
            right = contents(events).split() == wanted and events[-1] == "[DONE]"
            exact += right
            assert right, f"seed {seed}: {events[-2:]}"
        alive.append(provider(node, SCRIPT))
    print(f"\nbench failover_exact_coordinator_pct {100 * exact / streams:.4f} %  ({lost()} continued of {streams} streams, seed {seed})")
    node.check_books()
    paid = node.usage()
    assert len({row["job_id"] for row in paid}) == len(paid) and all(row["completion_tokens"] == TOKENS for row in paid)
