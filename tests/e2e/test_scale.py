"""Thousands of providers on one coordinator: they come, beat, go and come back, and requests are answered meanwhile."""

import resource

import pytest

from harness import wait_until

PROVIDERS = 2000
CHURN = 20  # sessions that end each second; each is back after about a second


@pytest.fixture
def descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2 * PROVIDERS:
        pytest.skip(f"the system allows {hard} descriptors only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * PROVIDERS), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connected(coordinator):
    return coordinator.metrics().get("darkbloom_providers", 0)


@pytest.mark.slow
def test_thousands_of_providers_come_go_and_come_back_while_requests_are_answered(descriptors, coordinator, swarm):
    node = coordinator()
    fleet = swarm(node, "providers", wait=False, providers=PROVIDERS, churn=CHURN, chunks=2)
    wait_until(lambda: connected(node) > 0.9 * PROVIDERS, "the fleet", 120)
    wait_until(lambda: node.routable("swarm-model") > 100, "proven providers", 60)
    answers = swarm(node, "load", requests=60, clients=4, client_think_us=50000).result()
    assert answers["ok"] == 60 and answers["failed"] == 0
    node.kill()
    node.start()
    wait_until(lambda: connected(node) > 0.9 * PROVIDERS, "the fleet's return", 120)
    wait_until(lambda: node.routable("swarm-model") > 100, "proven providers", 60)
    answers = swarm(node, "load", requests=20, clients=4, client_think_us=50000).result()
    assert answers["ok"] == 20 and answers["failed"] == 0
    fleet.check_alive()
