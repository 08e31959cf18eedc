"""The whole state of a coordinator carried to another host (billing 12): what comes out is what went in, only for its recipient,
and nothing of a file that was cut or changed is taken."""

import io
import json
import os
import sqlite3
import stat
import subprocess
import zipfile

import httpx
import pyrage
import pytest
import patient
from harness import BIN, PATIENCE, Postgres, wait_until

MNEMONIC = "legal winner thank year wave sausage worth useful legal winner thank yellow"
ADMIN = "k" * 32


def identity():
    secret = pyrage.x25519.Identity.generate()
    return secret, str(secret.to_public())


def new_key(path):
    return subprocess.run([BIN / "darkbloom-coordinator", "state-key", path], capture_output=True, text=True, timeout=60 * PATIENCE)


def admin(node):
    return httpx.Client(base_url=node.url, headers={"Authorization": f"Bearer {ADMIN}"}, timeout=60 * PATIENCE)


def verified(node):
    run = node.command("ledger", "verify")
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def exported_rows(node):
    return node.command("ledger", "export").stdout


def left_over(folder):
    return [name for name in os.listdir(folder) if name == "state-copy"]


def leave_gate(node):
    with admin(node) as http:
        assert http.get("/readyz").status_code == 503
        assert node.chat("scripted").status_code == 429
        assert http.post("/v1/admin/drain", json={"draining": False}).json()["draining"] is False
        wait_until(lambda: http.get("/readyz").status_code == 200, "the gate to open")


def test_a_state_goes_to_a_fresh_host_whole_and_waits_for_its_operator(coordinator, provider, tmp_path):
    config = {"accounts": {"admin_key": ADMIN, "first_grant_usd": "1000"}, "pricing": {"fee_percent": 10}}
    old = coordinator(config, MNEMONIC=MNEMONIC)
    provider(old, {"text": "one two three"})
    for _ in range(3):
        assert old.chat("scripted").status_code == 200
    old.wait_idle()
    key = tmp_path / "identity.txt"
    recipient = new_key(key).stdout.strip()
    assert recipient.startswith("age1")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600 and "AGE-SECRET-KEY-1" in key.read_text()
    assert new_key(key).returncode == 1  # never replaced

    archive = tmp_path / "state.age"
    run = old.command("export-state", "--recipient", recipient, str(archive))  # it goes on running
    assert run.returncode == 0 and "Exported" in run.stderr, run.stderr
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600 and not left_over(old.data)
    kid = old.get("/v1/encryption-key")["kid"]
    assert kid in run.stdout
    assert old.command("export-state", "--recipient", recipient, str(archive)).returncode == 1  # nor is an export
    job = old.chat("scripted").headers["x-inference-job-id"]  # after the export: not in it
    old.wait_idle()
    receipts = old.get("/.well-known/darkbloom-receipt-key")

    new = coordinator(config, start=False, MNEMONIC=MNEMONIC)
    run = new.command("import-state", "--identity", str(key), str(archive))
    assert run.returncode == 0 and "start draining" in run.stdout and kid in run.stdout, run.stderr
    assert not left_over(new.data)
    for name in ["receipt_key", "tenant_key", "responses_key"]:
        assert (new.data / name).exists() == (old.data / name).exists()
        if (new.data / name).exists():
            assert (new.data / name).read_bytes() == (old.data / name).read_bytes()
            assert stat.S_IMODE((new.data / name).stat().st_mode) == 0o600
    new.key_file.write_text(old.key_file.read_text())
    assert verified(new)["clean"]
    rows = exported_rows(new)
    assert rows and exported_rows(old).startswith(rows) and exported_rows(old) != rows and job not in rows
    new.start()
    assert new.get("/v1/encryption-key")["kid"] == kid
    assert new.get("/.well-known/darkbloom-receipt-key") == receipts
    leave_gate(new)
    assert len(new.usage()) == 3
    provider(new, {"text": "one two three"})
    assert new.chat("scripted").status_code == 200
    new.restart()
    assert patient.get(new.url + "/readyz").status_code == 200  # an opened gate stays open
    again = new.command("import-state", "--identity", str(key), str(archive))
    assert again.returncode == 1 and "Move what is there away" in again.stderr


def test_a_file_that_is_cut_changed_or_foreign_is_refused_and_leaves_nothing(coordinator, tmp_path):
    old = coordinator({"accounts": {"admin_key": ADMIN}})
    secret, recipient = identity()
    key, wrong = tmp_path / "key", tmp_path / "wrong"
    key.write_text(f"# a comment\n{secret}\n")
    wrong.write_text(str(identity()[0]))
    archive = tmp_path / "state.age"
    assert old.command("export-state", "-r", recipient, str(archive)).returncode == 0
    whole = archive.read_bytes()
    plain = pyrage.decrypt(whole, [secret])
    with zipfile.ZipFile(io.BytesIO(plain)) as members:
        assert members.testzip() is None and members.namelist()[0] == "state.json"
        listed = {file["name"] for file in json.loads(members.read("state.json"))["files"]}
        assert listed == set(members.namelist()) - {"state.json"}
        assert {"keys/receipt_key", "keys/tenant_key", "database/coordinator.db", "database/manifest.json"} <= listed
        assert members.getinfo("keys/receipt_key").external_attr >> 16 == 0o100600

    def changed(at):
        return whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:]

    def encrypted(content):
        return pyrage.encrypt(content, [secret.to_public()])

    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as members:
        members.writestr("../receipt_key", "x")
    cases = {
        "cut by a byte": (whole[:-1], "cut off or changed"),
        "cut at a chunk": (whole[:-((len(whole) - 200) % 65552)], "cut off"),
        "changed": (changed(len(whole) // 2), "changed"),
        "empty": (b"", "no age file"),
        "foreign": (b"hello, this is no export" * 100, "no age file"),
        "no archive": (encrypted(b"hello" * 1000), "no archive"),
        "another archive": (encrypted(other.getvalue()), "archive"),
        "archive cut": (encrypted(plain[:-30]), "cut off"),
        "archive changed": (encrypted(plain[:-200000] + b"x" + plain[-199999:]), "damaged"),
        "something behind": (encrypted(plain + b"x"), "behind"),
    }
    new = coordinator({}, start=False)
    for what, (content, sentence) in cases.items():
        archive.write_bytes(content)
        run = new.command("import-state", "-i", str(key), str(archive))
        assert run.returncode == 1 and sentence in run.stderr, (what, run.stderr)
        assert set(os.listdir(new.data)) <= {"state-copy.lock"}, what
    archive.write_bytes(whole)
    run = new.command("import-state", "-i", str(wrong), str(archive))
    assert run.returncode == 1 and "another recipient" in run.stderr
    assert new.command("import-state", "-i", str(archive), str(archive)).returncode == 1
    assert new.command("import-state", "-i", str(key), str(archive)).returncode == 0


def test_the_command_leaves_a_row_in_the_audit_trail_beside_a_coordinator_and_without_one(coordinator, tmp_path):
    _, recipient = identity()
    node = coordinator({"accounts": {"admin_key": ADMIN}})

    def noted():
        rows = [json.loads(line) for line in node.command("audit", "--json", "--limit", "100").stdout.splitlines()]
        return [(row["actor"], row["subject"]) for row in rows if row["action"] == "state.export"]

    assert node.command("export-state", "-r", "age1nobody", str(tmp_path / "none.age")).returncode == 1
    assert noted() == []
    for made in (1, 2):
        run = node.command("export-state", "-r", recipient, str(tmp_path / f"{made}.age"))
        assert run.returncode == 0 and "audit trail" not in run.stderr, run.stderr
        assert noted() == [("operator", recipient)] * made
        if made == 1:
            with admin(node) as http:  # nobody else says so
                assert http.post("/v1/admin/state-export", json={"recipient": recipient}).status_code == 404
            (socket,) = [path for path in node.data.iterdir() if path.is_socket()]
            socket.rename(socket.with_suffix(".away"))  # a coordinator that cannot be told, and has the database
            run = node.command("export-state", "-r", recipient, str(tmp_path / "unnoted.age"))
            assert run.returncode == 0 and "The audit trail does not say" in run.stderr and len(noted()) == 1, run.stderr
            socket.with_suffix(".away").rename(socket)
            node.terminate()
    assert node.command("audit", "--verify").returncode == 0
    assert node.command("export-state", "-r", recipient, str(tmp_path / "gone" / "state.age")).returncode == 1
    assert len(noted()) == 2  # nothing went out


def test_the_route_is_not_there_until_it_is_wanted_and_is_for_the_admin_key_alone(coordinator):
    secret, recipient = identity()
    node = coordinator({"accounts": {"admin_key": ADMIN}})
    with admin(node) as http:
        assert http.get("/v1/admin/state-export").status_code == 404
        node.terminate()
        node.configure({"accounts": {"admin_key": ADMIN}, "state_export": {"enabled": True}})
        node.start()
        assert patient.get(node.url + "/v1/admin/state-export").status_code == 403
        assert node.client.get("/v1/admin/state-export").status_code == 403
        assert http.get("/v1/admin/state-export").status_code == 412
        assert "state.export" not in node.command("audit").stdout  # nothing went out yet
        node.terminate()
        node.configure({"accounts": {"admin_key": ADMIN}, "state_export": {"enabled": True, "recipient": recipient}})
        node.start()
        answer = http.get("/v1/admin/state-export")
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/octet-stream"
    assert "darkbloom-state-" in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(pyrage.decrypt(answer.content, [secret]))) as members:
        assert members.testzip() is None
        assert members.read("keys/receipt_key") == (node.data / "receipt_key").read_bytes()
    (noted,) = [line for line in node.command("audit", "--limit", "100").stdout.splitlines() if "state.export" in line]
    assert recipient in noted and "operator" in noted, noted
    assert node.command("audit", "--verify").returncode == 0
    wait_until(lambda: not left_over(node.data), "the copy to go")
    assert "AGE-SECRET" not in node.log() and (node.data / "receipt_key").read_text() not in node.log()


def test_a_torn_database_is_an_error_without_a_byte(coordinator, tmp_path):
    secret, recipient = identity()
    node = coordinator({"accounts": {"admin_key": ADMIN}, "state_export": {"enabled": True, "recipient": recipient}})
    node.terminate()
    database = node.data / "coordinator.db"
    content = bytearray(database.read_bytes())
    content[8192:12288] = b"\xff" * 4096
    database.write_bytes(content)
    run = node.command("export-state", str(tmp_path / "state.age"))
    assert run.returncode == 1 and run.stderr.startswith("darkbloom-coordinator: ")
    assert not (tmp_path / "state.age").exists() and not left_over(node.data)


def test_a_database_that_is_torn_under_a_running_coordinator_is_a_500_without_a_byte(coordinator):
    _, recipient = identity()
    node = coordinator({"accounts": {"admin_key": ADMIN}, "state_export": {"enabled": True, "recipient": recipient}})
    node.terminate()  # the log is in the file now
    with sqlite3.connect(node.data / "coordinator.db") as database:  # pages that noting the export does not touch
        (size,) = database.execute("PRAGMA page_size").fetchone()
        (root,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'invite_codes'").fetchone()
    database.close()
    node.start()
    with admin(node) as http:
        assert http.get("/v1/admin/state-export").status_code == 200
        wait_until(lambda: not left_over(node.data), "the copy to go")
        with open(node.data / "coordinator.db", "r+b") as file:
            file.seek((root - 1) * size)
            file.write(b"\xff" * size)
        answer = http.get("/v1/admin/state-export")
        assert (answer.status_code, answer.headers["content-type"]) == (500, "application/json"), answer.content[:200]
        assert answer.json()["error"]["type"] == "server_error" and "content-disposition" not in answer.headers
    wait_until(lambda: not left_over(node.data), "the copy to go")
    assert "state_export.failed" in node.log()


def test_a_recipient_that_is_none_is_refused_at_the_start(coordinator):
    node = coordinator({"state_export": {"enabled": True, "recipient": "age1nobody"}}, start=False)
    run = node.command("serve", "--check-config")
    assert run.returncode == 3 and "state_export.recipient" in run.stderr


@pytest.mark.slow
def test_books_on_postgresql_go_to_another_server_database(postgres, coordinator, provider, tmp_path):
    secret, recipient = identity()
    key, archive = tmp_path / "key", tmp_path / "state.age"
    key.write_text(str(secret))
    old = coordinator({"accounts": {"admin_key": ADMIN}}, DARKBLOOM_STORE_URL=postgres.address)
    provider(old, {"text": "one two three"})
    assert old.chat("scripted").status_code == 200
    old.wait_idle()
    run = old.command("export-state", "-r", recipient, str(archive))
    assert run.returncode == 0, run.stderr
    rows = exported_rows(old)
    used = coordinator({}, start=False, DARKBLOOM_STORE_URL=postgres.address)
    run = used.command("import-state", "-i", str(key), str(archive))
    assert run.returncode == 1 and set(os.listdir(used.data)) <= {"state-copy.lock"}
    fresh = Postgres()
    try:
        new = coordinator({}, start=False, DARKBLOOM_STORE_URL=fresh.address)
        run = new.command("import-state", "-i", str(key), str(archive))
        assert run.returncode == 0, run.stderr
        assert verified(new)["clean"] and exported_rows(new) == rows
    finally:
        fresh.stop()
