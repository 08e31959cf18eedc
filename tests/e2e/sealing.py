"""An independent client of the sealed transport and of blind mode, over PyNaCl and nothing of ours."""

import base64
import hashlib
import json
import os
import struct
import time

from nacl.bindings import crypto_box_afternm, crypto_box_beforenm, crypto_box_open_afternm
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
