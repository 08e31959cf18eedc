"""An independent client of the sealed transport and of blind mode, over PyNaCl and nothing of ours."""

import base64
import hashlib
import json
import os
import struct
import time

from nacl.bindings import crypto_box_afternm, crypto_box_beforenm, crypto_box_open_afternm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from nacl.public import PrivateKey

SEALED_TYPE = "application/eigeninference-sealed+json"
MNEMONIC = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about"
OLD_MNEMONIC = "legal winner thank year wave sausage worth useful legal winner thank yellow"


def b64(data):
    return base64.b64encode(data).decode()


def timed_nonce(at=None):
    return b"dbseal01" + struct.pack(">Q", int((time.time() if at is None else at) * 1000)) + os.urandom(8)


def kid_of(public_key):
    return hashlib.sha256(public_key).hexdigest()[:16]


class Sealer:
    """One request to one key: seals the body, opens what comes back."""

    def __init__(self, public_key):
        self.to = base64.b64decode(public_key)
        self.key = PrivateKey.generate()
        self.public = bytes(self.key.public_key)
        self.shared = crypto_box_beforenm(self.to, bytes(self.key))

    def box(self, plain, nonce=None):
        nonce = timed_nonce() if nonce is None else nonce
        return nonce + crypto_box_afternm(plain, nonce, self.shared)

    def envelope(self, body, nonce=None, kid=None):
        plain = body if isinstance(body, bytes) else json.dumps(body).encode()
        return {"kid": kid_of(self.to) if kid is None else kid, "ephemeral_public_key": b64(self.public), "ciphertext": b64(self.box(plain, nonce))}

    def open(self, text):
        sealed = base64.b64decode(text, validate=True)
        return crypto_box_open_afternm(sealed[24:], sealed[:24], self.shared)

    def answer(self, response):
        """What a whole answer says."""
        assert response.headers["x-eigen-sealed"] == "true", response.text
        assert response.headers["content-type"] == SEALED_TYPE
        body = response.json()
        assert body["kid"] == response.headers["x-eigen-sealed-kid"]
        return json.loads(self.open(body["ciphertext"]))

    def events(self, response):
        """The bytes of a sealed stream, opened event by event."""
        assert response.headers["content-type"].startswith("text/event-stream"), response.text
        pieces = []
        for event in response.text.split("\n\n")[:-1]:
            assert event.startswith("data: "), event
            pieces.append(self.open(event[len("data: "):]).decode())
        return pieces


def post(client, path, envelope, content_type=SEALED_TYPE):
    return client.post(path, content=json.dumps(envelope), headers={"content-type": content_type})


class Blind:
    """A consumer of blind mode: checks what a provider says of itself, seals to it, opens and checks what comes back."""

    def __init__(self, client, chat, max_prompt_tokens=200, max_tokens=50, **offer):
        self.client = client
        self.limits = {"max_prompt_tokens": max_prompt_tokens, "max_tokens": max_tokens}
        self.chat = chat
        response = client.post("/v1/blind/offer", json={"model": chat["model"], "prompt_tokens": 10, **self.limits, **offer})
        assert response.status_code == 200, response.text
        self.offer = response.json()
        self.candidate = self.offer["candidates"][0]

    def seal(self, candidate=None, **more):
        self.candidate = candidate or self.candidate
        self.sealer = Sealer(attested_key(self.candidate))
        plain = {**self.chat, "blind": self.limits} | more.pop("inside", {})
        envelope = self.sealer.envelope(plain, more.pop("nonce", None))
        return {"offer_id": self.offer["id"], "provider_id": self.candidate["provider_id"], "ephemeral_public_key": envelope["ephemeral_public_key"],
                "ciphertext": envelope["ciphertext"], **more}

    def post(self, body):
        return self.client.post("/v1/blind/completions", json=body)

    def open_all(self, chunks, receipt):
        """The frames inside the chunks; fails unless the provider's signature covers exactly these."""
        transcript = hashlib.sha256("".join(chunk + "\n" for chunk in chunks).encode()).hexdigest()
        assert receipt["transcript_sha256"] == transcript
        usage = receipt["usage"]
        statement = "\n".join(["darkbloom-blind-usage-v1", receipt["request_id"], b64(self.sealer.public), receipt["model"], str(usage["prompt_tokens"]),
                               str(usage["completion_tokens"]), str(usage["reasoning_tokens"]), transcript])
        public_key(self.candidate["se_public_key"]).verify(base64.b64decode(receipt["usage_signature"]), statement.encode(), ec.ECDSA(hashes.SHA256()))
        return [self.sealer.open(chunk).decode() for chunk in chunks]

    def text(self, frames):
        said = [json.loads(frame[len("data: "):]) for frame in frames if "[DONE]" not in frame]
        return "".join(choice["delta"].get("content") or "" for frame in said for choice in frame["choices"])

    def whole(self, **more):
        response = self.post(self.seal(**more))
        assert response.status_code == 200, response.text
        body = response.json()
        return self.text(self.open_all(body["chunks"], body["receipt"])), body["receipt"]

    def stream(self, **more):
        response = self.post(self.seal(stream=True, **more))
        assert response.headers["content-type"].startswith("text/event-stream"), response.text
        chunks, last = read_blind_stream(response.text)
        return self.text(self.open_all(chunks, last["receipt"])), last["receipt"], response


def read_blind_stream(text):
    """The sealed chunks, and {"receipt": ...} or {"error": ...}."""
    chunks, last = [], None
    for event in text.split("\n\n")[:-1]:
        if event.startswith("data: "):
            chunks.append(event[len("data: "):])
        elif event.startswith("event: "):
            name, _, data = event[len("event: "):].partition("\ndata: ")
            last = {"receipt": json.loads(data)} if name == "receipt" else json.loads(data)
        else:
            assert event == ": keepalive", event
    return chunks, last


def public_key(text):
    point = base64.b64decode(text)
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + point[-64:])


def attested_key(candidate):
    """The key that the provider's own signature vouches for."""
    text = candidate["attestation"]
    start = text.index('"attestation"') + len('"attestation"')
    start = text.index("{", start)
    blob, end = json.JSONDecoder().raw_decode(text, start)
    signature = base64.b64decode(json.loads(text)["signature"])
    public_key(blob["publicKey"]).verify(signature, text[start:end].encode(), ec.ECDSA(hashes.SHA256()))
    assert blob["publicKey"] == candidate["se_public_key"]
    assert blob["encryptionPublicKey"] == candidate["encryption_public_key"]
    return blob["encryptionPublicKey"]
