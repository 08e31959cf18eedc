"""Ask a model through a Darkbloom coordinator so that nothing between you and the coordinator can read along.

    pip install pynacl
    export DARKBLOOM_URL=https://coordinator.example DARKBLOOM_API_KEY=sk-db-...
    python3 sealed.py MODEL "What is the capital of France?"

The request is sealed to the coordinator's own key, the answer comes back sealed: docs/reference/sealed-transport.md."""

import base64
import hashlib
import json
import os
import struct
import sys
import time
import urllib.error
import urllib.request

from nacl.public import Box, PrivateKey, PublicKey

URL = os.environ.get("DARKBLOOM_URL", "http://127.0.0.1:8080").rstrip("/")
SEALED = "application/eigeninference-sealed+json"


def b64(data):
    return base64.b64encode(data).decode()


def call(path, body=None, content_type="application/json"):
    headers = {"Authorization": "Bearer " + os.environ["DARKBLOOM_API_KEY"], "Content-Type": content_type}
    request = urllib.request.Request(URL + path, data=body and json.dumps(body).encode(), headers=headers)
    try:
        return urllib.request.urlopen(request)
    except urllib.error.HTTPError as refused:  # an error may be sealed too: the caller opens it
        return refused


def seal(body):
    """The envelope of a body, and the box that opens the answer."""
    published = json.load(call("/v1/encryption-key"))
    key = base64.b64decode(published["public_key"])
    assert published["algorithm"] == "x25519-nacl-box" and published["kid"] == hashlib.sha256(key).hexdigest()[:16]
    mine = PrivateKey.generate()  # for this one request
    box = Box(mine, PublicKey(key))
    # The time in the nonce lets the coordinator refuse a copy of this envelope for ever.
    nonce = b"dbseal01" + struct.pack(">Q", int(time.time() * 1000)) + os.urandom(8)
    sealed = box.encrypt(json.dumps(body).encode(), nonce)  # the nonce stands in front
    return {"kid": published["kid"], "ephemeral_public_key": b64(bytes(mine.public_key)), "ciphertext": b64(sealed)}, box


def events(response, box):
    """The data of every event, opened: each sealed event holds one event, its own "data: " too."""
    for line in response:
        if line.startswith(b"data: "):
            for inner in box.decrypt(base64.b64decode(line[6:])).decode().splitlines():
                if inner.startswith("data: "):
                    yield inner[6:]


def main(model, prompt):
    envelope, box = seal({"model": model, "stream": True, "messages": [{"role": "user", "content": prompt}]})
    response = call("/v1/chat/completions", envelope, SEALED)
    if response.headers.get("X-Eigen-Sealed") != "true":  # refused before the envelope was opened
        sys.exit(json.load(response)["error"]["message"])
    if response.headers["Content-Type"] == SEALED:
        sys.exit(json.loads(box.decrypt(base64.b64decode(json.load(response)["ciphertext"])))["error"]["message"])
    for data in events(response, box):
        if data == "[DONE]":
            print()
            return
        said = json.loads(data)
        if "error" in said:
            sys.exit(said["error"]["message"])
        for choice in said["choices"]:
            print(choice["delta"].get("content") or "", end="", flush=True)
    sys.exit("the answer ended before it was complete")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
