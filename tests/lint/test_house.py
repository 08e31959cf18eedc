"""The rules of the house, read off the sources: layers, banned calls, sizes, formatting, texts that must not be committed."""

import re
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for path in (TOP / "src").rglob("*") if path.suffix in (".c", ".h", ".cpp"))
TRACKED = [TOP / name for name in subprocess.run(["git", "ls-files"], cwd=TOP, capture_output=True, text=True, check=True).stdout.split("\n") if name]

# Which folders of src/ a folder may include from, besides itself (design: core < crypto, net < wire, api < programs).
LAYERS = {
    "core": set(),
    "crypto": {"core"},
    "net": {"core", "crypto"},
    "wire": {"core", "crypto"},
    "api": {"core", "crypto", "wire"},
    "client": {"core", "crypto", "net", "wire", "api"},
    "coordinator": {"core", "crypto", "net", "wire", "api"},
    "provider": {"core", "crypto", "net", "wire", "api", "client"},
    "swarm": {"core", "crypto", "net", "wire", "api"},
}
# Single rooms that a folder may look into besides: the simulator runs the server's own routing.
ROOMS = {"swarm": {"coordinator/routing"}}
# Rooms of the coordinator that may not look up: each lists the rooms it may include.
COORDINATOR = {
    "store": set(),
    "money": {"store"},
    "accounts": {"store", "money"},
    "catalog": set(),
    "routing": set(),
    "trust": set(),
    "observe": set(),
    "fleet": {"accounts", "money", "store", "observe", "routing", "trust", "catalog"},
    "gateway": {"accounts", "money", "store", "observe", "routing", "trust", "catalog", "fleet"},
}
# The same for rooms of the provider that stand on their own.
PROVIDER = {"kvcache": set()}
# System headers that belong to one folder.
OWNED = {"sodium": "crypto", "openssl": "crypto", "uv.h": "net", "nghttp2": "net", "llhttp": "net", "curl/": "net",
         "sqlite3": "coordinator/store", "tss2": "provider/platform", "yyjson": "core", "llama.h": "provider/engine", "libpq": "coordinator/store"}
OWNED_TOO = {("openssl", "net")}  # TLS


def folder(path):
    return path.relative_to(TOP / "src").parts[0]


def includes(path):
    for number, line in enumerate(path.read_text().splitlines(), 1):
        found = re.match(r'\s*#\s*include\s+([<"])([^>"]+)[>"]', line)
        if found:
            yield number, found.group(1) == "<", found.group(2)


def test_includes_point_down_the_house():
    wrong = []
    for path in SOURCES:
        here = path.relative_to(TOP / "src").parts
        for number, system, name in includes(path):
            if system:
                continue
            parts = name.split("/")
            if parts[0] not in LAYERS:
                continue
            if parts[0] != here[0] and parts[0] not in LAYERS[here[0]] and "/".join(parts[:2]) not in ROOMS.get(here[0], ()):
                wrong.append(f"{path}:{number}: {here[0]}/ includes {name}")
            if here[0] == parts[0] == "coordinator" and len(here) == 3 and len(parts) == 3 and here[1] != parts[1]:
                if parts[1] not in COORDINATOR[here[1]]:
                    wrong.append(f"{path}:{number}: {here[1]}/ includes {name}")
            if here[0] == parts[0] == "provider" and len(here) == 3 and here[1] in PROVIDER and parts[1] not in {here[1], *PROVIDER[here[1]]}:
                wrong.append(f"{path}:{number}: {here[1]}/ includes {name}")
            if here[0] == "coordinator" and len(here) == 3 and parts[0] == "coordinator" and len(parts) == 2:
                wrong.append(f"{path}:{number}: a room includes {name}, which stands above it")
    assert not wrong, "\n".join(wrong)


def test_libraries_stay_in_their_folder():
    wrong = []
    for path in SOURCES:
        here = path.relative_to(TOP / "src").as_posix()
        for number, _, name in includes(path):
            for library, owner in OWNED.items():
                if name.startswith(library) and not here.startswith(owner + "/") and (library, here.split("/")[0]) not in OWNED_TOO:
                    wrong.append(f"{path}:{number}: {name} belongs to src/{owner}/")
    assert not wrong, "\n".join(wrong)


def test_no_banned_calls():
    banned = re.compile(r"\b(strcpy|strcat|sprintf|vsprintf|gets|atoi|atol|atof|strtok|alloca|system|tmpnam)\s*\(")
    wrong = [f"{path}:{number}: {line.strip()}" for path in SOURCES for number, line in enumerate(path.read_text().splitlines(), 1)
             if banned.search(re.sub(r'"(\\.|[^"\\])*"|//.*|/\*.*?\*/', "", line)) and not line.lstrip().startswith("*")]
    assert not wrong, "\n".join(wrong)


def test_files_hold_one_subject():
    wrong = [f"{path}: {lines} lines" for path in SOURCES if (lines := len(path.read_text().splitlines())) > 800]
    assert not wrong, "\n".join(wrong)


def test_no_unfinished_work():
    words = re.compile(r"\b(TODO|FIXME|XXX|not implemented)\b")
    wrong = [f"{path}:{number}: {line.strip()}" for path in SOURCES for number, line in enumerate(path.read_text().splitlines(), 1)
             if words.search(line)]
    assert not wrong, "\n".join(wrong)


def test_formatted():
    files = [str(path) for path in TRACKED if path.suffix in (".c", ".h", ".cpp") and path.exists()]
    result = subprocess.run(["clang-format", "--dry-run", "--Werror", *files], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-4000:]


@pytest.mark.parametrize("pattern", ["/" + "work/", "/" + "tmp/" + "bash_jobs", "registry." + "npmjs", "pypi" + "." + "org", "files." + "pythonhosted"])
def test_nothing_names_a_machine_or_a_registry(pattern):
    wrong = [str(path) for path in TRACKED if path.is_file() and pattern.encode() in path.read_bytes()]
    assert not wrong, "\n".join(wrong)


def test_every_header_compiles_alone(tmp_path):
    headers = [path for path in SOURCES if path.suffix == ".h"]
    assert headers
    wrong = []
    flags = subprocess.run(["pkg-config", "--cflags", "libuv", "libnghttp2", "openssl", "libsodium", "sqlite3", "libpq"], capture_output=True, text=True).stdout.split()
    for path in headers:
        result = subprocess.run(["cc", "-std=c17", "-D_GNU_SOURCE", "-fsyntax-only", "-x", "c", "-I", str(TOP / "src"), "-I", str(TOP / "build/deps/include"),
                                 "-isystem", str(TOP / "build/deps/include/llama"), *flags, str(path)], capture_output=True, text=True)
        if result.returncode:
            wrong.append(result.stderr[:600])
    assert not wrong, "\n".join(wrong)
