"""kill -9 of the coordinator at any instant under load: the books are right in the file it leaves, and every hold is ended by
the next start."""

import hashlib
import random
import time

import pytest

from harness import wait_until
from python_provider import PythonProvider, stop_joined, wait_standing
from test_failover import in_background

GRANT_UUSD = 1_000_000_000
ADMIN = "a" * 32
BACK_MS = 100  # providers come back so soon on average: waiting for them shows nothing here


def check_left(node, audit_before):
    """The books of a coordinator that was killed, before the next start."""
    audit = node.audit()
    assert audit["sum_micro_usd"] == 0, audit
    assert audit["negative_balances"] == 0, audit
    assert audit["usage_cost_micro_usd"] == audit["charged_micro_usd"], audit
    assert audit["charged_micro_usd"] >= audit_before["charged_micro_usd"], "what was durable stays"
    return audit


def check_restarted(node):
    """After a start without load: no hold is open, and what the owner has and what was billed make the grant."""
    audit = node.audit()
    assert audit["open_holds"] == 0, audit
    assert node.balance() == GRANT_UUSD - audit["charged_micro_usd"], audit
    return audit


def newest_charge(node):
    """The request that was charged last, as the database has it; None when none was."""
    rows = node.get("/v1/payments/usage?limit=1")["usage"]
    return rows[0]["job_id"] if rows else None


def crash_under_load(node, swarm, programs, at, settled):
    """Some load, then the end at some instant of its first 300 ms, or of those after its first charge."""
    wait_until(lambda: node.routable("swarm-model") > 0, "a provider to come back")
    before, charged = node.metrics()["darkbloom_attempts_total"], newest_charge(node)
    load = swarm(node, "load", clients=8, seconds=600, **({"stream": True} if at.random() < 0.5 else {}))
    wait_until(lambda: node.metrics()["darkbloom_attempts_total"] > before, "the load to begin")
    if settled:
        wait_until(lambda: newest_charge(node) != charged, "a request to be charged")
    time.sleep(at.uniform(0, 0.3))
    node.kill()
    load.kill()
    programs.remove(load)


def crash_in_start(node, at):
    """The end somewhere in the first 50 ms of a start, while it puts right what the last end left."""
    node.launch_only()
    time.sleep(at.uniform(0, 0.05))
    node.kill()


def crash(node, swarm, programs, points, seed):
    at = random.Random(seed)
    audit = check_restarted(node)
    settled_before_crash = 0
    swarm(node, "providers", providers=2, reconnect_ms=BACK_MS)
    sick = swarm(node, "providers", providers=2, reconnect_ms=BACK_MS, first_index=10, chunks=200, pace_us=1000, faults="drop:0.05,break:0.05,busy:0.05,early-drop:0.05")
    for point in range(points):
        crash_under_load(node, swarm, programs, at, settled=point % 4 > 0)
        left = check_left(node, audit)
        settled_before_crash += left["charged_micro_usd"] > audit["charged_micro_usd"]
        if at.random() < 0.3:
            crash_in_start(node, at)
            check_left(node, left)
        node.start()
        audit = check_restarted(node)
        assert audit["charged_micro_usd"] == left["charged_micro_usd"], "a restart charges nobody"
    assert settled_before_crash > points / 2, "most crashes came while requests were being settled"
    assert sick.terminate() == 0
    wait_until(lambda: node.routable("swarm-model") == 2, "the healthy providers, and no others")
    answer = swarm(node, "load", clients=4, requests=50).result()
    assert answer["ok"] == 50, "it serves as ever"
    node.check_books()


def test_ten_crashes(coordinator, swarm, programs):
    node = coordinator({"accounts": {"first_grant_usd": "1000"}})
    crash(node, swarm, programs, 10, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_hundred_crashes(coordinator, sides):
    """Of two coordinators, each with a fleet of its own: most of the time is waiting for providers to come back."""
    def half(seed):
        node, (programs, swarm) = coordinator({"accounts": {"first_grant_usd": "1000"}}), sides()
        return in_background(lambda: crash(node, swarm, programs, 50, seed))

    for done in [half(2), half(3)]:
        done(600)


@pytest.mark.slow
def test_crashes_on_postgres(postgres, coordinator, swarm, programs):
    node = coordinator({"accounts": {"first_grant_usd": "1000"}}, DARKBLOOM_STORE_URL=postgres.address)
    crash(node, swarm, programs, 4, seed=3)


def test_who_calls_while_postgres_is_away_is_told_to_come_back(postgres, coordinator):
    """The operator's account is not in memory yet: the database is asked for it, and does not answer."""
    node = coordinator({"accounts": {"first_grant_usd": "1000", "admin_key": ADMIN}}, DARKBLOOM_STORE_URL=postgres.address)

    def ask():
        return node.client.post("/v1/admin/credit", json={"account": "owner", "amount_usd": "1", "note": "a gift"},
                                headers={"Authorization": f"Bearer {ADMIN}"})

    postgres.crash()
    try:
        answer = ask()
    finally:
        postgres.start()
    assert answer.status_code == 503 and int(answer.headers["retry-after"]) > 0, answer.text
    wait_until(lambda: ask().status_code == 200, "it to serve as ever")


def linked_machine(node, postgres):
    account = node.get("/v1/me")["account_id"]
    token = "eigeninference-pt-" + "3" * 64
    postgres.sql("INSERT INTO provider_tokens (hash, account, label, created_us)"
                 f" SELECT '{hashlib.sha256(token.encode()).hexdigest()}', ref, '', 1 FROM accounts WHERE id = '{account}'")

    class Linked(PythonProvider):
        def registration(self):
            return super().registration() | {"auth_token": token}

    return Linked(node)


def check_found(node, machine):
    node.wait_routable(machine.model)
    assert "provider.owner_found" in node.log()
    own = wait_until(lambda: (said := node.client.post("/v1/chat/completions", headers={"X-Darkbloom-Route": "self"}, json={
        "model": machine.model, "messages": [{"role": "user", "content": "hello"}]})).status_code == 200 and said, "it to serve its owner")
    assert own.json()["choices"][0]["message"]["content"] == "Hello there!"
    stop_joined([machine])


def test_a_provider_that_registers_while_postgres_is_away_gets_its_owner_when_it_is_back(postgres, coordinator):
    node = coordinator({"accounts": {"first_grant_usd": "1000"}}, DARKBLOOM_STORE_URL=postgres.address)
    machine = linked_machine(node, postgres)
    postgres.crash()
    try:
        machine.start()
        wait_standing(node, machine.serial, "self_signed", "online")  # the registration goes on
        assert "provider.owner_unknown" in node.log()
        assert node.routable(machine.model) == 0  # nobody could be paid
    finally:
        postgres.start()
    check_found(node, machine)


def test_a_provider_that_registers_while_postgres_says_nothing_gets_its_owner_when_it_does(postgres, coordinator):
    """Unlike one that is away it refuses nothing: the registration goes on by its own patience."""
    node = coordinator({"accounts": {"first_grant_usd": "1000"}}, DARKBLOOM_STORE_URL=postgres.address)
    machine = linked_machine(node, postgres)
    postgres.freeze()
    try:
        machine.start()
        wait_standing(node, machine.serial, "self_signed", "online")
        assert "provider.owner_unknown" in node.log()
        assert node.routable(machine.model) == 0
    finally:
        postgres.thaw()
    check_found(node, machine)


@pytest.mark.slow
def test_two_coordinators_on_one_postgres_and_a_server_that_is_killed(postgres, coordinator, swarm):
    one = coordinator({"accounts": {"first_grant_usd": "1000"}}, DARKBLOOM_STORE_URL=postgres.address)
    two = coordinator({"accounts": {"first_grant_usd": "1000"}}, DARKBLOOM_STORE_URL=postgres.address)
    two.key_file = one.key_file  # whoever starts second finds the owner there
    for node in one, two:
        swarm(node, "providers", providers=2)
    loads = [swarm(node, "load", clients=4, requests=300) for node in (one, two)]
    wait_until(lambda: one.audit()["charged_micro_usd"] > 0, "the first request to be charged")
    postgres.crash()
    postgres.start()
    for load in loads:
        load.result()
    for node in one, two:
        wait_until(lambda node=node: swarm(node, "load", clients=2, requests=10).result()["ok"] == 10, "it to serve as ever")
    wait_until(lambda: one.audit()["open_holds"] == 0, "all holds to end")
    audit = one.audit()
    assert audit["clean"] and audit["charged_micro_usd"] == audit["usage_cost_micro_usd"]
    one.restart()
    assert one.balance() == GRANT_UUSD - audit["charged_micro_usd"]
