#!/usr/bin/env python3
"""Writes receipt_vectors.json beside this file: receipts made and signed by Python's cryptography, good and bad.

Needs: pip install cryptography. Signatures differ from run to run; what is signed does not.
"""

import base64
import copy
import hashlib
import json
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from receipt_verifier import SINCE_2, canonical, cost, problems, provider_statement

COORDINATOR = ec.derive_private_key(0x1234567890ABCDEF, ec.SECP256R1())
PROVIDER = ec.derive_private_key(0xFEDCBA0987654321, ec.SECP256R1())
TEXT = "The capital of France is Paris. Déjà vu — “ok” \U0001f600\n\x01end"


def public(key):
    point = key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    return base64.b64encode(point[1:]).decode()


def sign(key, message):
    return base64.b64encode(key.sign(message, ec.ECDSA(hashes.SHA256()))).decode()


def receipt(**more):
    r = {
        "version": 2, "consumer_key": "", "reported_prompt_tokens": 0, "reported_reasoning_tokens": 0,
        "request_id": "7d0e6a1c-0a3f-4d62-8a52-5a8f8f6f3a11", "account_id": "acc-1", "key_id": "key_0123456789abcdef01234567",
        "job_id": "3f0e6a1c-0a3f-4d62-8a52-5a8f8f6f3a12", "provider_id": "p-1", "model": "smollm2-135m", "public_model": 'the "small" one/äö',
        "outcome": "success", "prompt_tokens": 1000, "cached_tokens": 0, "completion_tokens": 255, "reasoning_tokens": 5,
        "reported_completion_tokens": 255, "input_price": 50000, "output_price": 200000, "cached_price": 0, "service_account": False,
        "hold_micro_usd": 5000, "created_us": 1_800_000_000_123_456,
    }
    r.update(more)
    told = f"{r['job_id']}:{r['reported_completion_tokens']}:{TEXT}".encode()
    r["response_hash"] = hashlib.sha256(told).hexdigest()
    r["provider_public_key"] = public(PROVIDER)
    r["provider_signature"] = sign(PROVIDER, provider_statement(r))
    if r["version"] == 1:
        for name in SINCE_2:
            del r[name]
    if "unsigned" in r:
        del r["unsigned"]
        r["response_hash"] = r["provider_public_key"] = r["provider_signature"] = ""
    charged = r.setdefault("cost_micro_usd", cost(r))
    fee = r.setdefault("fee_micro_usd", charged * 10 // 100)
    r.setdefault("payout_micro_usd", charged - fee)
    return r


def document(r):
    key = public(COORDINATOR)
    return {"receipt": r, "coordinator": {
        "kid": hashlib.sha256(base64.b64decode(key)).hexdigest()[:16], "algorithm": "ES256", "public_key": key,
        "signature": sign(COORDINATOR, canonical(r))}}


def altered(part, name, value):
    changed = copy.deepcopy(document(receipt()))
    changed[part][name] = value
    return changed


BLIND = {"consumer_key": base64.b64encode(bytes(range(32))).decode(), "reported_prompt_tokens": 1001, "reported_reasoning_tokens": 6}
rows = [
    ("version 1", document(receipt(version=1)), TEXT),
    ("version 1 without the provider's signature", document(receipt(version=1, unsigned=True)), None),
    ("blind", document(receipt(**BLIND)), None),
    ("plain", document(receipt()), TEXT),
    ("without the provider's signature", document(receipt(unsigned=True)), None),
    ("cached tokens cheaper", document(receipt(cached_tokens=900, cached_price=5000)), None),
    ("cached tokens without a price of their own", document(receipt(cached_tokens=900)), None),
    ("service account", document(receipt(service_account=True, prompt_tokens=1, completion_tokens=0)), None),
    ("minimum charge", document(receipt(prompt_tokens=0, completion_tokens=0)), None),
    ("no more than the hold and its overage", document(receipt(hold_micro_usd=60, cost_micro_usd=80)), None),
    ("large numbers", document(receipt(prompt_tokens=2**40, completion_tokens=2**40, output_price=10**9, hold_micro_usd=2**53)), None),
    ("cost altered", altered("receipt", "cost_micro_usd", 1), None),
    ("tokens altered", altered("receipt", "completion_tokens", 254), None),
    ("another account", altered("receipt", "account_id", "acc-2"), None),
    ("another kid", altered("coordinator", "kid", "0" * 16), None),
    ("another hash", document(receipt()), "another text"),
    ("charged above the cost", document(receipt(cost_micro_usd=103)), None),
    ("charged below cost and hold", document(receipt(cost_micro_usd=99)), None),
    ("charged above twice the hold", document(receipt(hold_micro_usd=50)), None),
    ("fee and payout do not make the cost", document(receipt(payout_micro_usd=1)), None),
]
wrong_provider = receipt()
wrong_provider["provider_signature"] = sign(COORDINATOR, wrong_provider["response_hash"].encode())
rows.append(("provider's signature by another key", document(wrong_provider), None))

for name, value in (("consumer_key", base64.b64encode(bytes(32)).decode()), ("reported_prompt_tokens", 1000), ("model", "another")):
    wrong_blind = receipt(**BLIND)
    wrong_blind[name] = value
    rows.append((f"blind with another {name}", document(wrong_blind), None))

vectors = [{"name": name, "document": json.dumps(doc, ensure_ascii=False, indent=None if i % 2 else 1), "text": text,
            "canonical": canonical(doc["receipt"]).decode(), "problems": problems(doc, text=text)}
           for i, (name, doc, text) in enumerate(rows)]
out = {"coordinator_scalar": f"{0x1234567890ABCDEF:064x}", "coordinator_key": public(COORDINATOR), "vectors": vectors}
Path(__file__).with_name("receipt_vectors.json").write_text(json.dumps(out, ensure_ascii=False, indent=1) + "\n")
