"""Bearer tokens that another issuer signed (http-api 1.5)."""

import base64
import json
import time

import httpx
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from harness import PATIENCE

KEY = ec.derive_private_key(0x1234567890ABCDEF, ec.SECP256R1())
OTHER = ec.derive_private_key(0xFEDCBA0987654321, ec.SECP256R1())
PEM = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def b64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(key=KEY, header=None, **claims):
    now = int(time.time())
    body = {"iss": "privy.io", "aud": "app-1", "sub": "did:privy:1", "iat": now, "exp": now + 600} | claims
    text = b64url(json.dumps({"alg": "ES256", "typ": "JWT"} | (header or {})).encode()) + "." + b64url(json.dumps(body).encode())
    r, s = utils.decode_dss_signature(key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    return text + "." + b64url(r.to_bytes(32) + s.to_bytes(32))


@pytest.fixture(scope="module")
def trusting(house):
    return house.coordinator({"jwt": {"audience": "app-1", "key": PEM.replace("\n", "\\n")}})


def ask(made, bearer, path="/v1/me"):
    return httpx.get(f"{made.url}{path}", headers={"Authorization": f"Bearer {bearer}"}, timeout=60 * PATIENCE)


def test_a_foreign_token_makes_its_account_on_first_sight_and_finds_it_again(trusting):
    first = ask(trusting, token())
    assert first.status_code == 200 and first.json()["authenticated_by"] == "session"
    again = [ask(trusting, token(exp=int(time.time()) + 900 + i)).json()["account_id"] for i in range(3)]
    assert set(again) == {first.json()["account_id"]}
    assert ask(trusting, token(sub="did:privy:2")).json()["account_id"] != first.json()["account_id"]
    assert ask(trusting, token(), "/v1/me/summary").status_code == 200  # a person, as with a cookie
    assert ask(trusting, token(), "/v1/payments/balance").json()["balance_micro_usd"] == 0


def test_a_foreign_token_needs_no_proof_against_other_sites(trusting):
    device = httpx.post(f"{trusting.url}/v1/device/code", timeout=60 * PATIENCE).json()
    answer = httpx.post(f"{trusting.url}/v1/device/approve", json={"user_code": device["user_code"]}, timeout=60 * PATIENCE,
                        headers={"Authorization": f"Bearer {token()}", "Origin": "https://app.example"})
    assert answer.status_code == 200


@pytest.mark.parametrize("bad", [
    lambda: token(key=OTHER), lambda: token(iss="evil"), lambda: token(aud="app-2"), lambda: token(exp=1), lambda: token(sub=""),
    lambda: token(nbf=int(time.time()) + 3600), lambda: token(header={"alg": "none"}), lambda: token(header={"alg": "HS256"}),
    lambda: token(header={"alg": "RS256"}), lambda: token().rpartition(".")[0] + ".", lambda: token()[:-8] + "AAAAAAAA", lambda: "eyJ", lambda: "eyJ.eyJ."])
def test_a_foreign_token_that_is_not_right_is_nobodys(trusting, bad):
    answer = ask(trusting, bad())
    assert answer.status_code == 401 and answer.json()["error"]["type"] == "authentication_error"


def test_a_clock_that_is_a_little_wrong_is_forgiven(trusting):
    now = int(time.time())
    assert ask(trusting, token(exp=now - 20)).status_code == 200
    assert ask(trusting, token(nbf=now + 20)).status_code == 200
    assert ask(trusting, token(exp=now - 300)).status_code == 401


def test_a_foreign_token_does_not_fall_through_to_api_keys(trusting):
    assert ask(trusting, "eyJ" + trusting.key).status_code == 401


def test_without_a_configured_issuer_foreign_tokens_are_refused(coordinator):
    assert ask(coordinator(), token()).status_code == 401
