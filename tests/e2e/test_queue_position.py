"""A request's place among those that wait for its provider's engine, told to the consumer and kept for the operator."""

from python_provider import PythonProvider
from sealing import Blind
from test_blind_hostile import CHAT, BlindProvider

ADMIN = "an operator's key for places"


class Crowded(PythonProvider):
    """Has others before every request, and says so where it is asked to."""

    places = (3, 2, 1)

    def serve(self, request_id, request, box):
        self.send({"type": "inference_accepted", "request_id": request_id})
        for place in self.places:
            self.send({"type": "inference_accepted", "request_id": request_id, "queue_position": place})
        super().serve(request_id, request, box)


def test_the_consumer_and_the_record_are_told_how_far_back_a_request_stood(coordinator):
    node = coordinator({"accounts": {"admin_key": ADMIN}})
    crowded = Crowded(node).start()
    node.wait_routable(crowded.model)
    answer = node.chat(crowded.model)
    assert answer.status_code == 200 and answer.headers["x-provider-queue-position"] == "3", answer.text
    assert crowded.wait_for("inference_request")["queue_notes"] is True
    headers = {"Authorization": f"Bearer {ADMIN}"}
    route, = node.client.get("/v1/admin/routes", headers=headers).json()["routes"]
    assert [one["queue_position"] for one in route["tries"]] == [3]
    explained = node.client.get(f"/v1/admin/routes/{route['request_id']}", headers=headers).json()["explanation"]
    assert "waited for the engine, at place 3 or nearer" in explained

    crowded.places = ()
    answer = node.chat(crowded.model)
    assert answer.status_code == 200 and "x-provider-queue-position" not in answer.headers
    crowded.stop()


def test_a_place_out_of_range_ends_nothing_but_itself(coordinator):
    node = coordinator()
    crowded = Crowded(node)
    crowded.places = (-1, "first", 2)
    crowded.start()
    node.wait_routable(crowded.model)
    answer = node.chat(crowded.model)
    assert answer.status_code == 200 and answer.headers["x-provider-queue-position"] == "2", answer.text
    crowded.stop()


class CrowdedBlind(BlindProvider):
    """The same of requests that it alone can open."""

    places = (2, 3, 1)

    def serve(self, request_id, request, box):
        for place in self.places:
            self.send({"type": "inference_accepted", "request_id": request_id, "queue_position": place})
        super().serve(request_id, request, box)


def test_a_sealed_request_is_told_its_place_too(coordinator):
    node = coordinator()
    crowded = CrowdedBlind(node).start()
    node.wait_routable(crowded.model)
    answer = Blind(node.client, CHAT)
    response = answer.post(answer.seal())
    assert response.status_code == 200 and response.headers["x-provider-queue-position"] == "3", response.text
    assert crowded.wait_for("inference_request")["queue_notes"] is True
    _, _, response = Blind(node.client, CHAT).stream()
    assert response.headers["x-provider-queue-position"] == "3"

    crowded.places = ()
    answer = Blind(node.client, CHAT)
    assert "x-provider-queue-position" not in answer.post(answer.seal()).headers
    crowded.stop()
