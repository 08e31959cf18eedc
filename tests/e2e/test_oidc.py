"""Logging in at another issuer: a certified OpenID provider on loopback."""

import html
import os
import re
import signal
import subprocess
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

import patient
from harness import NODE, PATIENCE, TOP, environment, free_port, wait_until
from test_login import PASSWORD, Browser, check_log_has_no_secrets, sign_up_operator

SECRET = "a secret of the client"


class Issuer:
    """The provider of tests/node/oidc_server.mjs."""

    def __init__(self, folder, redirect_uri, alg):
        more = {"CLIENT_ID": "darkbloom", "CLIENT_SECRET": SECRET, "REDIRECT_URI": redirect_uri, "ALG": alg}
        self.log = open(folder / "issuer.log", "wb")
        self.process = subprocess.Popen([NODE, TOP / "tests/node/oidc_server.mjs"], stdout=subprocess.PIPE, stderr=self.log, text=True,
                                        env=environment(folder, **more), start_new_session=True)
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def fault(self, name):
        patient.get(f"{self.url}/test/fault/{name}").raise_for_status()

    def rotate(self):
        patient.get(f"{self.url}/test/rotate").raise_for_status()

    def stop(self):
        os.killpg(self.process.pid, signal.SIGKILL)  # the program that is started starts another
        self.process.wait()
        self.process.stdout.close()
        self.log.close()


@pytest.fixture
def sso(coordinator, tmp_path):
    """(coordinator, issuer) that know each other."""
    started = []

    def make(alg="RS256", accounts=None, **oidc):
        made = coordinator(start=False)
        issuer = Issuer(tmp_path, f"{made.url}/auth/oidc/callback", alg)
        started.append(issuer)
        made.configure({"oidc": {"issuer": issuer.url, "client_id": "darkbloom", "client_secret": SECRET, "name": "Test SSO"} | oidc,
                        "accounts": accounts or {}})
        return made.start(), issuer
    yield make
    for issuer in started:
        issuer.stop()


def ask_issuer(issuer, url, name):
    """What a person does at the issuer: logs in, agrees. Returns the address that leads back."""
    with httpx.Client(timeout=60 * PATIENCE) as client:
        answer = client.get(url)
        for _ in range(8):
            while answer.status_code in (302, 303):
                target = str(answer.next_request.url)
                if not target.startswith(issuer.url):
                    return target
                answer = client.get(target)
            assert answer.status_code == 200, answer.text[:500]
            action = html.unescape(re.search(r'<form[^>]* action="([^"]+)"', answer.text).group(1))
            prompt = re.search(r'name="prompt" value="(\w+)"', answer.text).group(1)
            answer = client.post(action, data={"prompt": prompt} | ({"login": name, "password": "x"} if prompt == "login" else {}))
    raise AssertionError("the issuer never led back")


def begin(made, page, query=""):
    answer = page.client.get(f"/auth/oidc/start{query}", headers={"Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


def log_in(made, issuer, page, name="alice", query=""):
    back = ask_issuer(issuer, begin(made, page, query), name)
    assert back.startswith(f"{made.url}/auth/oidc/callback")
    return page.client.get(back)


@pytest.mark.parametrize("alg", ["RS256", "ES256"])
def test_a_person_logs_in_at_the_identity_provider(sso, alg):
    made, issuer = sso(alg)
    page = Browser(made)
    assert page.client.get("/v1/auth/config").json()["oidc"] == [{"id": "oidc", "name": "Test SSO", "start": "/auth/oidc/start"}]
    assert "Log in with Test SSO" in page.client.get("/login").text
    url = begin(made, page, "?next=/link")
    asked = {name: value[0] for name, value in parse_qs(urlsplit(url).query).items()}
    assert (asked["response_type"], asked["code_challenge_method"], asked["client_id"]) == ("code", "S256", "darkbloom")
    assert len(asked["state"]) == len(asked["nonce"]) == len(asked["code_challenge"]) == 43
    back = ask_issuer(issuer, url, "alice")
    answer = page.client.get(back)
    assert answer.status_code == 303 and answer.headers["location"] == "/link", answer.text
    me = page.client.get("/v1/session").json()
    assert (me["email"], me["email_verified"], me["name"], me["method"]) == ("alice@id.example", True, "Name of alice", "oidc")
    assert not me["is_admin"]
    code = parse_qs(urlsplit(back).query)["code"][0]
    check_log_has_no_secrets(made, SECRET, code, asked["state"], asked["nonce"], page.cookie.value)

    assert page.client.get(back).status_code == 400  # the cookie of this login is gone
    other = Browser(made)
    assert log_in(made, issuer, other).status_code == 303
    assert other.client.get("/v1/session").json()["account_id"] == me["account_id"]
    third = Browser(made)
    assert log_in(made, issuer, third, "bob").status_code == 303
    assert third.client.get("/v1/session").json()["account_id"] != me["account_id"]
    for one in (page, other, third):
        one.client.close()


@pytest.mark.parametrize("change", [
    lambda query: query | {"state": "x" * 43}, lambda query: query | {"state": ""}, lambda query: query | {"iss": "https://another.example"},
    lambda query: query | {"code": "made-up"}, lambda query: {name: value for name, value in query.items() if name != "code"},
    lambda query: query | {"error": "access_denied"}])
def test_a_callback_that_was_tampered_with_logs_nobody_in(house_sso, change):
    made, issuer = house_sso
    page = Browser(made)
    back = urlsplit(ask_issuer(issuer, begin(made, page), "alice"))
    query = change({name: value[0] for name, value in parse_qs(back.query).items()})
    answer = page.client.get(back.path, params=query)
    assert answer.status_code in (400, 403), answer.text
    assert page.cookie is None
    page.client.close()


def test_a_callback_in_another_browser_logs_nobody_in(house_sso):
    made, issuer = house_sso
    attacker, victim = Browser(made), Browser(made)
    back = ask_issuer(issuer, begin(made, attacker), "mallory")
    assert victim.client.get(back).status_code == 400
    begin(made, victim)
    assert victim.client.get(back).status_code == 400
    assert victim.cookie is None
    attacker.client.close()
    victim.client.close()


@pytest.mark.parametrize("fault", ["nonce", "aud", "iss", "expired", "sub", "signature", "none"])
def test_a_token_that_is_not_for_this_login_is_refused(house_sso, fault):
    made, issuer = house_sso
    page = Browser(made)
    issuer.fault(fault)
    answer = log_in(made, issuer, page)
    issuer.fault("")
    assert answer.status_code == 403, answer.text
    assert page.cookie is None
    page.client.close()


def test_new_keys_of_the_issuer_are_fetched_when_a_token_names_one(sso):
    made, issuer = sso()

    def logs_in(name):
        page = Browser(made)
        status = log_in(made, issuer, page, name).status_code
        page.client.close()
        assert status in (303, 403)
        return status == 303

    for name in ("alice", "bob", "carol"):  # keys are asked for again after a second at the earliest
        wait_until(lambda: logs_in(name), "a login with the keys of the moment", 20 * PATIENCE)
        issuer.rotate()
    issuer.fault("signature")  # a key that the issuer never had is asked for in vain
    page = Browser(made)
    assert log_in(made, issuer, page).status_code == 403
    page.client.close()


def test_a_clock_that_is_a_little_wrong_is_forgiven(sso):
    made, issuer = sso()
    for fault, status in (("late", 303), ("early", 303), ("too-early", 403), ("expired", 403)):
        page = Browser(made)
        issuer.fault(fault)
        assert log_in(made, issuer, page).status_code == status, fault
        page.client.close()


@pytest.fixture(scope="module")
def house_sso(house, tmp_path_factory):
    port = free_port()
    issuer = Issuer(tmp_path_factory.mktemp("issuer"), f"http://127.0.0.1:{port}/auth/oidc/callback", "RS256")
    made = house.coordinator({"server": {"port": port}, "oidc": {"issuer": issuer.url, "client_id": "darkbloom", "client_secret": SECRET}})
    made.port = port
    yield made, issuer
    issuer.stop()


def test_an_unverified_address_is_not_taken_over(sso):
    made, issuer = sso(accounts={"operators": ["alice@id.example"]})
    page = Browser(made)
    issuer.fault("unverified")
    assert log_in(made, issuer, page).status_code == 303
    me = page.client.get("/v1/session").json()
    assert (me["email"], me["is_admin"]) == ("", False)
    issuer.fault("")
    assert log_in(made, issuer, page).status_code == 303
    again = page.client.get("/v1/session").json()
    assert (again["email"], again["is_admin"], again["account_id"]) == ("alice@id.example", True, me["account_id"])
    page.client.close()


def test_the_same_address_is_no_proof_of_being_the_same_person(sso):
    made, issuer = sso(accounts={"signup": "open"})
    local, page = Browser(made), Browser(made)
    mine = local.logged_in(local.post("/v1/session/register", {"email": "alice@id.example", "password": PASSWORD}))
    assert log_in(made, issuer, page).status_code == 303
    assert page.client.get("/v1/session").json()["account_id"] != mine["account_id"]
    local.client.close()
    page.client.close()


def test_an_identity_is_linked_from_a_live_session_only(sso):
    made, issuer = sso(signup=False)
    page = Browser(made)
    me = sign_up_operator(made, page)
    stranger = Browser(made)
    answer = log_in(made, issuer, stranger)
    assert answer.status_code == 403 and stranger.cookie is None
    assert log_in(made, issuer, page, query="?link=1").status_code == 303
    linked = page.client.get("/v1/session").json()
    assert linked["account_id"] == me["account_id"] and set(linked["auth_methods"]) == {"password", "oidc"}
    assert log_in(made, issuer, stranger).status_code == 303
    assert stranger.client.get("/v1/session").json()["account_id"] == me["account_id"]
    page.client.close()
    stranger.client.close()


def test_an_issuer_that_cannot_be_reached_is_said(coordinator):
    made = coordinator({"oidc": {"issuer": "http://127.0.0.1:1", "client_id": "darkbloom"}})
    assert patient.get(f"{made.url}/auth/oidc/start").status_code == 502


@pytest.mark.parametrize("settings, sentence", [
    ({"oidc": {"issuer": "http://id.example", "client_id": "x"}}, "https"), ({"oidc": {"issuer": "https://id.example"}}, "client_id"),
    ({"jwt": {"audience": "app"}}, "jwt.key"), ({"jwt": {"audience": "app", "key": "no key"}}, "PEM")])
def test_wrong_settings_are_refused_at_the_start(coordinator, settings, sentence):
    made = coordinator(settings, start=False)
    made.launch_only()
    assert made.wait() != 0
    made.killed = True
    assert sentence in made.log() + made.out()
