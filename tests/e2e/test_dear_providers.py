"""Providers whose own price takes more than what is on hold: nothing is sent to one that is not covered, a lack of money is told apart
from not knowing, and other coordinators are asked for each of them (billing 4.2)."""

import concurrent.futures
import hashlib
import sqlite3

import pytest

from harness import wait_until
from python_provider import PythonProvider, stop_joined
from test_referrals import joined
from test_two_coordinators import ADMIN, make_pair, pair  # noqa: F401  fixtures

MODEL = "py-model"
BALANCE_USD = "0.01"


def token_of(seller):
    return "eigeninference-pt-" + hashlib.sha256(seller.encode()).hexdigest()


class Machine(PythonProvider):
    """Of a seller, or of nobody. The faster one is chosen first."""
    seller, decode_tps = None, 20.0

    def registration(self):
        owned = {"auth_token": token_of(self.seller)} if self.seller else {}
        return super().registration() | {"decode_tps": self.decode_tps} | owned


class Fails(Machine):
    def serve(self, request_id, request, box):
        self.send({"type": "inference_error", "request_id": request_id, "error": "boom", "status_code": 500})


@pytest.fixture
def join():
    started = []

    def make(node, serial, kind=Machine, seller=None, decode_tps=20.0):
        machine = kind(node, serial=serial, model=MODEL)
        machine.seller, machine.decode_tps, machine.coordinator = seller, decode_tps, node
        started.append(machine.start())
        node.wait_routable(MODEL, sum(one.coordinator is node for one in started))
        return machine

    yield make
    stop_joined(started)


def sell(send, output_price):
    answer = send("PUT", "/v1/pricing", {"model": MODEL, "input_price": 1, "output_price": output_price})
    assert answer.status_code == 200, answer.text


@pytest.fixture
def node(coordinator):
    """Its owner has 10,000 micro-dollars; a dear seller takes 200 for a token, so that a hundred cost 20,000."""
    made = coordinator({"accounts": {"signup": "open", "first_grant_usd": BALANCE_USD, "admin_key": ADMIN}})
    page = joined(made, "dear@example.test")
    sell(page.send, 200_000_000)
    account = page.client.get("/v1/me").json()["account_id"]
    page.client.close()
    made.terminate()
    with sqlite3.connect(made.data / "coordinator.db") as database:
        database.execute("INSERT INTO provider_tokens (hash, account, label, created_us) SELECT ?, ref, '', 1 FROM accounts WHERE id = ?",
                         [hashlib.sha256(token_of("dear").encode()).hexdigest(), account])
    database.close()
    return made.start()


def ask(node, client=None, **body):
    return (client or node.client).post(node.url + "/v1/chat/completions", json={"model": MODEL, "max_tokens": 100, "messages": [
        {"role": "user", "content": "hello"}], **body})


def error_of(answer):
    return answer.status_code, answer.json()["error"]["type"]


def ends(node, answer):
    """What came of each provider that was chosen."""
    answer = node.client.get("/v1/admin/routes/" + answer.headers["X-Inference-Job-ID"], headers={"Authorization": f"Bearer {ADMIN}"})
    assert answer.status_code == 200, answer.text
    return [one["end"] for one in answer.json()["route"]["tries"]]


def test_who_is_passed_over_for_its_price_sees_nothing_of_the_request(node, join):
    dear = join(node, "DEAR", seller="dear", decode_tps=200.0)
    refused = ask(node)
    assert error_of(refused) == (402, "insufficient_funds"), refused.text
    assert ends(node, refused) == ["too_dear"]
    cheap = join(node, "CHEAP")
    first = ask(node)
    assert first.status_code == 200, first.text
    assert ends(node, first) == ["too_dear", "answered"]
    second = ask(node, stream=True)
    assert second.status_code == 200, second.text
    assert ends(node, second)[-1] == "answered"  # which one is asked first follows from what was measured by now
    assert len(cheap.prompts) == 2
    assert {message["type"] for message in dear.received}.isdisjoint({"inference_request", "cancel"})
    cheap.stop()
    node.wait_routable(MODEL, 1)
    assert ask(node, max_tokens=20).status_code == 200  # that much is covered
    assert len(dear.prompts) == 1
    node.wait_idle()
    node.check_books()


def test_what_a_covered_provider_did_is_told_and_not_that_another_is_too_dear(node, join):
    dear = join(node, "DEAR", seller="dear", decode_tps=200.0)
    join(node, "FAILS", kind=Fails)
    answer = ask(node)
    assert error_of(answer) == (500, "provider_error"), answer.text
    assert ends(node, answer) == ["too_dear", "failed"]
    assert dear.got("inference_request") == []
    node.wait_idle()
    assert node.balance() == 10_000


def add_seller(pair, name, price):
    node = pair.nodes[0]
    page = joined(node, f"{name}@example.test")
    sell(lambda method, path, body: pair.browse(page, method, 0, path, body), price)
    account = pair.browse(page, "GET", 0, "/v1/me").json()["account_id"]
    page.client.close()
    pair.server.sql("INSERT INTO provider_tokens (hash, account, label, created_us)"
                    f" SELECT '{hashlib.sha256(token_of(name).encode()).hexdigest()}', ref, '', 1 FROM accounts WHERE id = '{account}'")


def test_money_that_a_silent_coordinator_has_is_unknown_and_asked_for_again(pair, join):  # noqa: F811
    """A hundred tokens cost 8,000 or 7,000 micro-dollars of 10,000 of which the other coordinator has leased a part."""
    here, there = pair.nodes
    for name, price in (("high", 80_000_000), ("low", 70_000_000)):
        add_seller(pair, name, price)
    high = join(here, "HIGH", seller="high", decode_tps=200.0)
    join(there, "OTHER")
    pair.admin("/v1/admin/credit", account="owner", amount_usd="0.01", note="a little")
    pair.wait_balance(10_000)

    def ask_while_silent(meanwhile):
        assert ask(there, pair.client).status_code == 200  # it leases a part again
        there.wait_idle()
        before = here.log().count("request.price_refused")
        there.freeze()
        try:
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                asked = pool.submit(ask, here, pair.client)
                wait_until(lambda: here.log().count("request.price_refused") > before or asked.done(), "the first provider to be passed over")
                meanwhile()
                return asked.result()
        finally:
            there.thaw()

    unknown = ask_while_silent(lambda: None)
    assert error_of(unknown) == (503, "service_unavailable") and "retry-after" in unknown.headers, unknown.text
    assert high.got("inference_request") == []
    assert ask(here, pair.client).status_code == 200  # it speaks again

    join(here, "LOW", seller="low")
    answer = wait_until(lambda: (said := ask_while_silent(there.thaw)).status_code == 200 and len(ends(here, said)) == 2 and said, "the second provider's money to be given")
    assert ends(here, answer) == ["too_dear", "answered"]
    for one in pair.nodes:
        one.wait_idle()
    pair.check_books()
