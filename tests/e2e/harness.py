"""The real programs as objects: start, watch, stop, kill, restart. Fixtures that hand them out are in conftest.py."""

import collections
import json
import os
import random
import re
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

import httpx

TOP = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("DARKBLOOM_BUILD", TOP / "build/release")).resolve()
BIN = BUILD / "bin"
GGUF = TOP / "build/deps/models/SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL = "smollm2-135m"
NODE = TOP / "build/venv/bin/node"


def _sanitizer():
    cache = BUILD / "CMakeCache.txt"
    found = re.search(r"^DB_SANITIZE:\w+=(\w+)$", cache.read_text(), re.M) if cache.exists() else None
    return found.group(1) if found else ""


SANITIZER = _sanitizer()
PATIENCE = 5 if SANITIZER else 1  # a sanitized program may take so many times longer before a test gives up
REPORT = re.compile(r"(AddressSanitizer|ThreadSanitizer|LeakSanitizer|UndefinedBehaviorSanitizer)|: runtime error: ")


class Failed(AssertionError):
    """A program did something that no test may let pass."""


def wait_until(condition, what, seconds=60):
    """Returns the first true value of condition(); fails after so many seconds, and never before a minute: only what fails waits so
    long, and a busy machine may stand still for seconds."""
    patience = max(seconds, 60) * PATIENCE
    deadline = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failed(f"waited {patience} s for {what}")
        time.sleep(0.02)


HEARD = collections.deque(maxlen=30)  # the last answers that tests got: shown when one fails


def hear(response):
    """An httpx event hook."""
    told = f"{response.request.method} {response.request.url.path}: {response.status_code} {response.headers.get('x-inference-job-id', '')}"
    if not HEARD or HEARD[-1] != told:  # who waits asks the same again and again
        HEARD.append(told)


def free_port():
    """A port below the range that the system gives to outgoing connections, so that it stays free between two starts."""
    for _ in range(200):
        port = random.randrange(12000, 30000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise Failed("no free port")


def environment(home, **more):
    """What every program gets: nothing of the developer's own settings, sanitizers that end a program with a status."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DARKBLOOM_", "EIGENINFERENCE_", "XDG_"))}
    kept["HOME"] = str(home)
    kept["DARKBLOOM_PREFIX_CACHE_SECRET"] = "file"  # not this machine's TPM
    kept["ASAN_OPTIONS"] = "detect_leaks=1:exitcode=77"
    kept["UBSAN_OPTIONS"] = "print_stacktrace=1"
    kept["LSAN_OPTIONS"] = f"suppressions={TOP}/tests/lsan.supp:print_suppressions=0"
    kept["TSAN_OPTIONS"] = f"exitcode=66:suppressions={TOP}/tests/tsan.supp"
    return kept | more


def run_node(script, home, **more):
    """Runs tests/node/<script> with these environment variables to its end; returns what it printed, read as JSON lines."""
    result = subprocess.run([NODE, TOP / "tests/node" / script], capture_output=True, text=True, env=environment(home, **more), timeout=120 * PATIENCE)
    if result.returncode != 0:
        raise Failed(f"{script} ended with status {result.returncode}:\n{result.stdout[-2000:]}{result.stderr[-4000:]}")
    return [json.loads(line) for line in result.stdout.splitlines()]


def route_table():
    """(method, path, auth, scopes) of every line of the coordinator's route table."""
    table = (TOP / "src/coordinator/server.c").read_text()
    found = re.findall(r'^\s*\{"([A-Z]+)", "([^"]+)", AUTH_(\w+), ([A-Z_| ]+), WRAP', table, re.M)
    assert len(found) > 60
    return [(method, path, auth, set(re.findall(r"SCOPE_(\w+)", scopes)) - {"NONE"}) for method, path, auth, scopes in found]


class Program:
    """One running program, its log, and how it ended. Subclasses say how it is called."""

    def __init__(self, name, folder):
        self.name = name
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.log_path = folder / f"{name}.log"
        self.out_path = folder / f"{name}.out"
        self.process = None
        self.killed = False

    def launch(self, command, **environment_more):
        assert not self.alive(), f"{self.name} runs already"
        self.killed = False
        with open(self.log_path, "ab") as log, open(self.out_path, "ab") as out:
            self.process = subprocess.Popen([str(word) for word in command], stdout=out, stderr=log, stdin=subprocess.DEVNULL,
                                            env=environment(self.folder, **environment_more), cwd=self.folder)

    @property
    def pid(self):
        return self.process.pid

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def out(self):
        return self.out_path.read_text(errors="replace") if self.out_path.exists() else ""

    def check_alive(self):
        if not self.alive():
            raise Failed(f"{self.name} ended with status {self.process.returncode}:\n{self.out()[-2000:]}{self.log()[-4000:]}")

    def send(self, number):
        self.process.send_signal(number)

    def freeze(self):
        self.send(signal.SIGSTOP)

    def thaw(self):
        self.send(signal.SIGCONT)

    def kill(self):
        """As a power cut does it."""
        self.killed = True
        if self.alive():
            self.process.kill()
        self.process.wait()

    def terminate(self, seconds=100):
        """Asks it to end and returns its status."""
        if self.alive():
            self.send(signal.SIGCONT)
            self.send(signal.SIGTERM)
        return self.wait(seconds)

    def wait(self, seconds=100):
        try:
            return self.process.wait(seconds * PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failed(f"{self.name} did not end within {seconds * PATIENCE} s:\n{self.log()[-4000:]}") from None

    def rss_kib(self):
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1))

    def check_ended_well(self):
        """Stops it when it still runs. Whatever the test did, a program ends with status 0 and without a sanitizer's report."""
        status = self.terminate() if self.process else 0
        report = REPORT.search(self.log())
        if report:
            raise Failed(f"{self.name}: a sanitizer reports:\n{self.log()[max(0, report.start() - 500):][:8000]}")
        if status != 0 and not self.killed:
            raise Failed(f"{self.name} ended with status {status}:\n{self.log()[-4000:]}")


def toml(config):
    """{section: {name: value}} as TOML; texts, whole numbers, truth values and lists of texts."""
    lines = []
    for section, values in config.items():
        lines.append(f"[{section}]")
        lines += [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    return "\n".join(lines) + "\n"


def merged(base, more):
    return {section: base.get(section, {}) | more.get(section, {}) for section in {**base, **more}}


NO_RATE_LIMITS = dict.fromkeys(["requests_per_minute", "input_tokens_per_minute", "output_tokens_per_minute", "financial_per_minute",
                                "concurrent_requests"], 0)


class Postgres:
    """A PostgreSQL server of a test's own (tests/postgres.sh); it ends with this object's `stop`."""

    def __init__(self):
        self.script = subprocess.Popen([Path(__file__).resolve().parents[1] / "postgres.sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.address = self._answer("ready")

    def _answer(self, wanted):
        words = self.script.stdout.readline().split()
        if not words or words[0] != wanted:
            raise Failed(f"PostgreSQL said {words} instead of {wanted}")
        return words[-1]

    def tell(self, word, wanted):
        self.script.stdin.write(word + "\n")
        self.script.stdin.flush()
        return self._answer(wanted)

    def crash(self):
        """kill -9 of the server and all its processes."""
        self.tell("crash", "crashed")

    def start(self):
        self.tell("start", "ready")

    def freeze(self):
        """It answers nothing, and its connections stay open."""
        self.tell("freeze", "frozen")

    def thaw(self):
        self.tell("thaw", "thawed")

    def sql(self, text):
        """Runs SQL beside whoever is connected; `text` is of one line."""
        self.tell(f"sql {text}", "done")

    def stop(self):
        self.script.stdin.close()
        self.script.wait(60 * PATIENCE)


class Coordinator(Program):
    """darkbloom-coordinator on a port and a data folder of its own; both stay the same over restarts."""

    # A machine that stands still for seconds changes nothing of what a test sees: no provider is given up, no second one is asked and
    # no line is sent to keep a stream alive. Tests of these set them.
    DEFAULTS = {"server": {"host": "127.0.0.1", "drain_grace_s": 30},
                "limits": {"first_content_ms": 60_000 * PATIENCE, "hedge_percent": 0, "keepalive_s": 60 * PATIENCE} | NO_RATE_LIMITS}

    def __init__(self, folder, config=None, name="coordinator", ca=None, **environment_more):
        """With a certificate in `config`, `ca` is the authority to trust, or False to trust any."""
        super().__init__(name, folder)
        self.port = free_port()
        self.data = folder / f"{name}-data"
        self.key_file = folder / f"{name}.key"
        self.port_file = folder / f"{name}.port"
        self.config_file = folder / f"{name}.toml"
        self.environment_more = environment_more
        self.configure(config or {})
        self._client = None
        self.tls = "tls_cert" in (config or {}).get("server", {})
        self.verify = True if ca is None else ca is not False and ssl.create_default_context(cafile=str(ca))

    def configure(self, config):
        """Takes effect with the next start."""
        self.config_file.write_text(toml(merged(merged(self.DEFAULTS, {"server": {"port": self.port}, "data": {"dir": str(self.data)}}), config)))

    def launch_only(self):
        """Starts it without waiting for it to serve."""
        self.port_file.unlink(missing_ok=True)
        self.launch([BIN / "darkbloom-coordinator", "serve", "--config", self.config_file, "--key-file", self.key_file,
                     "--port-file", self.port_file], **self.environment_more)

    def start(self):
        self.launch_only()
        wait_until(self._ready, f"{self.name} to start")
        return self

    def _ready(self):
        self.check_alive()
        return self.port_file.exists()

    def restart(self):
        """Stops it the clean way and starts it again on the same books."""
        assert self.terminate() == 0, self.log()[-4000:]
        return self.start()

    def command(self, *arguments):
        """Runs another of its commands on the same configuration; returns the finished process."""
        return subprocess.run([BIN / "darkbloom-coordinator", *arguments, "--config", self.config_file], capture_output=True, text=True,
                              env=environment(self.folder, **self.environment_more), timeout=60 * PATIENCE)

    def check_ended_well(self):
        self.close_client()
        super().check_ended_well()

    # --- what it says ---

    @property
    def url(self):
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    @property
    def ws_url(self):
        return f"ws{'s' if self.tls else ''}://127.0.0.1:{self.port}/ws/provider"

    @property
    def key(self):
        return self.key_file.read_text().strip()

    @property
    def client(self):
        """An httpx client with the owner's key."""
        if self._client is None:
            self._client = httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.key}"}, timeout=60 * PATIENCE,
                                        verify=self.verify, event_hooks={"response": [hear]})
        return self._client

    def close_client(self):
        if self._client is not None:
            self._client.close()
            self._client = None

    def get(self, path):
        response = self.client.get(path)
        response.raise_for_status()
        return response.json()

    def chat(self, model, text="hello", **body):
        """One whole answer; the httpx response."""
        return self.client.post("/v1/chat/completions", json={"model": model, "messages": [{"role": "user", "content": text}], **body})

    def providers(self):
        return self.get("/v1/providers/attestation")["providers"]

    def provider_of(self, serial):
        """The one connected provider of this serial number, or None."""
        found = [provider for provider in self.providers() if provider.get("serial_number") == serial]
        assert len(found) <= 1, found
        return found[0] if found else None

    def routable(self, model):
        """How many providers may get requests for the model now."""
        for entry in self.get("/v1/models")["data"]:
            if entry["id"] == model:
                return entry["metadata"]["routable_providers"]
        return 0

    def wait_routable(self, model, count=1, seconds=60):
        def check():
            self.check_alive()
            return self.routable(model) == count
        wait_until(check, f"{count} routable providers of {model}", seconds)

    def balance(self):
        return self.get("/v1/payments/balance")["balance_micro_usd"]

    def usage(self):
        return self.get("/v1/payments/usage")["usage"]

    def inflight(self):
        """Requests that a drain waits for: counted from their heads, so that their bodies may still be on their way and nothing was
        taken for them. `wait_running` is for tests that go on once requests were admitted."""
        return self.client.get("/readyz").json()["inflight"]

    def wait_running(self, count):
        """Waits until so many requests are past admission: read, in their account's places, on a provider or in a queue."""
        wait_until(lambda: self.metrics()["darkbloom_inflight_requests"] == count, f"{count} requests to run")

    def wait_sent(self, count):
        """Waits until so many requests (and backups of them) have a place on a provider."""
        wait_until(lambda: self.metrics()["darkbloom_jobs_open"] == count, f"{count} requests to be sent")

    def wait_queued(self, count):
        """Waits until so many requests wait for a provider's place."""
        wait_until(lambda: self.metrics()["darkbloom_requests_waiting"] == count, f"{count} requests to wait")

    def metrics(self):
        """{'name{labels}': value} of /metrics."""
        values = {}
        for line in self.client.get("/metrics").text.splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                values[name] = float(value)
        return values

    def wait_idle(self):
        """No request is open and no money is held."""
        def idle():
            audit = self.audit()
            return self.inflight() == 0 and audit["open_holds"] == 0
        wait_until(idle, "every hold to end")

    # --- the books ---

    def audit(self):
        """`ledger verify` as a dict; it recomputes the books from their rows and says whether they are right."""
        result = self.command("ledger", "verify")
        if result.returncode != 0:
            raise Failed(f"the books are wrong: {result.stdout}{result.stderr}")
        return json.loads(result.stdout)

    def record(self, job):
        """`ledger show` of one request: its hold, its settlement if there is one, its entries."""
        result = self.command("ledger", "show", job)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    def billed(self, job):
        return self.record(job)["usage"]

    def check_books(self):
        """The money invariants (billing 14) once nothing runs: returns the audit."""
        self.wait_idle()
        audit = self.audit()
        assert audit["sum_micro_usd"] == 0, audit
        assert audit["negative_balances"] == 0, audit
        assert audit["usage_cost_micro_usd"] == audit["charged_micro_usd"], audit
        return audit


class Provider(Program):
    """`darkbloom start --foreground`, on a script or on the real model."""

    def __init__(self, folder, coordinator, name="provider", script=None, model=None, models_dir=None, options=(), **environment_more):
        super().__init__(name, folder)
        self.coordinator = coordinator
        self.state = folder / f"{name}-state"
        self.model = model or ("scripted" if script is not None else MODEL)
        command = [BIN / "darkbloom", "start", "--foreground", "--coordinator-url", coordinator.ws_url, "--state-dir", self.state,
                   "--heartbeat-ms", "500", "--model", self.model]
        if script is not None:
            self.script_file = folder / f"{name}.json"
            self.script_file.write_text(json.dumps(script))
            command += ["--scripted-engine", self.script_file]
        else:
            command += ["--models-dir", models_dir, "--threads", "1", "--max-sequences", "4"]
            command += [] if "--context" in options else ["--context", "4096"]
        self.words = [*command, *options]
        self.environment_more = environment_more

    def start(self):
        self.launch(self.words, **self.environment_more)
        return self

    def status(self):
        """`darkbloom status --json`."""
        result = subprocess.run([BIN / "darkbloom", "status", "--json", "--state-dir", self.state], capture_output=True, text=True,
                                env=environment(self.folder), timeout=60 * PATIENCE)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)


class Swarm(Program):
    """darkbloom-swarm: simulated providers, consumers, or both. Keyword names are its options: pace_us=1000, no_credit=True."""

    def __init__(self, folder, coordinator, command, name="swarm", **options):
        super().__init__(name, folder)
        words = [BIN / "darkbloom-swarm", command, "--port", str(coordinator.port)]
        for option, value in options.items():
            words.append("--" + option.replace("_", "-"))
            if value is not True:
                words.append(str(value))
        self.words = words
        self.coordinator = coordinator

    def start(self):
        self.launch(self.words, DARKBLOOM_API_KEY=self.coordinator.key)
        return self

    def wait_ready(self):
        def ready():
            self.check_alive()
            return "every provider has answered" in self.log()
        wait_until(ready, f"{self.name}'s providers")
        return self

    def result(self, seconds=240):
        """Waits for its end and returns what it measured."""
        status = self.wait(seconds)
        assert status == 0, self.log()[-2000:]
        return json.loads(self.out().splitlines()[-1])
