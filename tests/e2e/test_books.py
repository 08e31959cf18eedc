"""The operator's books: closing a period, proving it, handing entries out, and the trail of who did what."""

import csv
import io
import json
import sqlite3

from harness import wait_until


def verified(node):
    return json.loads(node.command("ledger", "verify").stdout)


def test_a_closed_period_proves_what_it_covers(coordinator, provider):
    node = coordinator()
    provider(node, {"text": "one two three"})
    for _ in range(3):
        assert node.chat("scripted").status_code == 200
    run = node.command("ledger", "close")
    assert run.returncode == 0 and "Close 1 covers" in run.stdout, run.stderr
    assert "by the running coordinator" in run.stderr
    assert "Nothing was written" in node.command("ledger", "close").stdout
    assert node.chat("scripted").status_code == 200
    wait_until(lambda: verified(node)["open_entries"] == 2, "the last request to be written")
    told = verified(node)
    assert told["clean"] and told["closes"] == 1 and told["broken_audit_row"] == 0

    node.terminate()
    run = node.command("ledger", "close")
    assert "Close 2 covers 2 entries" in run.stdout and "no coordinator runs on it" in run.stderr
    with sqlite3.connect(node.data / "coordinator.db") as db:
        db.execute("DROP TRIGGER ledger_no_update")
        db.execute("UPDATE ledger SET created_us = created_us - 1 WHERE id = 3")
    run = node.command("ledger", "verify")
    told = json.loads(run.stdout)
    assert run.returncode == 1 and not told["clean"] and told["broken_close"] == 1


def test_entries_come_out_whole_by_route_and_by_command(coordinator, provider, api):
    node = coordinator({"accounts": {"admin_key": "k" * 32}})
    provider(node, {"text": "one two three", "max_concurrency": 8})
    for _ in range(5):
        assert node.chat("scripted").status_code == 200
    node.wait_idle()

    def exported():
        """The grant and five requests, once they are durable."""
        rows = [json.loads(line) for line in node.command("ledger", "export").stdout.splitlines()]
        return rows if len(rows) >= 12 else None

    lines = wait_until(exported, "the entries to be written")
    assert [line["id"] for line in lines] == list(range(1, len(lines) + 1))
    assert sum(line["amount_micro_usd"] for line in lines) == 0
    table = list(csv.DictReader(io.StringIO(node.command("ledger", "export", "--format", "csv").stdout)))
    assert [int(row["amount_micro_usd"]) for row in table] == [line["amount_micro_usd"] for line in lines]
    operator = api(node, key="k" * 32)
    answer = operator.get("/v1/admin/ledger/export")
    assert answer.headers["content-type"] == "application/x-ndjson", answer.text
    assert [json.loads(line) for line in answer.text.splitlines()] == lines
    only = operator.get("/v1/admin/ledger/export", params={"account": "platform", "format": "csv"})
    assert all(row["account"] == "platform" for row in csv.DictReader(io.StringIO(only.text)))
    assert operator.get("/v1/admin/ledger/export", params={"format": "xml"}).status_code == 400
    assert node.client.get("/v1/admin/ledger/export").status_code == 403


def test_the_trail_says_who_did_what(coordinator, api):
    node = coordinator({"accounts": {"admin_key": "k" * 32}})
    assert node.command("credit", "owner", "5", "--reason", "an outage").returncode == 0
    assert api(node, key="k" * 32).post("/v1/admin/reward", json={"account": "owner", "amount_usd": "2", "note": "a find"}).status_code == 200
    assert node.command("keys", "create", "--name", "ci").returncode == 0
    rows = [json.loads(line) for line in node.command("audit", "--json").stdout.splitlines()]
    told = [(row["actor"], row["action"], json.loads(row["details"]).get("reason")) for row in rows]
    assert ("operator", "money.transfer", "an outage") in told
    assert ("operator", "money.transfer", "a find") in told
    assert ("operator", "key.create", None) in told
    assert "The audit trail is whole" in node.command("audit", "--verify").stdout
    assert node.command("audit").stdout.count("\n") == len(rows)
    with sqlite3.connect(node.data / "coordinator.db", timeout=60) as db:
        db.execute("DROP TRIGGER audit_trail_no_delete")
        db.execute("DELETE FROM audit_trail WHERE action = 'money.transfer'")
    run = node.command("audit", "--verify")
    assert run.returncode == 1 and "altered or removed" in run.stderr
