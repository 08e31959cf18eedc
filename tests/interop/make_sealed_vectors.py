#!/usr/bin/env python3
"""Writes sealed_vectors.json beside this file: the sealed transport and blind mode, made by PyNaCl, Python's cryptography and hashlib.

Needs: pip install pynacl cryptography. The output is the same on every run. docs/reference/blind-mode.md and
docs/reference/sealed-transport.md explain the parts.
"""

import base64
import hashlib
import json
import struct
from pathlib import Path

import nacl.public
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

WORDS = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about"
TIME_MS = 1767225600123


def b64(data):
    return base64.b64encode(data).decode()


def stream(label, size):
    """Bytes that look random and never change."""
    return hashlib.shake_256(label.encode()).digest(size)


def timed_nonce(label, unix_ms):
    return b"dbseal01" + struct.pack(">Q", unix_ms) + stream(label, 8)


def coordinator_key():
    seed = hashlib.pbkdf2_hmac("sha512", WORDS.encode(), b"mnemonic", 2048, 64)
    return nacl.public.PrivateKey(HKDF(hashes.SHA256(), 32, None, b"eigeninference-coordinator-e2e-v1").derive(seed))


def sealed():
    key, ours = coordinator_key(), nacl.public.PrivateKey(stream("consumer", 32))
    public = bytes(key.public_key)
    box = nacl.public.Box(ours, key.public_key)
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Grüße ✓"}]}, ensure_ascii=False)
    nonce = timed_nonce("request", TIME_MS)
    answer, events = '{"object":"chat.completion"}', ['data: {"a":1}', ": keepalive", "data: [DONE]"]
    return {"mnemonic": WORDS, "public_key": b64(public), "kid": hashlib.sha256(public).hexdigest()[:16],
            "secret_key": bytes(key).hex(), "consumer_secret": bytes(ours).hex(), "consumer_public": b64(bytes(ours.public_key)),
            "shared": box.shared_key().hex(), "unix_ms": TIME_MS, "nonce": nonce.hex(), "body": body,
            "ciphertext": b64(bytes(box.encrypt(body.encode(), nonce))), "old_ciphertext": b64(bytes(box.encrypt(body.encode(), stream("old", 24)))),
            "answer": answer, "sealed_answer": b64(bytes(box.encrypt(answer.encode(), stream("answer", 24)))),
            "events": [{"text": text, "sealed": b64(bytes(box.encrypt(text.encode(), stream(f"event {number}", 24))))}
                       for number, text in enumerate(events)]}


def padded(frame):
    """A frame of a blind answer: spaces before its blank line, to a multiple of 256 bytes."""
    body = frame.removesuffix("\n\n")
    return body + " " * (-(len(body.encode()) + 2) % 256) + "\n\n"


def blind():
    provider, ours = nacl.public.PrivateKey(stream("provider", 32)), nacl.public.PrivateKey(stream("blind consumer", 32))
    signing = ec.derive_private_key(int.from_bytes(stream("signing", 32), "big") >> 1, ec.SECP256R1())
    point = signing.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    signed_with = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
    blob = {"authenticatedRootEnabled": True, "chipName": "Apple M4 Max", "encryptionPublicKey": b64(bytes(provider.public_key)),
            "hardwareModel": "Mac16,6", "osVersion": "15.3.0", "publicKey": b64(point[1:]), "rdmaDisabled": True, "secureBootEnabled": True,
            "secureEnclaveAvailable": True, "serialNumber": "C02", "sipEnabled": True, "timestamp": "2026-01-01T00:00:00Z"}
    text = json.dumps(blob, sort_keys=True, separators=(",", ":")).replace("/", "\\/")
    attestation = '{"attestation":%s,"signature":"%s"}' % (text, b64(signing.sign(text.encode(), signed_with)))
    box = nacl.public.Box(ours, provider.public_key)
    limits = {"max_prompt_tokens": 200, "max_tokens": 50}
    body = json.dumps({"blind": limits, "model": "m", "messages": [{"role": "user", "content": "one two three"}]})
    nonce = timed_nonce("blind request", TIME_MS)
    frames = ['data: {"choices":[{"index":0,"delta":{"content":"Hello"}}]}\n\n', 'data: {"choices":[{"index":0,"delta":{"content":"' + "ü" * 120 + '"}}]}\n\n',
              "data: [DONE]\n\n"]
    chunks = [b64(bytes(box.encrypt(padded(frame).encode(), stream(f"chunk {number}", 24)))) for number, frame in enumerate(frames)]
    transcript = hashlib.sha256("".join(chunk + "\n" for chunk in chunks).encode()).hexdigest()
    statement = "\n".join(["darkbloom-blind-usage-v1", "3f0e2b1c", b64(bytes(ours.public_key)), "m", "11", "3", "1", transcript])
    return {"provider_secret": bytes(provider).hex(), "provider_public": b64(bytes(provider.public_key)), "se_public_key": b64(point[1:]),
            "attestation": attestation, "consumer_secret": bytes(ours).hex(), "consumer_public": b64(bytes(ours.public_key)),
            "shared": box.shared_key().hex(), "unix_ms": TIME_MS, "nonce": nonce.hex(), "body": body,
            "ciphertext": b64(bytes(box.encrypt(body.encode(), nonce))),
            "chunks": [{"frame": frame, "padded": padded(frame), "sealed": chunk} for frame, chunk in zip(frames, chunks)],
            "transcript": transcript, "request_id": "3f0e2b1c", "model": "m", "prompt_tokens": 11, "completion_tokens": 3, "reasoning_tokens": 1,
            "statement": statement, "usage_signature": b64(signing.sign(statement.encode(), signed_with))}


Path(__file__).with_name("sealed_vectors.json").write_text(json.dumps({"sealed": sealed(), "blind": blind()}, indent=1, ensure_ascii=False) + "\n")
