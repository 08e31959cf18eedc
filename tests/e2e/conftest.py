"""Fixtures of the end-to-end tests: the real programs, one folder for each test, nothing left behind.

    coordinator(config={"limits": {...}})          a started Coordinator
    provider(coordinator, script={...})            a started Provider on the scripted engine
    provider(coordinator)                          ... on the real model
    swarm(coordinator, "run", providers=3, ...)    a started Swarm
    api(coordinator, key=...)                      an httpx client
    house.coordinator(), house.provider(model)     the same for all tests of a module

When the test ends every program must end with status 0, or have been killed by the test, and no sanitizer may have reported.
"""

import subprocess

import httpx
import pytest

from harness import BIN, GGUF, HEARD, MODEL, PATIENCE, Coordinator, Failed, Postgres, Provider, Swarm, environment, hear


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if call.when == "setup":
        HEARD.clear()
    elif call.when == "call" and HEARD and outcome.get_result().failed:
        outcome.get_result().sections.append(("the last answers", "\n".join(HEARD)))


def stop_all(started):
    wrong = []
    for kind in (Swarm, Provider, Coordinator, object):
        for program in [one for one in started if isinstance(one, kind)]:
            started.remove(program)
            try:
                program.check_ended_well()
            except Failed as failure:
                wrong.append(str(failure))
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)


@pytest.fixture
def programs(tmp_path):
    """The programs of this test, in the order in which they are to be stopped."""
    started = []
    yield started
    stop_all(started)


class House:
    """A coordinator and its providers that all tests of a module share."""

    def __init__(self, folder, models_dir, started):
        self.folder, self.models_dir, self.started = folder, models_dir, started
        self.node = None

    def coordinator(self, config=None, **environment_more):
        self.node = Coordinator(self.folder, config, **environment_more)
        self.started.append(self.node)
        return self.node.start()

    def provider(self, model=MODEL, script=None, options=(), models_dir=None):
        """One more; on the real model without a script. Models have to differ."""
        models_dir = models_dir or (script is None and self.models_dir())
        made = Provider(self.folder, self.node, f"provider-{model}", script, model, models_dir, options)
        self.started.append(made)
        made.start()
        self.node.wait_routable(model, 1, 60)
        return made


@pytest.fixture(scope="module")
def house(tmp_path_factory, request):
    started = []
    yield House(tmp_path_factory.mktemp("house"), lambda: request.getfixturevalue("models_dir"), started)
    stop_all(started)


def _named(programs, kind, name):
    count = sum(isinstance(program, kind) for program in programs)
    return name if count == 0 else f"{name}{count + 1}"


@pytest.fixture
def coordinator(programs, tmp_path):
    def make(config=None, start=True, ca=None, **environment_more):
        made = Coordinator(tmp_path, config, _named(programs, Coordinator, "coordinator"), ca, **environment_more)
        programs.append(made)
        return made.start() if start else made
    return make


@pytest.fixture
def postgres():
    """A PostgreSQL server; coordinator(DARKBLOOM_STORE_URL=postgres.address) keeps its books there. Name it before `coordinator`: it
    is to end later."""
    server = Postgres()
    yield server
    server.stop()


@pytest.fixture
def provider(programs, tmp_path, request):
    def make(coordinator, script=None, model=None, wait=True, **more):
        models_dir = more.pop("models_dir", None) or (request.getfixturevalue("models_dir") if script is None else None)
        made = Provider(tmp_path, coordinator, _named(programs, Provider, "provider"), script, model, models_dir, **more)
        programs.append(made)
        before = coordinator.routable(made.model) if wait else 0
        made.start()
        if wait:
            coordinator.wait_routable(made.model, before + 1)
        return made
    return make


def swarm_maker(programs, folder):
    def make(coordinator, command, wait=None, **options):
        made = Swarm(folder, coordinator, command, _named(programs, Swarm, "swarm"), **options)
        programs.append(made)
        made.start()
        return made.wait_ready() if (command == "providers" if wait is None else wait) else made
    return make


@pytest.fixture
def swarm(programs, tmp_path):
    return swarm_maker(programs, tmp_path)


@pytest.fixture
def sides(tmp_path):
    """For tests that do the same on several coordinators at once: each call gives the programs and the `swarm` of one of them."""
    made = []

    def side():
        folder = tmp_path / f"side{len(made) + 1}"
        folder.mkdir()
        made.append([])
        return made[-1], swarm_maker(made[-1], folder)
    yield side
    for programs in made:
        stop_all(programs)


@pytest.fixture
def api():
    clients = []

    def make(coordinator, key=None, **options):
        headers = {"Authorization": f"Bearer {coordinator.key if key is None else key}"}
        client = httpx.Client(base_url=coordinator.url, headers=headers, **{"timeout": 60 * PATIENCE, "event_hooks": {"response": [hear]}} | options)
        clients.append(client)
        return client
    yield make
    for client in clients:
        client.close()


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory):
    """A folder with the real model in it, put there by `darkbloom models pull`."""
    folder = tmp_path_factory.mktemp("models")
    subprocess.run([BIN / "darkbloom", "models", "pull", GGUF, "--id", MODEL, "--models-dir", folder], check=True, capture_output=True,
                   env=environment(folder), timeout=120 * PATIENCE)
    return folder
