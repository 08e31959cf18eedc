"""The warm pool: the coordinator tells idle providers to load what is asked for, or what is to be kept warm."""

from harness import wait_until
from test_failover import in_background

ADMIN = "an operator's key for the warm pool"
KEPT = {"warm_interval_s": 1, "keep_warm": ["second=1"]}
TWO_COLD = ("--model", "second", "--on-demand")


def start(coordinator, limits=None, **routing):
    return coordinator({"accounts": {"admin_key": ADMIN}, "routing": routing, "limits": limits or {}})


def demand(node, model):
    answer = node.client.get("/v1/admin/demand", headers={"Authorization": f"Bearer {ADMIN}"})
    assert answer.status_code == 200, answer.text
    return next((one for one in answer.json()["models"] if one["model"] == model), None)


def states(machine):
    return {model["id"]: model["state"] for model in machine.status().get("models", [])}


def test_a_model_to_be_kept_warm_is_loaded_without_any_request(coordinator, provider):
    node = start(coordinator, **KEPT)
    machine = provider(node, script={"text": "word"}, model="first", options=TWO_COLD)
    wait_until(lambda: states(machine).get("second") == "loaded", "the command to be carried out")
    wait_until(lambda: demand(node, "second")["warm_providers"] == 1, "the coordinator to hear of it")
    seen = demand(node, "second")
    assert seen["keep_warm"] == 1 and seen["loads"] == 1 and seen["failed_loads"] == 0, seen
    wait_until(lambda: states(machine) == {"first": "cold", "second": "loaded"}, "the state file to say both")


def test_switched_off_it_loads_nothing(coordinator, provider):
    node = start(coordinator, **KEPT, warm_pool=False)
    machine = provider(node, script={"text": "word"}, model="first", options=TWO_COLD)
    assert node.chat("first").status_code == 200
    assert states(machine)["second"] == "cold"
    assert node.metrics()['darkbloom_model_loads_total{result="asked"}'] == 0


def test_only_the_operator_sees_the_demand(coordinator):
    node = start(coordinator)
    assert node.client.get("/v1/admin/demand").status_code == 403


def test_a_request_that_has_to_wait_is_seen_at_once(coordinator, provider):
    node = start(coordinator, {"first_content_ms": 600000}, warm_interval_s=3600)
    busy = provider(node, script={"text": "late", "max_concurrency": 1})
    busy.freeze()
    answers = [in_background(lambda: node.chat("scripted")) for _ in range(2)]
    wait_until(lambda: (demand(node, "scripted") or {}).get("pressure"), "the demand to be looked at")
    busy.thaw()
    assert [answer().status_code for answer in answers] == [200, 200]
