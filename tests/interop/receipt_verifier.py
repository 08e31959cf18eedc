"""Checks receipts (docs/reference/receipts.md) with Python's json and cryptography only; nothing of our code.

    python receipt_verifier.py receipt.json
"""

import base64
import hashlib
import json
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

FIELDS = """account_id cached_price cached_tokens completion_tokens cost_micro_usd created_us fee_micro_usd hold_micro_usd
input_price job_id key_id model outcome output_price payout_micro_usd prompt_tokens provider_id provider_public_key
provider_signature public_model reasoning_tokens reported_completion_tokens request_id response_hash service_account
version""".split()
SINCE_2 = ["consumer_key", "reported_prompt_tokens", "reported_reasoning_tokens"]


def canonical(receipt):
    return json.dumps(receipt, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def signed(public_b64, message, signature_b64):
    raw = base64.b64decode(public_b64, validate=True)
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + raw)
    try:
        key.verify(base64.b64decode(signature_b64, validate=True), message, ec.ECDSA(hashes.SHA256()))
        return True
    except InvalidSignature:
        return False


def cost(r):
    cached = r["cached_tokens"] if r["cached_price"] else 0
    total = (r["prompt_tokens"] - cached) * r["input_price"] // 10**6 + cached * r["cached_price"] // 10**6
    total += r["completion_tokens"] * r["output_price"] // 10**6
    if r["service_account"]:
        return 1 if total == 0 and (r["prompt_tokens"] or r["completion_tokens"]) else total
    return max(total, 100)


def provider_statement(r):
    """What the provider signed: the hash of the answer, or of a blind request what docs/reference/blind-mode.md says."""
    if not r.get("consumer_key"):
        return r["response_hash"].encode()
    counts = [r["reported_prompt_tokens"], r["reported_completion_tokens"], r["reported_reasoning_tokens"]]
    return "\n".join(["darkbloom-blind-usage-v1", r["job_id"], r["consumer_key"], r["model"], *map(str, counts), r["response_hash"]]).encode()


def problems(document, key=None, text=None):
    """What is wrong with it, as words; empty when everything is right."""
    r, by = document["receipt"], document["coordinator"]
    assert r["version"] in (1, 2) and sorted(r) == sorted(FIELDS + (SINCE_2 if r["version"] == 2 else []))
    found = []
    kid = hashlib.sha256(base64.b64decode(by["public_key"])).hexdigest()[:16]
    if by["kid"] != kid or by["algorithm"] != "ES256" or not signed(by["public_key"], canonical(r), by["signature"]):
        found.append("coordinator")
    if key is not None and key != by["public_key"]:
        found.append("pinned")
    if r["provider_signature"] and not signed(r["provider_public_key"], provider_statement(r), r["provider_signature"]):
        found.append("provider")
    if text is not None:
        told = f"{r['job_id']}:{r['reported_completion_tokens']}:{text}".encode()
        if hashlib.sha256(told).hexdigest() != r["response_hash"]:
            found.append("text")
    charged, hold = r["cost_micro_usd"], r["hold_micro_usd"]
    right = charged == cost(r) or hold <= charged < cost(r)
    if not right or charged > 2 * hold or r["payout_micro_usd"] + r["fee_micro_usd"] != charged or r["payout_micro_usd"] < 0:
        found.append("money")
    return found


if __name__ == "__main__":
    wrong = problems(json.load(open(sys.argv[1], encoding="utf-8")))
    print("good" if not wrong else f"wrong: {', '.join(wrong)}")
    sys.exit(bool(wrong))
