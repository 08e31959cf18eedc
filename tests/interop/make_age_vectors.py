#!/usr/bin/env python3
"""Writes age_vectors.json beside this file, made by pyrage (the Rust implementation of age).

Needs: pip install pyrage. Keys and nonces are new at every run: the reader must open what it never saw.
"""

import base64
import hashlib
import json
from pathlib import Path

import pyrage


def stream(label, size):
    """Bytes that look random and never change."""
    return hashlib.shake_256(label.encode()).digest(size)


def files():
    for size in [0, 1, 100, 65537]:
        us, other = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
        plain = bytes(size) if size > 100 else stream(f"age {size}", size)
        to = [other.to_public(), us.to_public()] if size == 100 else [us.to_public()]
        yield {"identity": str(us), "recipient": str(us.to_public()), "other": str(pyrage.x25519.Identity.generate()), "len": size,
               "sha256": hashlib.sha256(plain).hexdigest(), "file": base64.b64encode(pyrage.encrypt(plain, to)).decode()}


out = Path(__file__).with_name("age_vectors.json")
out.write_text(json.dumps({"files": list(files())}, indent=1) + "\n")
