"""A provider that is told of a desired build gets it, checks it, loads it and offers it, and says how far it is; requests go on."""

import functools
import http.server
import subprocess
import threading

import pytest

from harness import BIN, GGUF, MODEL, PATIENCE, environment, wait_until
from test_aliases import ADMIN, admin, start

OLD, NEW = "acme/old", "acme/new"


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


class Registry(http.server.ThreadingHTTPServer):
    """A folder of models over HTTP. Files of weights can be stopped half-way, and are then sent to their end."""

    daemon_threads = True

    def __init__(self, folder):
        self.folder, self.gate, self.asked, self.broken = folder, threading.Event(), [], False
        self.gate.set()
        super().__init__(("127.0.0.1", 0), functools.partial(Answer, directory=folder))
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def add(self, model, gguf):
        subprocess.run([BIN / "darkbloom", "models", "pull", gguf, "--id", model, "--models-dir", self.folder], check=True, capture_output=True,
                       env=environment(self.folder), timeout=120 * PATIENCE)
        return self


class Answer(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def copyfile(self, source, outputfile):
        self.server.asked.append(self.path)
        if not self.path.endswith(".gguf"):
            return super().copyfile(source, outputfile)
        whole = source.read()
        if self.server.broken:
            whole = whole[:-1] + bytes([whole[-1] ^ 1])
        outputfile.write(whole[:len(whole) // 2])
        outputfile.flush()
        self.server.gate.wait(60 * PATIENCE)
        outputfile.write(whole[len(whole) // 2:])


@pytest.fixture
def registry(tmp_path):
    folder = tmp_path / "registry"
    folder.mkdir()
    weights = tmp_path / "new.gguf"
    weights.write_bytes(b"GGUF" + bytes(range(256)) * 8000)
    server = Registry(folder).add(NEW, weights)
    yield server
    server.gate.set()
    server.shutdown()
    server.server_close()


def options(registry, *more):
    return ("--models-from", registry.url, "--keep-free-gb", "0", *more)


def scripted(coordinator, provider, tmp_path, *more, **how):
    node = start(coordinator)
    mine = tmp_path / "mine"
    mine.mkdir(exist_ok=True)
    return node, provider(node, script={"text": "some words"}, model=OLD, options=("--models-dir", str(mine), *more), **how)


def wish(node, **more):
    made = admin(node, "POST", alias_id="acme-chat", desired_build=NEW, previous_build=OLD, **more)
    assert made.status_code == 200, made.text


def states(node):
    return admin(node, "GET").json()["aliases"][0]["desired_on_providers"]


def shown(node):
    answer = node.client.get("/v1/admin/builds", headers={"Authorization": f"Bearer {ADMIN}"})
    assert answer.status_code == 200, answer.text
    assert sum(answer.json()["states"].values()) == len(answer.json()["builds"])
    return answer.json()["builds"]


def builds_of(node, machine):
    """What the coordinator shows, and what `darkbloom status` says here: (state, state, why)."""
    here = machine.status()["desired_builds"]
    there = shown(node)
    return (there and there[0]["state"], here and here[0]["state"], here and here[0]["why"])


def test_a_desired_build_is_downloaded_checked_and_offered_while_the_old_one_answers(coordinator, provider, registry, tmp_path):
    node, machine = scripted(coordinator, provider, tmp_path, *options(registry))
    registry.gate.clear()
    wish(node)
    wait_until(lambda: states(node)["downloading"] == 1 and shown(node)[0]["progress"] > 0.4, "half of the download")
    wait_until(lambda: builds_of(node, machine)[:2] == ("downloading", "downloading"), "the provider's own status")
    text = subprocess.run([BIN / "darkbloom", "status", "--state-dir", machine.state], capture_output=True, text=True, env=environment(machine.folder)).stdout
    assert f"{NEW}, downloading" in text, text
    assert node.chat("acme-chat").status_code == 200  # by the old build: the new one is not ready
    assert [view["id"] for view in node.get("/v1/models?include_builds=1")["data"]] == [OLD]
    registry.gate.set()
    wait_until(lambda: states(node)["ready"] == 1, "the new build")
    wait_until(lambda: [view["id"] for view in node.get("/v1/models?include_builds=1")["data"]] == [NEW, OLD], "both builds")
    assert node.chat("acme-chat").status_code == 200
    assert node.chat(NEW).status_code == 200
    wait_until(lambda: {one["id"]: one["state"] for one in machine.status()["models"]}[NEW] == "loaded", "the new build in memory")
    # It is not fetched again by whoever starts anew, nor by another wish.
    asked = len(registry.asked)
    wish(node, canary=True)
    wait_until(lambda: builds_of(node, machine)[:2] == ("ready", "ready"), "the same answer")
    assert len(registry.asked) == asked
    node.check_books()


def test_an_owner_who_names_no_source_downloads_nothing_and_says_so(coordinator, provider, registry, tmp_path):
    node, machine = scripted(coordinator, provider, tmp_path)
    wish(node)
    wait_until(lambda: states(node)["failed"] == 1, "the refusal")
    assert "owner" in shown(node)[0]["why"]
    wait_until(lambda: builds_of(node, machine)[:2] == ("failed", "failed"), "the provider's own status")
    assert not registry.asked and not files(tmp_path / "mine")
    assert node.chat("acme-chat").status_code == 200


def test_a_build_other_than_the_pinned_one_is_refused_before_its_files_are_fetched(coordinator, provider, registry, tmp_path):
    node, _ = scripted(coordinator, provider, tmp_path, *options(registry))
    wish(node, desired_weight_hash="0" * 64)
    wait_until(lambda: states(node)["failed"] == 1, "the refusal")
    assert "pinned" in shown(node)[0]["why"]
    assert not [path for path in registry.asked if path.endswith(".gguf")]
    assert node.chat("acme-chat").status_code == 200


def test_a_file_that_differs_from_its_manifest_is_never_offered(coordinator, provider, registry, tmp_path):
    node, _ = scripted(coordinator, provider, tmp_path, *options(registry))
    registry.broken = True
    wish(node)
    wait_until(lambda: states(node)["failed"] == 1, "the refusal", 60)
    assert "hash" in shown(node)[0]["why"]
    assert not (tmp_path / "mine" / "acme--new").exists()
    assert node.chat("acme-chat").status_code == 200
    registry.broken = False
    wish(node)  # told again, it tries again
    wait_until(lambda: states(node)["ready"] == 1, "the new build")


def test_a_full_disk_is_said_before_anything_is_fetched(coordinator, provider, registry, tmp_path):
    node, _ = scripted(coordinator, provider, tmp_path, "--models-from", registry.url, "--keep-free-gb", "1000000")
    wish(node)
    wait_until(lambda: states(node)["failed"] == 1, "the refusal")
    assert "stay free" in shown(node)[0]["why"]
    assert not [path for path in registry.asked if path.endswith(".gguf")]


def test_a_build_that_is_not_wanted_any_more_is_given_up(coordinator, provider, registry, tmp_path):
    node, machine = scripted(coordinator, provider, tmp_path, *options(registry))
    registry.gate.clear()
    wish(node)
    wait_until(lambda: states(node)["downloading"] == 1, "the download")
    assert admin(node, "DELETE", "/acme-chat").status_code == 200
    wait_until(lambda: shown(node) == [] and machine.status()["desired_builds"] == [], "nothing to be wanted")
    registry.gate.set()
    assert node.chat(OLD).status_code == 200
    assert not (tmp_path / "mine" / "acme--new").exists()


def test_a_provider_that_comes_back_says_again_what_it_has(coordinator, provider, registry, tmp_path):
    node, machine = scripted(coordinator, provider, tmp_path, *options(registry))
    wish(node)
    wait_until(lambda: states(node)["ready"] == 1, "the new build")
    asked = len(registry.asked)
    machine.terminate()
    wait_until(lambda: shown(node) == [], "the provider to be gone")
    machine.start()  # its --model names the old build alone; the new one is on its disk
    wait_until(lambda: states(node)["ready"] == 1, "the new build again")
    assert len(registry.asked) == asked


@pytest.mark.slow
def test_an_alias_moves_to_a_build_that_a_real_provider_fetches_with_no_failed_request(coordinator, provider, tmp_path, models_dir):
    folder = tmp_path / "registry"
    folder.mkdir()
    registry = Registry(folder).add(NEW, GGUF)
    mine = tmp_path / "mine"
    subprocess.run([BIN / "darkbloom", "models", "pull", GGUF, "--id", MODEL, "--models-dir", mine], check=True, capture_output=True,
                   env=environment(tmp_path), timeout=120 * PATIENCE)
    node = start(coordinator)
    machine = provider(node, models_dir=mine, options=options(registry, "--context", "2048"))
    assert admin(node, "POST", alias_id="acme-chat", desired_build=MODEL).status_code == 200
    answers, done = [], threading.Event()

    def ask():
        while not done.is_set():
            answers.append(node.chat("acme-chat", max_tokens=4))
    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        moved = admin(node, "POST", alias_id="acme-chat", desired_build=NEW, previous_build=MODEL)
        assert moved.status_code == 200, moved.text
        wait_until(lambda: states(node)["ready"] == 1, "the new build", 120)
        before = len(answers)
        wait_until(lambda: len(answers) >= before + 4, "answers by the new build", 60)
    finally:
        done.set()
        for thread in threads:
            thread.join()
        registry.shutdown()
    assert [answer.text for answer in answers if answer.status_code != 200] == []
    assert {one["id"]: one["state"] for one in machine.status()["models"]}[NEW] == "loaded"
    builds = {route["build"] for route in node.client.get("/v1/admin/routes?limit=1000", headers={"Authorization": f"Bearer {ADMIN}"}).json()["routes"]}
    assert builds == {MODEL, NEW}
    node.check_books()
