"""Every charged request has a receipt: the usage row, signed by the provider and the coordinator, checked without either."""

import json
import subprocess
import sys

from harness import BIN, PATIENCE, environment, wait_until

sys.path.insert(0, str(__import__("pathlib").Path(__file__).resolve().parents[1] / "interop"))
import receipt_verifier  # noqa: E402
from sealing import Blind  # noqa: E402

TEXT = "one two three four five six seven"


def verify(tmp_path, document, *options):
    file = tmp_path / "receipt.json"
    file.write_text(json.dumps(document, indent=2))
    run = subprocess.run([BIN / "darkbloom", "verify", file, "--json", *options], env=environment(tmp_path), capture_output=True, text=True,
                         timeout=60 * PATIENCE)
    assert run.stderr == "", run.stderr
    return run.returncode, json.loads(run.stdout)


def test_a_receipt_says_what_was_charged_and_verifies_offline(coordinator, provider, tmp_path):
    node = coordinator({"pricing": {"input_price": 3_000_000, "output_price": 20_000_000, "fee_percent": 30}})
    provider(node, {"text": TEXT})
    answer = node.chat("scripted", "a prompt of six words exactly")
    job = answer.headers["x-inference-job-id"]
    document = node.get(f"/v1/receipts/{job}")
    key = node.get("/.well-known/darkbloom-receipt-key")
    receipt, row = document["receipt"], node.usage()[0]
    assert (receipt["request_id"], receipt["cost_micro_usd"]) == (job, row["cost_micro_usd"])
    assert (receipt["prompt_tokens"], receipt["completion_tokens"]) == (row["prompt_tokens"], row["completion_tokens"])
    assert receipt["fee_micro_usd"] == row["cost_micro_usd"] * 30 // 100
    assert receipt["provider_public_key"] == node.providers()[0]["se_public_key"]
    assert receipt["provider_signature"] == answer.json()["se_signature"]
    assert receipt_verifier.problems(document, key=key["public_key"], text=TEXT) == []

    node.terminate()
    (tmp_path / "text").write_text(TEXT)
    status, told = verify(tmp_path, document, "--key", key["public_key"], "--text", tmp_path / "text")
    assert status == 0 and told["good"]
    assert [told[part] for part in ("coordinator_signature", "coordinator_key", "provider_signature", "text", "money")] == ["good"] * 5

    document["receipt"]["cost_micro_usd"] -= 1
    status, told = verify(tmp_path, document)
    assert status == 1 and told["coordinator_signature"] == "BAD"


def test_the_key_of_receipts_outlives_the_coordinator(coordinator, provider):
    node = coordinator()
    key = node.get("/.well-known/darkbloom-receipt-key")
    assert len(key["kid"]) == 16
    node.restart()
    assert node.get("/.well-known/darkbloom-receipt-key") == key


def stored(node, job):
    """The document with the signature that the books keep: two answers in a row are the same then."""
    documents = [node.get(f"/v1/receipts/{job}") for _ in range(2)]
    return documents[0] if documents[0] == documents[1] else None


def test_a_receipt_is_stored_signed_and_stays_good_when_the_key_changes(coordinator, provider, tmp_path):
    node = coordinator()
    provider(node, {"text": TEXT})
    job = node.chat("scripted").headers["x-inference-job-id"]
    old = node.get("/.well-known/darkbloom-receipt-key")
    document = wait_until(lambda: stored(node, job), "the receipt to be stored")
    node.terminate()
    (node.data / "receipt_key").unlink()
    node.start()
    assert node.get(f"/v1/receipts/{job}") == document
    assert document["coordinator"]["kid"] == old["kid"]
    assert receipt_verifier.problems(document, key=old["public_key"], text=TEXT) == []
    wait_until(lambda: len(node.get("/.well-known/darkbloom-receipt-key")["keys"]) == 2, "both keys to be published")
    new = node.get("/.well-known/darkbloom-receipt-key")
    assert new["kid"] != old["kid"] and {key["kid"] for key in new["keys"]} == {old["kid"], new["kid"]}


def test_a_blind_requests_receipt_carries_what_its_provider_signed(coordinator, provider, tmp_path):
    node = coordinator()
    provider(node, {"text": TEXT})
    chat = {"model": "scripted", "messages": [{"role": "user", "content": "one two three"}]}
    _, told = Blind(node.client, chat).whole()
    document = wait_until(lambda: stored(node, told["request_id"]), "the receipt to be stored")
    receipt = document["receipt"]
    assert (receipt["response_hash"], receipt["provider_signature"]) == (told["transcript_sha256"], told["usage_signature"])
    assert receipt["consumer_key"] and receipt["provider_public_key"] == node.providers()[0]["se_public_key"]
    assert receipt_verifier.problems(document) == []
    status, parts = verify(tmp_path, document)
    assert status == 0 and parts["provider_signature"] == "good"
    document["receipt"]["reported_prompt_tokens"] += 1
    status, parts = verify(tmp_path, document)
    assert status == 1 and parts["provider_signature"] == parts["coordinator_signature"] == "BAD"


def test_only_whoever_paid_sees_a_receipt(coordinator, provider, api):
    node = coordinator()
    provider(node, {"text": TEXT})
    job = node.chat("scripted").headers["x-inference-job-id"]
    assert node.client.get("/v1/receipts/nothing").status_code == 404
    assert api(node, key="sk-db-" + "0" * 64).get(f"/v1/receipts/{job}").status_code == 401
    assert node.client.get(f"/v1/receipts/{job}").status_code == 200
