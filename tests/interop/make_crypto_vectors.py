#!/usr/bin/env python3
"""Writes crypto_vectors.json beside this file, made by PyNaCl, Python's cryptography and hashlib.

Needs: pip install pynacl cryptography. The output is the same on every run.
"""

import base64
import hashlib
import hmac
import json
from pathlib import Path

import nacl.bindings
import nacl.public
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def b64(data):
    return base64.b64encode(data).decode()


def stream(label, size):
    """Bytes that look random and never change."""
    return hashlib.shake_256(label.encode()).digest(size)


def boxes():
    for number, size in enumerate([0, 1, 15, 16, 17, 63, 64, 65, 200, 1000, 5000]):
        ours, theirs = stream(f"ours {number}", 32), stream(f"theirs {number}", 32)
        nonce, plain = stream(f"nonce {number}", 24), stream(f"plain {number}", size)
        us, them = nacl.public.PrivateKey(ours), nacl.public.PrivateKey(theirs)
        box = nacl.public.Box(us, them.public_key)
        yield {"secret": ours.hex(), "public": bytes(us.public_key).hex(), "peer_secret": theirs.hex(),
               "peer_public": bytes(them.public_key).hex(), "shared": box.shared_key().hex(), "nonce": nonce.hex(),
               "plain": b64(plain), "sealed": b64(bytes(box.encrypt(plain, nonce)))}


def mnemonics():
    words = "legal winner thank year wave sausage worth useful legal winner thank yellow".split()
    for phrase in [" ".join(words), "  " + " ".join(words) + "\n", "\t".join(words), " ".join(words * 2), "ünïcödé " * 11 + "words"]:
        trimmed = phrase.strip()
        seed = hashlib.pbkdf2_hmac("sha512", trimmed.encode(), b"mnemonic", 2048, 64)
        secret = HKDF(hashes.SHA256(), 32, None, b"eigeninference-coordinator-e2e-v1").derive(seed)
        public = nacl.bindings.crypto_scalarmult_base(secret)
        yield {"phrase": phrase, "secret": secret.hex(), "public": public.hex(), "kid": hashlib.sha256(public).hexdigest()[:16]}


def digests():
    for size in [0, 1, 55, 56, 63, 64, 65, 127, 128, 1000, 10000]:
        data = stream(f"digest {size}", size)
        yield {"data": b64(data), "sha256": hashlib.sha256(data).hexdigest()}


def macs():
    for key_size in [0, 1, 32, 63, 64, 65, 200]:
        key, data = stream(f"mac key {key_size}", key_size), stream(f"mac data {key_size}", 3 * key_size)
        yield {"key": b64(key), "data": b64(data), "hmac_sha256": hmac.new(key, data, "sha256").hexdigest()}


def xy(key):
    numbers = key.public_key().public_numbers()
    return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


def signatures():
    """Deterministic ECDSA (RFC 6979) and its high-s or low-s twin: both are valid."""
    for number in range(12):
        scalar = int.from_bytes(stream(f"scalar {number}", 32), "big") % (N - 1) + 1
        key = ec.derive_private_key(scalar, ec.SECP256R1())
        message = stream(f"message {number}", number * 37)
        der = key.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        r, s = utils.decode_dss_signature(der)
        yield {"scalar": scalar.to_bytes(32, "big").hex(), "public": xy(key).hex(), "message": b64(message), "der": b64(der),
               "twin": b64(utils.encode_dss_signature(r, N - s))}


def small_scalars():
    for scalar in [1, 2, 3, N - 2, N - 1]:
        yield {"scalar": scalar.to_bytes(32, "big").hex(), "public": xy(ec.derive_private_key(scalar, ec.SECP256R1())).hex()}


def sealed_parts():
    """AES-256-GCM by libsodium."""
    for number, (size, aad_size) in enumerate([(0, 0), (0, 20), (1, 0), (15, 1), (16, 16), (17, 300), (64, 12), (1000, 0), (70000, 5000)]):
        key, nonce = stream(f"seal key {number}", 32), stream(f"seal nonce {number}", 12)
        aad, plain = stream(f"seal aad {number}", aad_size), stream(f"seal plain {number}", size)
        sealed = nacl.bindings.crypto_aead_aes256gcm_encrypt(plain, aad or None, nonce, key)
        yield {"key": key.hex(), "nonce": nonce.hex(), "aad": b64(aad), "plain": b64(plain), "sealed": b64(sealed)}


def derivations():
    """HKDF-SHA256 from RFC 5869's text with hashlib's HMAC."""
    for number, (salt_size, info_size, size) in enumerate([(0, 0, 32), (13, 10, 42), (80, 80, 82), (32, 0, 12), (1, 256, 1), (64, 3, 8160)]):
        salt, secret = stream(f"hkdf salt {number}", salt_size), stream(f"hkdf secret {number}", 32 + number)
        info, out, block = stream(f"hkdf info {number}", info_size), b"", b""
        prk = hmac.new(salt or bytes(32), secret, "sha256").digest()
        for counter in range(1, -(-size // 32) + 1):
            block = hmac.new(prk, block + info + bytes([counter]), "sha256").digest()
            out += block
        yield {"salt": b64(salt), "secret": b64(secret), "info": b64(info), "prk": prk.hex(), "out": b64(out[:size])}


def main():
    vectors = {name: list(make()) for name, make in [("boxes", boxes), ("mnemonics", mnemonics), ("digests", digests), ("macs", macs),
                                                     ("signatures", signatures), ("small_scalars", small_scalars),
                                                     ("sealed_parts", sealed_parts), ("derivations", derivations)]}
    path = Path(__file__).with_name("crypto_vectors.json")
    path.write_text(json.dumps(vectors, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


main()
