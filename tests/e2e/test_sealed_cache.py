"""The prefix cache's secret in a TPM. The TPM is swtpm, a real one in software in the place of the machine's."""

import shutil
import subprocess
import sys

import pytest

from harness import BIN, PATIENCE, Program, environment, free_port, wait_until
from test_prefix_cache import LONG, cached_tokens, files_of, tiny  # noqa: F401: a fixture

pytestmark = pytest.mark.skipif(sys.platform != "linux" or not shutil.which("swtpm"), reason="swtpm is not installed")


class SoftTpm(Program):
    """Its way is two ports beside each other; the file of its process is written once they are its own."""

    def __init__(self, folder, name):
        super().__init__(name, folder / name)
        written = self.folder / "pid"
        for _ in range(20):
            port = free_port()
            self.way = f"swtpm:host=127.0.0.1,port={port}"
            self.launch(["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.folder}", "--server", f"type=tcp,port={port},bindaddr=127.0.0.1",
                         "--ctrl", f"type=tcp,port={port + 1},bindaddr=127.0.0.1", "--flags", "not-need-init,startup-clear", "--pid", f"file={written}"])
            wait_until(lambda: written.exists() or not self.alive(), "swtpm", 30 * PATIENCE)
            if self.alive():
                return
        pytest.fail(f"swtpm did not start: {self.log()}")


@pytest.fixture
def soft_tpm(tmp_path):
    started = []

    def make(name):
        started.append(SoftTpm(tmp_path, name))
        return started[-1]
    yield make
    for tpm in started:
        tpm.process.kill()
        tpm.process.wait()


def built_with_tpm(tmp_path):
    tried = subprocess.run([BIN / "darkbloom", "cache", "erase", "--tenant", "nobody", "--state-dir", tmp_path / "tried"], capture_output=True, text=True,
                           env=environment(tmp_path, DARKBLOOM_PREFIX_CACHE_SECRET="tpm", DARKBLOOM_PREFIX_CACHE_TPM="swtpm:host=127.0.0.1,port=9"),
                           timeout=60 * PATIENCE)
    return "built without" not in tried.stderr and "tpm2-tss is missing" not in tried.stderr


def test_what_was_kept_outlives_the_move_into_a_tpm_and_is_of_no_use_with_another(tiny, tmp_path, coordinator, provider, soft_tpm):  # noqa: F811
    if not built_with_tpm(tmp_path):
        pytest.skip("the program was built without tpm2-tss, or its libraries are missing")
    models, cache = tmp_path / "models", tmp_path / "cache"
    subprocess.run([BIN / "darkbloom", "models", "pull", tiny / "full.gguf", "--id", "tiny", "--models-dir", models], check=True,
                   capture_output=True, env=environment(tmp_path), timeout=60 * PATIENCE)
    node = coordinator()
    made = provider(node, model="tiny", models_dir=models, DARKBLOOM_PREFIX_CACHE_DIR=str(cache))
    plain, sealed = made.state / "kv_secret", made.state / "kv_secret.tpm"
    cached_tokens(node)
    wait_until(lambda: files_of(cache), "a state on disk", 30 * PATIENCE)
    in_the_clear = plain.read_text()

    def again(way):
        assert made.terminate() == 0
        made.environment_more |= {"DARKBLOOM_PREFIX_CACHE_SECRET": "auto", "DARKBLOOM_PREFIX_CACHE_TPM": way}
        made.start()
        node.wait_routable("tiny", 1)
        return cached_tokens(node)

    first = soft_tpm("tpm")
    cached, prompt = again(first.way)
    assert prompt - 64 <= cached < prompt, made.log()
    assert "cache.secret kept=tpm secure=true origin=adopted" in made.log()
    assert not plain.exists() and sealed.stat().st_mode & 0o777 == 0o600
    assert bytes.fromhex(in_the_clear) not in sealed.read_bytes() and in_the_clear.encode() not in sealed.read_bytes()
    wait_until(lambda: made.status()["prefix_cache"].get("secret") == "tpm", "the state of the new process", 30 * PATIENCE)
    assert again(first.way)[0] == cached
    assert "origin=found" in made.log() and "cache.secret_lost" not in made.log()

    other = soft_tpm("other-tpm")
    assert again(other.way)[0] == 0
    assert made.log().count("cache.secret_lost") == 1
    assert "origin=renewed" in made.log()
    assert LONG not in made.log() and in_the_clear not in made.log()
