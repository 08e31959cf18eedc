"""A coordinator whose wall clock jumps a day forward and an hour back while it works: nothing of the books is lost or doubled."""

import datetime
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from harness import wait_until

HOUR, DAY = 3600, 86400
JUMPS = [DAY, DAY - HOUR, 0, -HOUR, 31 * DAY, 0]

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="the clock is put in front of glibc's")]


class Clock:
    """How far a program's wall clock is ahead."""

    def __init__(self, folder):
        self.library, self.file = folder / "clock_shim.so", folder / "ahead"
        source = Path(__file__).with_name("clock_shim.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-D_GNU_SOURCE", "-U_FORTIFY_SOURCE", "-o", self.library, source], check=True, timeout=120)
        self.file.write_bytes(struct.pack("q", 0))
        self.environment = {"LD_PRELOAD": str(self.library), "CLOCK_SHIM_FILE": str(self.file)}

    def set(self, seconds):
        with self.file.open("r+b") as file:
            file.write(struct.pack("q", seconds))


def hours_ahead(text):
    at = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return round((at - datetime.datetime.now(datetime.timezone.utc)).total_seconds() / HOUR)


def work_through_jumps(node, clock, provider):
    """Returns how many requests were charged."""
    provider(node, {"text": "one two three"})
    asked = 0
    for ahead in JUMPS:
        with node.client.stream("POST", "/v1/chat/completions", json={"model": "scripted", "stream": True, "messages": [
                {"role": "user", "content": "hello"}]}) as stream:
            assert stream.status_code == 200
            clock.set(ahead)  # between a hold and its settlement
            assert "[DONE]" in stream.read().decode()
        assert node.chat("scripted").status_code == 200
        asked += 2
        run = node.command("ledger", "close")
        assert run.returncode == 0, run.stderr
    node.wait_idle()
    seen = {hours_ahead(row["timestamp"]) for row in node.get("/v1/payments/usage?limit=100")["usage"]}
    assert seen >= {24, 23, 0, -1, 744}, seen  # the jumps were seen
    return asked


def check(node, asked):
    audit = node.check_books()
    usage = node.get("/v1/payments/usage?limit=100")["usage"]
    assert len(usage) == asked == len({row["job_id"] for row in usage})
    assert audit["clean"] and audit["broken_close"] == 0 and audit["open_holds"] == 0
    assert sum(row["cost_micro_usd"] for row in usage) == audit["charged_micro_usd"]


def test_a_clock_that_jumps_loses_and_doubles_nothing(coordinator, provider, tmp_path):
    clock = Clock(tmp_path)
    node = coordinator({"rewards": {"enabled": True, "min_trust": "none", "look_s": 1}}, **clock.environment)
    asked = work_through_jumps(node, clock, provider)
    check(node, asked)
    clock.set(-HOUR)
    node.restart()
    check(node, asked)
    wait_until(lambda: node.routable("scripted") == 1, "the provider to come back", 60)
    assert node.chat("scripted").status_code == 200
    check(node, asked + 1)


def test_one_of_two_coordinators_with_a_clock_of_its_own_takes_nothing_twice(postgres, coordinator, provider, tmp_path):
    clock = Clock(tmp_path)
    ahead = coordinator({}, DARKBLOOM_STORE_URL=postgres.address, **clock.environment)
    other = coordinator({}, DARKBLOOM_STORE_URL=postgres.address)
    other.key_file.write_text(ahead.key)
    provider(other, {"text": "one two three"})
    asked = work_through_jumps(ahead, clock, provider)
    for _ in range(3):
        assert other.chat("scripted").status_code == 200
    for node in [ahead, other]:
        node.wait_idle()
    check(other, asked + 3)
