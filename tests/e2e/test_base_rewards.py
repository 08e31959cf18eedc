"""Base rewards: which machines are seen as fit to be paid, and what the operator is told. What is paid for a period of five minutes is in the
unit tests, where time passes quickly."""

import hashlib
import sqlite3

import httpx
import pytest

from harness import PATIENCE, wait_until
from python_provider import PythonProvider, wait_standing
from test_machines import TOKEN, Linked

ADMIN = "an admin key of enough length"


def told(node, key=ADMIN):
    return httpx.get(f"{node.url}/v1/admin/base-rewards", headers={"Authorization": f"Bearer {key}"}, timeout=60 * PATIENCE)


def stretches(node):
    database = sqlite3.connect(f"file:{node.data / 'coordinator.db'}?mode=ro", uri=True)
    try:
        return database.execute("SELECT device, model, memory_gb, ended_us FROM reward_stretches ORDER BY id").fetchall()
    finally:
        database.close()


@pytest.fixture
def town(coordinator):
    def make(**rewards):
        node = coordinator({"accounts": {"admin_key": ADMIN}, "rewards": {"enabled": True, "look_s": 1, **rewards}})
        node.terminate()
        with sqlite3.connect(node.data / "coordinator.db") as database:
            database.execute("INSERT INTO provider_tokens (hash, account, label, created_us) SELECT ?, ref, '', 1 FROM accounts"
                             " WHERE is_owner = 1", [hashlib.sha256(TOKEN.encode()).hexdigest()])
        database.close()
        node.start()
        return node

    return make


def test_a_machine_counts_while_it_is_fit(town):
    node = town(min_trust="self_signed")
    machine = Linked(node)
    machine.start()
    try:
        wait_standing(node, machine.serial, "self_signed", "online")
        (device, model, memory_gb, ended), = wait_until(lambda: stretches(node), "the machine to be seen")
        assert (device, ended) == (machine.serial, None) and model and memory_gb > 0
    finally:
        machine.stop()
    wait_until(lambda: stretches(node)[-1][3], "the end of its time to be noted")
    view = told(node).json()
    assert view["enabled"] is True and view["period_seconds"] == 300 and view["monthly_pool_budget"] == 9_000_000_000
    assert view["reduction_k"] == 0 and isinstance(view["draws"], list) and view["draw_count"] == len(view["draws"])
    assert told(node, node.key).status_code == 403
    node.check_books()


class Hot(Linked):
    def heartbeat(self):
        return super().heartbeat() | {"system_metrics": {"memory_pressure": 0.3, "cpu_usage": 0.1, "thermal_state": "critical"}}


class Full(Linked):
    def heartbeat(self):
        return super().heartbeat() | {"system_metrics": {"memory_pressure": 0.9, "cpu_usage": 0.1, "thermal_state": "nominal"}}


def test_machines_that_are_hot_full_or_nobodys_do_not_count(town):
    node = town(min_trust="self_signed")
    others = [Hot(node, serial="HOT"), Full(node, serial="FULL"), PythonProvider(node, serial="NOBODYS")]
    fit, started = Linked(node, serial="FIT"), []
    try:
        for machine in others:
            started.append(machine.start())
            wait_standing(node, machine.serial, "self_signed", "online")
        started.append(fit.start())
        wait_until(lambda: [row[0] for row in stretches(node) if row[3] is None] == [fit.serial], "the fit machine to be seen, alone")
    finally:
        for machine in started:
            machine.stop()


def test_without_the_setting_nothing_is_looked_at(coordinator):
    node = coordinator({"accounts": {"admin_key": ADMIN}})
    assert told(node).json() == {"enabled": False}
