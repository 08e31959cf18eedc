"""What is typed wrongly: each program says in a sentence what is wrong and what to do, ends with a status of its own, and does nothing."""

import json
import os
import signal
import subprocess

import pytest

from harness import BIN, PATIENCE, TOP, environment, free_port, toml

BURST = TOP / "tests/scenarios/burst.toml"

USAGE = [
    ("darkbloom", "there is no option --frob", ["--frob"]),
    ("darkbloom", "a command is needed", []),
    ("darkbloom", "`models` needs one of its commands", ["models"]),
    ("darkbloom", "Did you mean `models pull`?", ["models", "pul"]),
    ("darkbloom", "give --coordinator-url URL", ["start", "--foreground"]),
    ("darkbloom", "use debug, info, warn or error", ["start", "--log-level", "loud"]),
    ("darkbloom", "give the 88 letters of public_key", ["verify", "--key", "AAAA", "receipt.json"]),
    ("darkbloom", "RECEIPT is missing", ["verify"]),
    ("darkbloom-coordinator", "`ledger` needs one of its commands", ["ledger"]),
    ("darkbloom-coordinator", "--port must be a whole number from 0 to 65535", ["serve", "--port", "70000"]),
    ("darkbloom-coordinator", "the format is csv or jsonl", ["ledger", "export", "--format", "xml"]),
    ("darkbloom-coordinator", "is no time such as 2026-01-31", ["ledger", "export", "--from", "yesterday"]),
    ("darkbloom-coordinator", "is no amount in dollars, such as 10 or 2.50", ["credit", "owner", "much"]),
    ("darkbloom-swarm", "--log-level must be debug, info, warn or error", ["load", "--key", "k", "--log-level", "loud"]),
    ("darkbloom-swarm", "there is no policy 'lucky'", ["simulate", BURST, "--policies", "ours,lucky"]),
    ("darkbloom-swarm", "is not a fault: use name:probability", ["providers", "--faults", "frob:1"]),
    ("darkbloom-swarm", "give --key or set DARKBLOOM_API_KEY", ["load"]),
]


def say(program, words, folder, **more):
    """Status, standard output and standard error of a program that must end by itself."""
    run = subprocess.run([BIN / program, *map(str, words)], env=environment(folder, **more), cwd=folder, capture_output=True, text=True,
                         timeout=60 * PATIENCE, stdin=subprocess.DEVNULL)
    return run.returncode, run.stdout, run.stderr


@pytest.mark.parametrize("program, sentence, words", USAGE, ids=lambda value: value if isinstance(value, str) else " ".join(map(str, value))[:40])
def test_a_wrong_line_is_answered_with_a_sentence(program, sentence, words, tmp_path):
    status, _, said = say(program, words, tmp_path)
    assert status == 2
    assert said.startswith(f"{program}") and sentence in said


def test_files_that_are_missing_or_of_another_kind_are_named(tmp_path):
    (tmp_path / "text.txt").write_text("no receipt")
    for program, words, sentence in [
            ("darkbloom", ["verify", "none.json"], "none.json cannot be read: No such file"),
            ("darkbloom", ["verify", "text.txt"], "text.txt holds no receipt as GET /v1/receipts/ID gives it"),
            ("darkbloom", ["models", "pull", "none.gguf", "--id", "x"], "none.gguf is not a file"),
            ("darkbloom", ["chat", "--key-file", "none", "hello"], "none could not be read: No such file"),
            ("darkbloom-coordinator", ["--config", "none.toml"], "none.toml: No such file"),
            ("darkbloom-coordinator", ["restore", "none"], "is this the folder of a backup that was finished?"),
            ("darkbloom-swarm", ["simulate", "none.toml"], "none.toml cannot be read"),
            ("darkbloom-swarm", ["simulate", "text.txt"], "text.txt: line 1:"),
            ("darkbloom-swarm", ["simulate", BURST, "--policies", "ours", "--diary", tmp_path], "cannot be written")]:
        status, _, said = say(program, words, tmp_path)
        assert status in (1, 3, 4) and sentence in said, (program, words, status, said)


def test_a_setting_that_is_misspelt_is_named_with_the_one_that_was_meant(tmp_path):
    (tmp_path / "wrong.toml").write_text(toml({"server": {"prt": 3}}))
    status, _, said = say("darkbloom-coordinator", ["--config", "wrong.toml", "--check-config"], tmp_path)
    assert (status, said) == (3, "darkbloom-coordinator: wrong.toml: line 2: `server.prt` is not a known setting. Did you mean `server.port`?\n")


def test_an_export_replaces_no_file(tmp_path):
    status, recipient, _ = say("darkbloom-coordinator", ["state-key", "identity.txt"], tmp_path)
    assert status == 0
    (tmp_path / "state.age").write_text("of yesterday")
    status, _, said = say("darkbloom-coordinator", ["export-state", "--recipient", recipient.strip(), "state.age"], tmp_path)
    assert status == 1 and "state.age exists: an export replaces no file, give another name." in said
    assert (tmp_path / "state.age").read_text() == "of yesterday"
    assert say("darkbloom-coordinator", ["state-key", "identity.txt"], tmp_path)[0] == 1


def test_a_load_without_a_coordinator_ends_and_says_so(tmp_path):
    port = free_port()
    status, out, said = say("darkbloom-swarm", ["load", "--key", "k", "--port", port, "--requests", 3], tmp_path)
    assert status == 5 and not out
    assert f"there is no coordinator at 127.0.0.1:{port}" in said and "give --host and --port" in said


def test_providers_without_a_coordinator_say_so_once_and_go_on_trying(tmp_path):
    port = free_port()
    with subprocess.Popen([BIN / "darkbloom-swarm", "providers", "--port", str(port), "--providers", "3", "--reconnect-ms", "1"],
                          env=environment(tmp_path), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as swarm:
        told = swarm.stderr.readline()
        swarm.send_signal(signal.SIGTERM)
        _, rest = swarm.communicate(timeout=60 * PATIENCE)
    assert "swarm.unreached" in told and str(port) in told and "swarm.unreached" not in rest
    assert swarm.returncode == 0


def test_a_table_of_the_simulator_says_what_was_asked_for(tmp_path):
    status, table, _ = say("darkbloom-swarm", ["simulate", BURST, "--policies", "ours"], tmp_path)
    assert status == 0 and "3 machines, 60 s, 50 requests at once\n" in table
    recovery = next(line for line in table.splitlines() if line.startswith("recovery"))
    assert recovery.split() == ["recovery", "s", "-"]
    status, told, _ = say("darkbloom-swarm", ["simulate", BURST, "--policies", "ours", "--json"], tmp_path)
    assert json.loads(told)["policies"][0]["recovery_s"] == -1


def test_a_port_that_is_taken_is_named(coordinator, tmp_path):
    node = coordinator()
    status, _, said = say("darkbloom-coordinator", ["serve", "--port", node.port], tmp_path, DARKBLOOM_DATABASE=str(tmp_path / "other.db"))
    assert status == 5 and str(node.port) in said and "in use" in said


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_named(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    status, _, said = say("darkbloom-coordinator", ["--port", 0], tmp_path, DARKBLOOM_DATABASE=str(closed / "c.db"))
    assert status == 1 and "Check that the folder exists and belongs to the user the coordinator runs as." in said
