#!/usr/bin/env python3
"""Writes jwt_vectors.json beside this file: tokens good and bad, made by Python's cryptography.

Needs: pip install cryptography. The output is the same on every run.
"""

import base64
import hashlib
import hmac
import json
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

NOW = 1_800_000_000
ISSUER, AUDIENCE = "https://id.example", "app-1"
CLAIMS = {"iss": ISSUER, "aud": AUDIENCE, "sub": "did:example:42", "iat": NOW - 60, "exp": NOW + 600}


def b64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def stream(label, size):
    return hashlib.shake_256(label.encode()).digest(size)


def is_prime(number):
    d, r = number - 1, 0
    while d % 2 == 0:
        d, r = d // 2, r + 1
    for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53):
        x = pow(base, d, number)
        if x in (1, number - 1):
            continue
        for _ in range(r - 1):
            x = x * x % number
            if x == number - 1:
                break
        else:
            return False
    return True


def prime(label, bits):
    number = int.from_bytes(stream(label, bits // 8)) | 3 << (bits - 2) | 1
    while not is_prime(number) or (number - 1) % 65537 == 0:
        number += 2
    return number


def rsa_key(label, bits):
    p, q, e = prime(label + " p", bits // 2), prime(label + " q", bits // 2), 65537
    d = pow(e, -1, (p - 1) * (q - 1))
    numbers = rsa.RSAPrivateNumbers(p, q, d, rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q), rsa.RSAPublicNumbers(e, p * q))
    return numbers.private_key()


def ec_key(label, curve=ec.SECP256R1()):
    return ec.derive_private_key(int.from_bytes(stream(label, 31)), curve)


EC, EC_OTHER, RSA, RSA_SMALL = ec_key("ec"), ec_key("other"), rsa_key("rsa", 2048), rsa_key("small", 1024)
P384 = ec_key("p384", ec.SECP384R1())


def pem(key):
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def es256(key, text):
    r, s = utils.decode_dss_signature(key.sign(text, ec.ECDSA(hashes.SHA256(), deterministic_signing=True)))
    return r.to_bytes(32) + s.to_bytes(32)


def rs256(key, text):
    return key.sign(text, padding.PKCS1v15(), hashes.SHA256())


def parts(header, claims):
    return (b64url(json.dumps(header).encode()) + "." + b64url(claims if isinstance(claims, bytes) else json.dumps(claims).encode())).encode()


def token(claims=CLAIMS, header=None, key=EC, sign=es256):
    text = parts({"alg": "ES256", "typ": "JWT", **(header or {})}, claims)
    return text.decode() + "." + b64url(sign(key, text))


def jwk(key, kid, **more):
    numbers = key.public_key().public_numbers()
    if isinstance(key, rsa.RSAPrivateKey):
        size = (numbers.n.bit_length() + 7) // 8
        made = {"kty": "RSA", "n": b64url(numbers.n.to_bytes(size)), "e": b64url(b"\1\0\1")}
    else:
        size = (key.curve.key_size + 7) // 8
        made = {"kty": "EC", "crv": {256: "P-256", 384: "P-384"}[key.curve.key_size], "x": b64url(numbers.x.to_bytes(size)), "y": b64url(numbers.y.to_bytes(size))}
    return {**made, "kid": kid, **more}


def cases():
    """name, token, key to verify with, expected end: good, or the step that refuses it."""
    changed = lambda **fields: {name: value for name, value in {**CLAIMS, **fields}.items() if value is not None}
    good = token()
    head, body, signature = good.split(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    yield "ES256 as issued", good, "ec", "good"
    yield "RS256 as issued", token(header={"alg": "RS256"}, key=RSA, sign=rs256), "rsa", "good"
    yield "one audience of several", token(changed(aud=["other", AUDIENCE])), "ec", "good"
    yield "a fraction of a second in exp", token(changed(exp=NOW + 1.5)), "ec", "good"
    yield "expired within the skew", token(changed(exp=NOW - 30)), "ec", "good"
    yield "unknown members", token(changed(extra={"a": [1]}), header={"x": 1}), "ec", "good"
    none = parts({"alg": "none"}, CLAIMS).decode()
    yield "alg none without signature", none + ".", "ec", "parse"
    yield "alg none in capitals", parts({"alg": "NONE"}, CLAIMS).decode() + "." + signature, "ec", "parse"
    hs = parts({"alg": "HS256"}, CLAIMS)
    yield "HS256 with the public key as secret", hs.decode() + "." + b64url(hmac.digest(pem(EC).encode(), hs, "sha256")), "ec", "parse"
    yield "alg missing", parts({"typ": "JWT"}, CLAIMS).decode() + "." + signature, "ec", "parse"
    yield "alg no text", parts({"alg": ["ES256"]}, CLAIMS).decode() + "." + signature, "ec", "parse"
    yield "lower case alg", token(header={"alg": "es256"}), "ec", "parse"
    yield "critical extension", token(header={"crit": ["exp"]}), "ec", "parse"
    yield "two parts", head + "." + body, "ec", "parse"
    yield "four parts", good + "." + signature, "ec", "parse"
    yield "padding", good + "=", "ec", "parse"
    yield "standard alphabet", head + "+." + body + "." + signature, "ec", "parse"
    yield "payload no object", token(b"[1]"), "ec", "parse"
    yield "payload no JSON", token(b"{"), "ec", "parse"
    yield "RS256 token, ES256 key", token(header={"alg": "RS256"}, key=RSA, sign=rs256), "ec", "verify"
    yield "ES256 token, RS256 key", good, "rsa", "verify"
    yield "RS256 named, ES256 signed", token(header={"alg": "RS256"}), "rsa", "verify"
    yield "another key", token(key=EC_OTHER), "ec", "verify"
    yield "changed payload", head + "." + b64url(json.dumps(changed(sub="root")).encode()) + "." + signature, "ec", "verify"
    yield "no signature", head + "." + body + ".", "ec", "verify"
    yield "signature of zeros", head + "." + body + "." + b64url(bytes(64)), "ec", "verify"
    yield "short signature", head + "." + body + "." + b64url(raw[:63]), "ec", "verify"
    yield "long signature", head + "." + body + "." + b64url(raw + b"\0"), "ec", "verify"
    yield "DER signature", token(sign=lambda key, text: key.sign(text, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))), "ec", "verify"
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    yield "r not below the order", head + "." + body + "." + b64url(order.to_bytes(32) + raw[32:]), "ec", "verify"
    yield "truncated RS256 signature", token(header={"alg": "RS256"}, key=RSA, sign=lambda key, text: rs256(key, text)[:-1]), "rsa", "verify"
    yield "PSS signature", token(header={"alg": "RS256"}, key=RSA, sign=lambda key, text: b"\1" + stream("pss", 255)), "rsa", "verify"
    yield "another issuer", token(changed(iss="https://evil.example")), "ec", "check"
    yield "issuer with a slash more", token(changed(iss=ISSUER + "/")), "ec", "check"
    yield "no issuer", token(changed(iss=None)), "ec", "check"
    yield "another audience", token(changed(aud="app-2")), "ec", "check"
    yield "audience that contains ours", token(changed(aud="app-12")), "ec", "check"
    yield "no audience", token(changed(aud=None)), "ec", "check"
    yield "audiences of numbers", token(changed(aud=[1, 2])), "ec", "check"
    yield "no subject", token(changed(sub=None)), "ec", "check"
    yield "empty subject", token(changed(sub="")), "ec", "check"
    yield "subject no text", token(changed(sub=7)), "ec", "check"
    yield "expired", token(changed(exp=NOW - 61)), "ec", "check"
    yield "no expiry", token(changed(exp=None)), "ec", "check"
    yield "expiry as text", token(changed(exp=str(NOW + 600))), "ec", "check"
    yield "negative expiry", token(changed(exp=-1)), "ec", "check"
    yield "endless expiry", token(changed(exp=1e300)), "ec", "check"
    yield "not valid yet", token(changed(nbf=NOW + 120)), "ec", "check"
    yield "valid within the skew", token(changed(nbf=NOW + 50)), "ec", "good"
    yield "issued in the future", token(changed(iat=NOW + 120)), "ec", "check"


def main():
    off_curve = {**jwk(EC, "off-curve"), "y": b64url(bytes(32))}
    keys = [jwk(EC_OTHER, "old"), jwk(RSA_SMALL, "small"), jwk(P384, "p384"), {"kty": "oct", "k": "AAAA", "kid": "oct"}, off_curve,
            jwk(EC, "for-encryption", use="enc"), jwk(RSA, "wrong-alg", alg="RS512"), {"kid": "none"}, 7,
            jwk(EC, "ec-1", use="sig", alg="ES256"), jwk(RSA, "rsa-1", use="sig")]
    in_set = [("EC by its id", token(header={"kid": "ec-1"}), "good"),
              ("RSA by its id", token(header={"alg": "RS256", "kid": "rsa-1"}, key=RSA, sign=rs256), "good"),
              ("EC without an id", token(), "good"),
              ("an id that the set does not have", token(header={"kid": "ec-2"}), "unknown"),
              ("another key's id", token(header={"kid": "old"}), "forged"),
              ("a key that is for encryption", token(header={"kid": "for-encryption"}), "unknown"),
              ("a key for another algorithm", token(header={"alg": "RS256", "kid": "wrong-alg"}, key=RSA, sign=rs256), "unknown"),
              ("the id of a key of the other kind", token(header={"kid": "rsa-1"}), "unknown")]
    bad_pems = ["", "no key", pem(P384), pem(RSA_SMALL), pem(ec_key("x", ec.SECP256K1())), pem(EC)[:60]]
    Path(__file__).with_name("jwt_vectors.json").write_text(json.dumps({
        "now": NOW, "issuer": ISSUER, "audience": AUDIENCE, "subject": CLAIMS["sub"], "ec": pem(EC), "rsa": pem(RSA), "bad_pems": bad_pems,
        "jwks": json.dumps({"keys": keys}), "usable": 3, "in_set": [dict(zip(("name", "token", "expect"), case)) for case in in_set],
        "cases": [dict(zip(("name", "token", "key", "expect"), case)) for case in cases()]}, indent=1) + "\n")


main()
