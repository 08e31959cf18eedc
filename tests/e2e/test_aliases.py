"""Public names of models: resolved at request time, shown in answers and listings, moved by the operator and by canaries."""

import threading

import pytest

from harness import wait_until

ADMIN = "an operator's key for the names of models"


def start(coordinator):
    return coordinator({"accounts": {"admin_key": ADMIN, "first_grant_usd": "1000"}})


def admin(node, method, path="", **body):
    return node.client.request(method, f"/v1/admin/models/aliases{path}", json=body or None, headers={"Authorization": f"Bearer {ADMIN}"})


def listed(node, query=""):
    return [entry["id"] for entry in node.get(f"/v1/models{query}")["data"]]


def two_builds(coordinator, provider):
    node = start(coordinator)
    old = provider(node, script={"text": "old words"}, model="acme-old")
    new = provider(node, script={"text": "new words"}, model="acme-new")
    return node, old, new


def text_of(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["message"]["content"]


def test_an_alias_answers_under_its_name_and_moves_without_a_failure(coordinator, provider):
    node, old, new = two_builds(coordinator, provider)
    made = admin(node, "POST", alias_id="acme-chat", desired_build="acme-old")
    assert made.status_code == 200, made.text
    assert made.json()["state"] == "steady" and made.json()["share_percent"] == 100
    answer = node.chat("acme-chat")
    assert text_of(answer).startswith("old") and answer.json()["model"] == "acme-chat"
    assert admin(node, "POST", alias_id="acme-chat", desired_build="acme-new", previous_build="acme-old").status_code == 200
    assert text_of(node.chat("acme-chat")).startswith("new")
    new.terminate()
    wait_until(lambda: node.routable("acme-chat") == 1, "the old build to be what is left")
    assert text_of(node.chat("acme-chat")).startswith("old")
    job = answer.json()
    assert node.usage()[0]["model"] == "acme-chat", job
    node.check_books()


def test_listings_show_the_name_and_builds_on_request(coordinator, provider):
    node, *_ = two_builds(coordinator, provider)
    assert admin(node, "POST", alias_id="acme-chat", desired_build="acme-new", previous_build="acme-old").status_code == 200
    assert listed(node) == ["acme-chat"]
    assert listed(node, "?include_builds=1") == ["acme-new", "acme-old"]
    assert node.get("/v1/models/acme-chat")["metadata"]["provider_count"] == 2
    assert node.get("/v1/models/acme-old")["id"] == "acme-old"
    assert text_of(node.chat("acme-old")).startswith("old")
    assert admin(node, "DELETE", "/acme-chat").json()["deleted"] is True
    assert admin(node, "DELETE", "/acme-chat").status_code == 404
    assert listed(node) == ["acme-new", "acme-old"]


def test_names_survive_a_restart(coordinator, provider):
    node, *_ = two_builds(coordinator, provider)
    admin(node, "POST", alias_id="acme-chat", desired_build="acme-old")
    changed = admin(node, "POST", alias_id="acme-chat", desired_build="acme-new", previous_build="acme-old", canary=True)
    assert changed.status_code == 200, changed.text
    node.restart()
    node.wait_routable("acme-chat", 2, 60)
    kept = admin(node, "GET").json()["aliases"]
    assert [(one["alias_id"], one["desired_build"], one["previous_build"], one["state"], one["share_percent"]) for one in kept] == [
        ("acme-chat", "acme-new", "acme-old", "canary", 5)]


def test_a_canary_whose_build_fails_is_rolled_back_by_itself(coordinator, provider):
    node = start(coordinator)
    for _ in range(2):  # one alone is left alone after two faults, before the build is to blame
        provider(node, script={"text": "new words", "fail_status": 500, "fail_text": "internal error"}, model="acme-new")
    made = admin(node, "POST", alias_id="acme-chat", desired_build="acme-new", previous_build="acme-old", canary=True)
    assert made.status_code == 200, made.text

    def state():
        return admin(node, "GET").json()["aliases"][0]

    def rolled_back():
        assert node.chat("acme-chat", max_tokens=2).status_code >= 429
        return state()["state"] == "rolled_back"
    wait_until(rolled_back, "the roll back")
    assert "failed" in state()["rolled_back_because"] and state()["share_percent"] == 0
    provider(node, script={"text": "old words"}, model="acme-old", wait=False)  # listings show the alias alone
    wait_until(lambda: node.chat("acme-chat").status_code == 200, "the old build to answer")
    assert text_of(node.chat("acme-chat")).startswith("old")
    node.check_books()


@pytest.mark.slow  # a sanitizer slows both builds alike
def test_a_canary_whose_build_starts_much_later_is_rolled_back_by_itself(coordinator, provider):
    node = start(coordinator)
    made = admin(node, "POST", alias_id="acme-chat", desired_build="acme-new", previous_build="acme-old", canary=True)
    assert made.status_code == 200, made.text

    def state():
        return admin(node, "GET").json()["aliases"][0]

    def ask(times):
        answers = []
        threads = [threading.Thread(target=lambda: answers.extend(node.chat("acme-chat", max_tokens=1) for _ in range(times))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {answer.status_code for answer in answers} == {200}, [answer.text for answer in answers]
    old = provider(node, script={"text": "old words"}, model="acme-old", wait=False)  # it is what there is: it gets everything
    wait_until(lambda: node.routable("acme-chat") == 1, "the old build")
    ask(5)
    assert state()["previous_health"]["requests"] > 35 and state()["state"] == "canary"
    provider(node, script={"text": "new words", "first_delay_ms": 800}, model="acme-new", wait=False)
    wait_until(lambda: node.routable("acme-chat") == 2, "both builds")
    old.terminate()
    wait_until(lambda: node.routable("acme-chat") == 1, "the new build to be what is left")
    ask(5)
    assert state()["state"] == "rolled_back" and state()["share_percent"] == 0, state()
    assert "first content" in state()["rolled_back_because"]
    provider(node, script={"text": "old words"}, model="acme-old", wait=False)
    wait_until(lambda: node.routable("acme-chat") == 2, "the old build again")
    assert text_of(node.chat("acme-chat")).startswith("old")
    node.check_books()


def test_a_wrong_change_says_what_is_wrong_and_changes_nothing(coordinator, provider):
    node, *_ = two_builds(coordinator, provider)
    for status, body in [
            (409, {"alias_id": "acme-old", "desired_build": "acme-new"}),
            (400, {"alias_id": "a b", "desired_build": "acme-new"}),
            (400, {"alias_id": "x", "desired_build": "x"}),
            (400, {"alias_id": "x", "desired_build": "acme-new", "canary": True}),
            (400, {"alias_id": "x", "desired_build": "acme-new", "previous_build": "acme-old", "share_percent": 0}),
            (400, {"desired_build": "acme-new"})]:
        refused = admin(node, "POST", **body)
        assert refused.status_code == status, (body, refused.text)
        assert refused.json()["error"]["message"], body
    assert admin(node, "GET").json() == {"aliases": []}
    assert node.client.get("/v1/admin/models/aliases").status_code == 403
