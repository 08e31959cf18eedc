"""The books on both back ends: pairs per second and their latency, a start with ten million ledger rows, and their recomputation.

PostgreSQL is a server of its own on this machine, with fsync on (tests/postgres.sh)."""

import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import results

TOP = Path(__file__).resolve().parents[2]
ROWS = int(os.environ.get("BENCH_STORE_ROWS", "10000000"))


@contextmanager
def postgres():
    """Addresses of empty databases, one for each call."""
    server = subprocess.Popen([TOP / "tests/postgres.sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        words = server.stdout.readline().split()
        if not words or words[0] != "ready":
            sys.exit("PostgreSQL did not start")
        made = iter(range(1, 1000))

        def address():
            schema = f"b{next(made)}"
            host = words[1].split("host=")[1].split("&")[0].replace("%2F", "/")
            subprocess.run(["psql", "-qX", "-h", host, "-U", "test", "test", "-c", f"CREATE SCHEMA {schema}"], check=True)
            return f"{words[1]}&options=-csearch_path%3D{schema}"

        yield address
    finally:
        server.stdin.close()
        server.wait()


def run(*command):
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{command[0]} failed:\n{result.stderr[-2000:]}")
    return result.stdout


def main(build, runs):
    with tempfile.TemporaryDirectory() as folder, postgres() as address:
        pairs = {"sqlite": lambda i: (400000, f"{folder}/pairs.db"), "postgres": lambda i: (160000, address())}
        books = {"sqlite": lambda: f"{folder}/books.db", "postgres": address}
        for on in pairs:
            results.record_lines([run(build / "bench/bench_store", *pairs[on](i)) for i in range(runs)])
            results.record_lines([run(build / "bench/bench_books", ROWS, books[on]())])
