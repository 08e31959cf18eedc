"""Accounts, sessions and device login as people, browsers and attackers use them."""

import os
import re
import subprocess
import time
from pathlib import Path

import httpx
import pytest

import patient
from harness import BIN, PATIENCE, environment, wait_until

PASSWORD = "correct horse battery"
EMAIL = "owner@example.test"


class Browser:
    """A browser with cookies; `send` is what a page of ours does: same origin, with the session's proof."""

    def __init__(self, coordinator):
        self.base = coordinator.url
        self.client = httpx.Client(base_url=coordinator.url, timeout=60 * PATIENCE, verify=coordinator.verify)
        self.csrf = ""

    def post(self, path, json=None, headers=None, **more):
        return self.client.post(path, json=json, headers={"Origin": self.base, "Sec-Fetch-Site": "same-origin"} | (headers or {}), **more)

    def send(self, method, path, json=None, **more):
        return self.client.request(method, path, json=json, headers={"Origin": self.base, "X-CSRF-Token": self.csrf}, **more)

    def logged_in(self, response):
        assert response.status_code == 200, response.text
        self.csrf = response.json()["csrf_token"]
        return response.json()

    def login(self, email=EMAIL, password=PASSWORD):
        return self.logged_in(self.post("/v1/session/login", {"email": email, "password": password}))

    @property
    def cookie(self):
        return next((cookie for cookie in self.client.cookies.jar if cookie.name.endswith("session")), None)


@pytest.fixture
def browser():
    opened = []

    def make(coordinator):
        opened.append(Browser(coordinator))
        return opened[-1]
    yield make
    for one in opened:
        one.client.close()


def sign_up_operator(coordinator, browser):
    code = (coordinator.data / "setup-code").read_text().strip()
    return browser.logged_in(browser.post("/v1/session/register", {"email": EMAIL, "password": PASSWORD, "code": code}))


@pytest.fixture
def operator(coordinator, browser):
    """(coordinator, the operator's browser, who they are)"""
    made = coordinator()
    page = browser(made)
    return made, page, sign_up_operator(made, page)


def check_log_has_no_secrets(coordinator, *secrets):
    written = coordinator.log() + coordinator.out()
    for secret in secrets:
        assert secret and secret not in written


# --- accounts ---

def test_the_operator_signs_up_once_with_the_code_from_the_data_folder(coordinator, browser):
    made = coordinator()
    code_file = made.data / "setup-code"
    code = code_file.read_text().strip()
    assert code_file.stat().st_mode & 0o777 == 0o600
    assert "setup-code" in made.out() and code not in made.out()
    page = browser(made)
    assert page.post("/v1/session/register", {"email": EMAIL, "password": PASSWORD}).status_code == 401
    assert page.post("/v1/session/register", {"email": EMAIL, "password": PASSWORD, "code": "0" * 32}).status_code == 401
    me = page.logged_in(page.post("/v1/session/register", {"email": EMAIL.upper(), "password": PASSWORD, "code": code}))
    assert me["is_admin"] and me["email"] == EMAIL and not me["email_verified"]
    assert not code_file.exists()
    assert page.client.get("/v1/payments/balance").json()["balance_micro_usd"] == made.balance() > 0
    again = browser(made).post("/v1/session/register", {"email": "other@example.test", "password": PASSWORD, "code": code})
    assert again.status_code == 401
    made.restart()
    assert not code_file.exists()
    browser(made).login()
    check_log_has_no_secrets(made, code, PASSWORD, page.cookie.value, page.csrf)


def test_an_invitation_makes_one_account(operator, browser):
    made, page, _ = operator
    invitation = page.send("POST", "/v1/admin/invitations").json()["code"]
    guest = browser(made)
    me = guest.logged_in(guest.post("/v1/session/register", {"email": "guest@example.test", "password": PASSWORD, "code": invitation}))
    assert not me["is_admin"]
    assert guest.client.get("/v1/payments/balance").json()["balance_micro_usd"] == 0
    assert guest.send("POST", "/v1/admin/invitations").status_code == 403
    other = browser(made).post("/v1/session/register", {"email": "guest2@example.test", "password": PASSWORD, "code": invitation})
    assert other.status_code == 401 and "invitation" in other.json()["error"]["message"]


@pytest.mark.parametrize("mode, status", [("open", 200), ("invite", 401), ("closed", 401)])
def test_who_may_sign_up_is_configured(coordinator, browser, mode, status):
    made = coordinator({"accounts": {"signup": mode}})
    page = browser(made)
    assert page.client.get("/v1/auth/config").json()["signup"] == mode
    assert page.post("/v1/session/register", {"email": "a@example.test", "password": PASSWORD}).status_code == status


@pytest.mark.parametrize("email, password", [
    ("no address", PASSWORD), ("a@b@c", PASSWORD), ("@example.test", PASSWORD), ("a@example.test", "short"),
    ("a@example.test", "password123"), ("a@example.test", "aaaaaaaaaaaaaaaa"), ("longlonglong@example.test", "longlonglong@example.test")])
def test_bad_addresses_and_passwords_are_refused_with_a_reason(coordinator, browser, email, password):
    made = coordinator({"accounts": {"signup": "open"}})
    answer = browser(made).post("/v1/session/register", {"email": email, "password": password})
    assert answer.status_code == 400 and answer.json()["error"]["message"]


def test_an_address_signs_up_once(coordinator, browser):
    made = coordinator({"accounts": {"signup": "open"}})
    body = {"email": "twice@example.test", "password": PASSWORD}
    assert browser(made).post("/v1/session/register", body).status_code == 200
    assert browser(made).post("/v1/session/register", body | {"email": "TWICE@example.test"}).status_code == 409


def test_wrong_passwords_and_unknown_addresses_look_the_same(operator, browser):
    made, _, _ = operator
    answers = [browser(made).post("/v1/session/login", {"email": email, "password": "not the password"})
               for email in (EMAIL, "nobody@example.test")]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert answers[0].json() == answers[1].json()
    assert not any("set-cookie" in answer.headers for answer in answers)


def processor_seconds(program):
    fields = Path(f"/proc/{program.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads the processor time of a process")
def test_an_unknown_address_costs_as_much_as_a_wrong_password(operator, browser):
    """Processor time, which other programs do not change: a password is hashed in both cases."""
    made, _, _ = operator
    page = browser(made)

    def spent(email):
        began = processor_seconds(made)
        for _ in range(3):
            assert page.post("/v1/session/login", {"email": email, "password": "not the password"}).status_code == 401
        return processor_seconds(made) - began
    known, unknown = spent(EMAIL), spent("nobody@example.test")
    assert unknown > known / 4


def test_guessing_a_password_is_slowed_down_until_the_right_one_must_wait_too(operator, browser):
    made, _, _ = operator
    page = browser(made)

    def right_must_wait():
        """False when the machine stood still for so long that the wait, of a second at first, was over."""
        for _ in range(12):
            answer = page.post("/v1/session/login", {"email": EMAIL, "password": "not the password"})
            if answer.status_code == 429:
                break
        assert answer.status_code == 429 and int(answer.headers["Retry-After"]) >= 1
        return page.post("/v1/session/login", {"email": EMAIL, "password": PASSWORD}).status_code == 429
    wait_until(right_must_wait, "the right password to be refused")
    wait_until(lambda: page.post("/v1/session/login", {"email": EMAIL, "password": PASSWORD}).status_code == 200, "the wait to end", 120)


def test_a_changed_password_ends_the_other_sessions(operator, browser):
    made, page, _ = operator
    other = browser(made)
    other.login()
    fresh = "a wholly different one"
    assert page.send("POST", "/v1/session/password/change", {"current": "wrong password", "new": fresh}).status_code == 401
    assert page.send("POST", "/v1/session/password/change", {"current": PASSWORD, "new": "short"}).status_code == 400
    assert page.send("POST", "/v1/session/password/change", {"current": PASSWORD, "new": fresh}).status_code == 200
    assert page.client.get("/v1/session").status_code == 200
    assert other.client.get("/v1/session").status_code == 401
    assert browser(made).post("/v1/session/login", {"email": EMAIL, "password": PASSWORD}).status_code == 401
    browser(made).login(password=fresh)
    check_log_has_no_secrets(made, fresh, PASSWORD)


# --- sessions ---

def test_the_session_cookie_is_out_of_reach_for_scripts_and_other_sites(operator, browser):
    made, _, _ = operator
    answer = browser(made).post("/v1/session/login", {"email": EMAIL, "password": PASSWORD})
    name, *attributes = [part.strip() for part in answer.headers["set-cookie"].split(";")]
    assert re.fullmatch(r"session=[0-9a-f]{64}", name)
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(attributes)
    assert not any(attribute.startswith("Domain") for attribute in attributes)
    assert answer.headers["cache-control"] == "no-store"


def test_over_tls_the_cookie_is_bound_to_this_host(coordinator, browser):
    made = coordinator({"server": {"public_url": "https://coordinator.example"}})
    page = browser(made)
    code = (made.data / "setup-code").read_text().strip()
    answer = page.client.post("/v1/session/register", json={"email": EMAIL, "password": PASSWORD, "code": code},
                              headers={"Origin": "https://coordinator.example"})
    assert answer.status_code == 200
    name, *attributes = [part.strip() for part in answer.headers["set-cookie"].split(";")]
    assert name.startswith("__Host-session=") and "Secure" in attributes and "Path=/" in attributes
    token = name.partition("=")[2]
    assert patient.get(f"{made.url}/v1/session", headers={"Cookie": f"__Host-session={token}"}).status_code == 200
    assert patient.get(f"{made.url}/v1/session", headers={"Cookie": f"session={token}"}).status_code == 401  # a neighbour could set that


def test_a_session_planted_before_the_login_does_not_survive_it(operator):
    made, attacker, _ = operator
    planted = attacker.cookie.value
    for before in (planted, "ab" * 32):
        answer = patient.post(f"{made.url}/v1/session/login", json={"email": EMAIL, "password": PASSWORD}, headers={"Cookie": f"session={before}"})
        fresh = re.match(r"session=([0-9a-f]{64});", answer.headers["set-cookie"]).group(1)
        assert fresh != before
        assert patient.get(f"{made.url}/v1/session", headers={"Cookie": f"session={before}"}).status_code == 401
        assert patient.get(f"{made.url}/v1/session", headers={"Cookie": f"session={fresh}"}).status_code == 200


def test_two_cookies_of_the_same_name_are_none(operator):
    made, page, _ = operator
    cookie = page.cookie.value
    assert patient.get(f"{made.url}/v1/session", headers={"Cookie": f"a=b; session={cookie}"}).status_code == 200
    assert patient.get(f"{made.url}/v1/session", headers={"Cookie": f"session={cookie}; session={'ab' * 32}"}).status_code == 401
    assert patient.get(f"{made.url}/v1/session", headers=[("Cookie", f"session={cookie}"), ("Cookie", "session=x")]).status_code == 401


def test_logging_out_ends_the_session_on_the_server(operator):
    made, page, _ = operator
    cookie = page.cookie.value
    answer = page.send("POST", "/v1/session/logout")
    assert answer.status_code == 200 and "Max-Age=0" in answer.headers["set-cookie"]
    assert patient.get(f"{made.url}/v1/session", headers={"Cookie": f"session={cookie}"}).status_code == 401


def test_sessions_are_listed_and_revoked_one_by_one(operator, browser):
    made, page, _ = operator
    other = browser(made)
    other.client.headers["User-Agent"] = "A <b>browser"
    other.login()
    listed = page.client.get("/v1/sessions").json()["data"]
    assert len(listed) == 2 and sum(one["current"] for one in listed) == 1
    assert all(page.cookie.value not in str(one) and len(one["id"]) == 29 for one in listed)
    theirs = next(one for one in listed if not one["current"])
    assert theirs["address"] == "127.0.0.1" and theirs["method"] == "password"
    assert page.send("DELETE", f"/v1/sessions/{theirs['id']}").status_code == 200
    assert other.client.get("/v1/session").status_code == 401
    assert page.send("DELETE", f"/v1/sessions/{theirs['id']}").status_code == 404
    assert page.client.get("/v1/session").status_code == 200


def test_nobody_revokes_a_session_of_another_account(operator, browser):
    made, page, _ = operator
    invitation = page.send("POST", "/v1/admin/invitations").json()["code"]
    guest = browser(made)
    guest.logged_in(guest.post("/v1/session/register", {"email": "g@example.test", "password": PASSWORD, "code": invitation}))
    mine = page.client.get("/v1/session").json()["id"]
    assert guest.send("DELETE", f"/v1/sessions/{mine}").status_code == 404
    assert page.client.get("/v1/session").status_code == 200


def test_a_session_ends_when_its_time_is_over(coordinator, browser):
    made = coordinator({"accounts": {"session_idle_s": 60, "session_absolute_s": 60}})
    page = browser(made)
    sign_up_operator(made, page)
    made.terminate()
    import sqlite3
    with sqlite3.connect(made.data / "coordinator.db") as books:
        books.execute("UPDATE sessions SET expires_us = ?", (int((time.time() - 1) * 1e6),))
    made.start()
    assert page.client.get("/v1/session").status_code == 401
    page.login()
    made.terminate()
    with sqlite3.connect(made.data / "coordinator.db") as books:
        books.execute("UPDATE sessions SET seen_us = seen_us - idle_us")
    made.start()
    assert page.client.get("/v1/session").status_code == 401


def test_sessions_survive_a_restart(operator):
    made, page, _ = operator
    made.restart()
    assert page.client.get("/v1/session").json()["email"] == EMAIL


# --- requests that another site makes the browser send ---

@pytest.mark.parametrize("headers", [
    {}, {"X-CSRF-Token": ""}, {"X-CSRF-Token": "x" * 43}, {"Origin": "https://evil.example"}, {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}])
def test_a_cookie_alone_changes_nothing(operator, headers):
    made, page, _ = operator
    proof = {"X-CSRF-Token": page.csrf} if headers and "X-CSRF-Token" not in headers else {}
    answer = page.client.post("/v1/session/logout", headers=proof | headers)
    assert answer.status_code == 403 and answer.json()["error"]["type"] == "forbidden"
    assert page.client.get("/v1/session").status_code == 200


def test_the_proof_of_another_session_does_not_count(operator, browser):
    made, page, _ = operator
    other = browser(made)
    other.login()
    assert page.client.post("/v1/session/logout", headers={"X-CSRF-Token": other.csrf}).status_code == 403


def test_another_site_cannot_log_its_visitor_in(operator, browser):
    made, _, _ = operator
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        page = browser(made)
        json_answer = page.client.post("/v1/session/login", json={"email": EMAIL, "password": PASSWORD}, headers=headers)
        form_answer = page.client.post("/login", data={"email": EMAIL, "password": PASSWORD}, headers=headers)
        assert (json_answer.status_code, form_answer.status_code) == (403, 403)
        assert page.cookie is None


def test_api_keys_are_no_sessions(operator):
    made, _, _ = operator
    for path in ("/v1/session", "/v1/sessions", "/v1/me/summary", "/v1/me/providers"):
        assert made.client.get(path).status_code == 403
    assert made.client.post("/v1/device/approve", json={"user_code": "AAAA-AAAA"}).status_code == 403


# --- the pages ---

def form_of(page):
    return {name: value for name, value in re.findall(r'<input type="hidden" name="([a-z_]+)" value="([^"]*)"', page.text)}


def test_a_person_finishes_a_device_login_on_the_pages(coordinator, browser):
    made = coordinator()
    page = browser(made).client
    code = (made.data / "setup-code").read_text().strip()
    device = patient.post(f"{made.url}/v1/device/code", headers={"User-Agent": "<b>darkbloom</b>"}).json()
    assert re.fullmatch(r"[A-HJ-NP-Z2-9]{4}-[A-HJ-NP-Z2-9]{4}", device["user_code"])
    assert device["verification_uri"] == f"{made.url}/link" and (device["expires_in"], device["interval"]) == (900, 5)

    link = page.get(device["verification_uri_complete"])
    assert link.status_code == 303 and link.headers["location"].startswith("/login?next=")
    login = page.get(link.headers["location"])
    following = form_of(login)["next"]
    assert following == f"/link?user_code={device['user_code']}"
    entered = page.post("/signup", data={"email": EMAIL, "password": PASSWORD, "code": code, "next": following}, headers={"Origin": made.url})
    assert entered.status_code == 303 and entered.headers["location"] == following
    link = page.get(following)
    assert device["user_code"] in link.text
    policy = link.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy and "<script" not in link.text

    typed = device["user_code"].lower().replace("-", " ")
    question = page.post("/link", data=form_of(link) | {"user_code": typed}, headers={"Origin": made.url})
    assert question.status_code == 200 and "127.0.0.1" in question.text and "&lt;b&gt;darkbloom" in question.text and EMAIL in question.text
    done = page.post("/link", data=form_of(question) | {"action": "approve"}, headers={"Origin": made.url})
    assert done.status_code == 200 and "Connected" in done.text
    token = patient.post(f"{made.url}/v1/device/token", json={"device_code": device["device_code"]}).json()
    assert token["status"] == "authorized" and re.fullmatch(r"eigeninference-pt-[0-9a-f]{64}", token["token"])
    check_log_has_no_secrets(made, token["token"], device["device_code"], PASSWORD)


def test_the_pages_forms_need_the_sessions_proof(operator):
    made, page, _ = operator
    device = patient.post(f"{made.url}/v1/device/code").json()
    forged = page.client.post("/link", data={"user_code": device["user_code"], "action": "approve"}, headers={"Origin": made.url})
    assert forged.status_code == 403
    cross = page.client.post("/link", data={"user_code": device["user_code"], "action": "approve", "csrf": page.csrf},
                             headers={"Origin": "https://evil.example"})
    assert cross.status_code == 403
    assert patient.post(f"{made.url}/v1/device/token", json={"device_code": device["device_code"]}).json() == {"status": "authorization_pending"}
    assert page.client.post("/logout", data={"csrf": "x"}, headers={"Origin": made.url}).status_code == 403
    assert page.client.post("/logout", data={"csrf": page.csrf}, headers={"Origin": made.url}).status_code == 303
    assert page.client.get("/v1/session").status_code == 401


@pytest.mark.parametrize("following", ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)", "/a b", ""])
def test_the_login_leads_to_this_site_only(operator, browser, following):
    made, _, _ = operator
    answer = browser(made).client.post("/login", data={"email": EMAIL, "password": PASSWORD, "next": following}, headers={"Origin": made.url})
    assert answer.status_code == 303 and answer.headers["location"] == "/login"


# --- device login ---

def begin(made):
    return patient.post(f"{made.url}/v1/device/code").json()


def poll(made, device):
    return patient.post(f"{made.url}/v1/device/token", json={"device_code": device["device_code"]})


def test_a_device_code_gives_one_token(operator):
    made, page, me = operator
    device = begin(made)
    assert page.send("POST", "/v1/device/approve", {"user_code": f"  {device['user_code'].lower()} "}).json()["status"] == "approved"
    first = poll(made, device)
    assert first.json()["status"] == "authorized" and first.json()["account_id"] == me["account_id"]
    for _ in range(2):
        again = poll(made, device)
        assert again.status_code == 410 and again.json()["error"]["code"] == "expired_token" and "token" not in again.json()
    assert page.send("POST", "/v1/device/approve", {"user_code": device["user_code"]}).status_code == 409


def test_polling_too_fast_is_told_to_slow_down(operator):
    made, _, _ = operator
    device = begin(made)
    assert poll(made, device).json() == {"status": "authorization_pending"}

    def in_a_hurry():  # unless the machine stood still between two polls
        answer = poll(made, device)
        return answer.json() != {"status": "authorization_pending"} and answer
    hurried = wait_until(in_a_hurry, "a poll too soon after the one before")
    assert hurried.status_code == 400
    assert (hurried.json()["status"], hurried.json()["interval"], hurried.json()["error"]["code"]) == ("slow_down", 10, "slow_down")


@pytest.mark.parametrize("body, status, code", [
    ({}, 400, "invalid_request"), ({"device_code": ""}, 400, "invalid_request"), ({"device_code": 7}, 400, "invalid_request"),
    ({"device_code": "00" * 32}, 404, "invalid_grant"), ([], 400, "invalid_request_error")])
def test_bad_polls_say_what_is_wrong(house_operator, body, status, code):
    answer = patient.post(f"{house_operator.url}/v1/device/token", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert patient.post(f"{house_operator.url}/v1/device/token", content=b"x" * 70000).status_code == 413


@pytest.fixture(scope="module")
def house_operator(house):
    return house.coordinator()


def test_user_codes_cannot_be_guessed_by_trying(operator):
    made, page, _ = operator

    def approve(code):
        return page.send("POST", "/v1/device/approve", {"user_code": code})

    assert approve("AAAA-AAAA").status_code == 404

    def right_must_wait():
        """The refusal of a right code; None when the machine stood still until the wait, of 5 s at first, was over."""
        device = begin(made)
        statuses = []
        while len(statuses) < 12 and 429 not in statuses:
            statuses.append(approve(f"AAAA-AA{'ABCD'[len(statuses) // 3]}{'EFG'[len(statuses) % 3]}").status_code)
        assert statuses[-1] == 429 and statuses.count(404) <= 8, statuses
        refused = approve(device["user_code"])
        if refused.status_code == 200:
            return None
        assert poll(made, device).json() == {"status": "authorization_pending"}
        return refused
    refused = wait_until(right_must_wait, "the right code to be refused", 60)
    assert refused.status_code == 429 and int(refused.headers["Retry-After"]) >= 1


def test_one_network_cannot_fill_the_table_of_codes(operator):
    made, _, _ = operator
    statuses = [patient.post(f"{made.url}/v1/device/code").status_code for _ in range(25)]
    assert statuses[0] == 200 and statuses[-1] == 429


def test_refusing_a_login_ends_it(operator):
    made, page, _ = operator
    device = begin(made)
    answer = page.client.post("/link", data={"user_code": device["user_code"], "action": "deny", "csrf": page.csrf}, headers={"Origin": made.url})
    assert "Refused" in answer.text
    for _ in range(2):
        assert poll(made, device).status_code == 403 and poll(made, device).json()["error"]["code"] == "access_denied"


# --- the commands, and whose the earnings are ---

def darkbloom(folder, *words, **more):
    return subprocess.Popen([str(word) for word in (BIN / "darkbloom", *words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            cwd=folder, env=environment(folder, **more))


def run(folder, *words, **more):
    process = darkbloom(folder, *words, **more)
    out, err = process.communicate(timeout=60 * PATIENCE)
    return process.returncode, out, err


def log_in_machine(made, page, folder, **more):
    process = darkbloom(folder, "login", "--coordinator-url", made.ws_url, **more)
    for line in process.stdout:
        found = re.search(r"code:\s+(\S+)", line)
        if found:
            break
    assert page.send("POST", "/v1/device/approve", {"user_code": found.group(1)}).status_code == 200
    out, err = process.communicate(timeout=60 * PATIENCE)
    assert process.returncode == 0, err
    return folder / ".darkbloom/auth_token"


SCRIPT = {}


def test_a_machine_logs_in_earns_for_its_owner_and_logs_out(operator, provider, tmp_path):
    made, page, me = operator
    invited = Browser(made)
    invitation = page.send("POST", "/v1/admin/invitations").json()["code"]
    owner = invited.logged_in(invited.post("/v1/session/register", {"email": "m@example.test", "password": PASSWORD, "code": invitation}))
    status, _, err = run(tmp_path, "whoami")
    assert status == 4 and "darkbloom login" in err
    token_file = log_in_machine(made, invited, tmp_path)
    token = token_file.read_text().strip()
    assert token_file.stat().st_mode & 0o777 == 0o600
    status, out, err = run(tmp_path, "whoami")
    assert status == 0 and owner["account_id"] in out and "m@example.test" in out and token not in out + err
    status, _, err = run(tmp_path, "login", "--coordinator-url", made.url)
    assert status == 1 and "logged in already" in err and token[:24] not in err

    machine = provider(made, script=SCRIPT, DARKBLOOM_AUTH_TOKEN_PATH=str(token_file))
    listed = invited.client.get("/v1/me/providers").json()["providers"]
    assert [one["account_id"] for one in listed] == [owner["account_id"]] and listed[0]["status"] == "online"
    assert page.client.get("/v1/me/providers").json()["providers"] == []
    answer = made.chat(machine.model)
    assert answer.status_code == 200
    made.wait_idle()
    summary = wait_until(lambda: (found := invited.client.get("/v1/me/summary").json())["lifetime_jobs"] == 1 and found, "the earning", 20)
    assert summary["lifetime_micro_usd"] == summary["last_24h_micro_usd"] == summary["last_7d_micro_usd"] > 0
    assert summary["counts"]["total"] == 1 and summary["account_id"] == owner["account_id"]
    assert invited.client.get("/v1/payments/balance").json()["balance_micro_usd"] == summary["lifetime_micro_usd"]
    made.check_books()

    status, out, err = run(tmp_path, "logout")
    assert status == 0 and not token_file.exists()
    assert patient.get(f"{made.url}/v1/me", headers={"Authorization": f"Bearer {token}"}).status_code == 401
    check_log_has_no_secrets(made, token)
    assert token not in machine.log()
    invited.client.close()


def test_a_token_is_not_sent_to_another_coordinator(operator, provider, coordinator, browser, tmp_path):
    made, page, _ = operator
    token_file = log_in_machine(made, page, tmp_path)
    other = coordinator()
    machine = provider(other, script=SCRIPT, DARKBLOOM_AUTH_TOKEN_PATH=str(token_file))
    assert "another coordinator" in machine.log()
    assert "token_refused" not in other.log()


def test_a_login_that_is_refused_ends_the_command(operator, tmp_path):
    made, page, _ = operator
    process = darkbloom(tmp_path, "login", "--coordinator-url", made.url)
    for line in process.stdout:
        found = re.search(r"code:\s+(\S+)", line)
        if found:
            break
    page.client.post("/link", data={"user_code": found.group(1), "action": "deny", "csrf": page.csrf}, headers={"Origin": made.url})
    _, err = process.communicate(timeout=60 * PATIENCE)
    assert process.returncode == 4 and "refused" in err
    assert not (tmp_path / ".darkbloom/auth_token").exists()
