"""An account's own machines: connected, remembered while they are not, forgotten when their owner says so."""

import hashlib
import sqlite3

import pytest

from harness import wait_until
from python_provider import PythonProvider, wait_standing
from test_login import PASSWORD, Browser, sign_up_operator

TOKEN = "eigeninference-pt-" + "7" * 64


class Linked(PythonProvider):
    def registration(self):
        return super().registration() | {"auth_token": TOKEN, "runtime_hash": "2" * 64}


@pytest.fixture
def home(coordinator):
    """(coordinator, a page of its operator, a machine of theirs that is connected)"""
    node = coordinator({"accounts": {"signup": "open"}})
    node.terminate()
    with sqlite3.connect(node.data / "coordinator.db") as database:
        database.execute("INSERT INTO provider_tokens (hash, account, label, created_us) SELECT ?, ref, '', 1 FROM accounts WHERE is_owner = 1",
                         [hashlib.sha256(TOKEN.encode()).hexdigest()])
    database.close()
    node.start()
    page = Browser(node)
    sign_up_operator(node, page)
    machine = Linked(node)
    machine.start()
    wait_standing(node, machine.serial, "self_signed", "online")
    yield node, page, machine
    machine.stop()
    page.client.close()


def machines(page):
    return page.client.get("/v1/me/providers").json()["providers"]


def offline(page):
    return wait_until(lambda: [one for one in machines(page) if not one["online"]], "the machine to be seen as gone")


def test_a_machine_is_remembered_while_it_is_not_connected(home):
    node, page, machine = home
    live, = machines(page)
    assert (live["serial_number"], live["online"], live["status"]) == (machine.serial, True, "online")
    assert page.client.get("/v1/me/summary").json()["counts"]["offline"] == 0
    machine.stop()
    gone, = offline(page)
    assert (gone["status"], gone["id"], gone["serial_number"]) == ("offline", live["id"], machine.serial)
    same = ("hardware", "models", "backend", "version", "trust_level", "se_public_key", "account_id", "attested")
    assert {name: gone[name] for name in same} == {name: live[name] for name in same}
    assert gone["registered_at"] <= gone["last_seen"]
    node.restart()
    assert [one["serial_number"] for one in machines(page)] == [machine.serial]
    counts = page.client.get("/v1/me/summary").json()["counts"]
    assert (counts["total"], counts["online"], counts["offline"]) == (1, 0, 1)
    again = Linked(node)
    again.start()
    wait_standing(node, again.serial, "self_signed", "online")
    back, = machines(page)
    assert back["online"] and back["id"] != gone["id"] and back["registered_at"] == gone["registered_at"]
    again.stop()


def test_only_its_owner_forgets_a_machine_and_only_when_it_is_gone(home):
    node, page, machine = home
    assert page.send("DELETE", f"/v1/me/providers/{machine.serial}").status_code == 409
    machine.stop()
    gone, = offline(page)
    stranger = Browser(node)
    stranger.logged_in(stranger.post("/v1/session/register", {"email": "a@example.test", "password": PASSWORD}))
    assert machines(stranger) == []
    assert stranger.send("DELETE", f"/v1/me/providers/{machine.serial}").status_code == 403
    assert page.send("DELETE", "/v1/me/providers/unknown").status_code == 404
    deleted = page.send("DELETE", f"/v1/me/providers/{gone['id']}")
    assert deleted.json() == {"deleted": True, "serial": gone["id"], "rows_removed": 1}
    assert machines(page) == [] and page.send("DELETE", f"/v1/me/providers/{machine.serial}").status_code == 404
    stranger.client.close()


def test_what_a_connected_machine_does_is_shown_to_its_owner(home):
    node, page, machine = home
    def reported():
        one, = machines(page)
        return "last_heartbeat" in one and one
    live = wait_until(reported, "a heartbeat")
    assert live["os_version"] and live["status"] == "online"
    assert live["runtime_hash"] == "2" * 64 and "python_hash" not in live
    assert live["system_metrics"] == {"memory_pressure": 0.3, "cpu_usage": 0.1, "thermal_state": "nominal"}
    assert (live["pending_requests"], live["failed_challenges"], live["decode_tps"], live["prefill_tps"]) == (0, 0, 80.5, 900)
    capacity = live["backend_capacity"]
    assert (capacity["total_memory_gb"], capacity["gpu_memory_active_gb"], capacity["free_for_load_gb"]) == (64, 2.5, 38.5)
    assert [(slot["model"], slot["state"], slot["num_running"]) for slot in capacity["slots"]] == [(machine.model, "idle", 0)]
    assert live["runtime_verified"] is True and live["last_challenge_verified"] <= live["last_seen"]
    assert live["warm_models"] == live["models"] == [machine.model]
    machine.stop()
    gone, = offline(page)
    assert gone["os_version"] == live["os_version"]
    assert not {"system_metrics", "backend_capacity", "warm_models", "pending_requests"} & gone.keys()
