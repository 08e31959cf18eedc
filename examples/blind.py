"""Ask a model so that not even the coordinator can read along: the request is sealed to one attested provider.

    pip install pynacl cryptography
    export DARKBLOOM_URL=https://coordinator.example DARKBLOOM_API_KEY=sk-db-...
    python3 blind.py MODEL "What is the capital of France?" [SE_PUBLIC_KEY]

SE_PUBLIC_KEY: talk to the provider with this signing key and no other. docs/reference/blind-mode.md says what is checked here and
what it is worth."""

import base64
import hashlib
import json
import os
import struct
import sys
import time
import urllib.error
import urllib.request

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from nacl.public import Box, PrivateKey, PublicKey

URL = os.environ.get("DARKBLOOM_URL", "http://127.0.0.1:8080").rstrip("/")


def b64(data):
    return base64.b64encode(data).decode()


def post(path, body):
    headers = {"Authorization": "Bearer " + os.environ["DARKBLOOM_API_KEY"], "Content-Type": "application/json"}
    try:
        return urllib.request.urlopen(urllib.request.Request(URL + path, data=json.dumps(body).encode(), headers=headers))
    except urllib.error.HTTPError as refused:
        sys.exit(json.load(refused)["error"]["message"])


def verify(public_key, signature, message):
    """Fails unless the P-256 key (base64 of X and Y) has signed the message."""
    point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + base64.b64decode(public_key)[-64:])
    point.verify(base64.b64decode(signature), message, ec.ECDSA(hashes.SHA256()))


def attested_key(candidate):
    """The provider's encryption key, from the statement that its own signing key has signed."""
    text = candidate["attestation"]
    start = text.index("{", 1)  # the signature is over these bytes as they stand
    blob, end = json.JSONDecoder().raw_decode(text, start)
    verify(candidate["se_public_key"], json.loads(text)["signature"], text[start:end].encode())
    assert blob["publicKey"] == candidate["se_public_key"] and blob["encryptionPublicKey"] == candidate["encryption_public_key"]
    return PublicKey(base64.b64decode(blob["encryptionPublicKey"]))


def main(model, prompt, trusted=None):
    limits = {"max_prompt_tokens": len(prompt.encode()) + 1024, "max_tokens": 1024}  # no tokenizer makes more tokens than bytes
    offer = json.load(post("/v1/blind/offer", {"model": model, "prompt_tokens": len(prompt) // 4 + 1, **limits}))
    candidates = [one for one in offer["candidates"] if trusted in (None, one["se_public_key"])]
    if not candidates:
        sys.exit("no provider with this key is offered")
    provider, mine = candidates[0], PrivateKey.generate()
    box = Box(mine, attested_key(provider))
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "blind": limits}
    nonce = b"dbseal01" + struct.pack(">Q", int(time.time() * 1000)) + os.urandom(8)
    sealed = {"offer_id": offer["id"], "provider_id": provider["provider_id"], "stream": True, "ephemeral_public_key": b64(bytes(mine.public_key)),
              "ciphertext": b64(box.encrypt(json.dumps(body).encode(), nonce))}
    transcript, kind = hashlib.sha256(), ""
    for line in post("/v1/blind/completions", sealed):
        line = line.decode().rstrip("\n")
        if line.startswith("event: "):
            kind = line[7:]
        elif line.startswith("data: ") and kind == "error":
            sys.exit(json.loads(line[6:])["error"]["message"])
        elif line.startswith("data: ") and kind == "receipt":  # the provider's word about exactly the chunks that came
            receipt = json.loads(line[6:])
            counts = [str(receipt["usage"][name]) for name in ("prompt_tokens", "completion_tokens", "reasoning_tokens")]
            lines = ["darkbloom-blind-usage-v1", receipt["request_id"], b64(bytes(mine.public_key)), model, *counts, transcript.hexdigest()]
            verify(provider["se_public_key"], receipt["usage_signature"], "\n".join(lines).encode())
            print()
            return
        elif line.startswith("data: "):
            transcript.update((line[6:] + "\n").encode())
            frame = box.decrypt(base64.b64decode(line[6:])).decode().strip()
            for choice in [] if frame == "data: [DONE]" else json.loads(frame[6:])["choices"]:
                print(choice["delta"].get("content") or "", end="", flush=True)
    sys.exit("the answer ended before its provider had signed for it")


if __name__ == "__main__":
    main(*sys.argv[1:])
