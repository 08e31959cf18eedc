"""Every portable file and platform/macos.c compile for aarch64-macos.

A compile check, no more: nothing is linked and nothing runs. The compiler and Apple's libc headers come with the `ziglang`
package; the frameworks that it lacks are declared in tests/macos/frameworks; the other libraries' headers are this system's.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
LIBRARIES = ["openssl", "sodium.h", "sodium", "uv.h", "uv", "nghttp2", "curl", "sqlite3.h", "libpq-fe.h", "postgres_ext.h", "pg_config_ext.h", "nats"]


@pytest.fixture(scope="session")
def headers(tmp_path_factory):
    """A folder with links to the headers of the libraries only: this system's libc headers must not be seen."""
    folder = tmp_path_factory.mktemp("include")
    system = [Path("/usr/include")] + sorted(Path("/usr/include").glob("*-linux-gnu")) + [Path("/usr/include/postgresql")]
    for name in LIBRARIES:
        places = [place / name for place in system if (place / name).exists()]
        if not places:
            continue
        if places[0].is_file():
            (folder / name).symlink_to(places[0])
            continue
        (folder / name).mkdir()
        for place in places:
            for header in place.iterdir():
                if not (folder / name / header.name).exists():
                    (folder / name / header.name).symlink_to(header)
    return folder


def test_compiles_for_aarch64_macos(headers, tmp_path):
    sources = [path for path in sorted((TOP / "src").rglob("*.c")) if path.name != "linux.c"]
    assert any(path.name == "macos.c" for path in sources)
    flags = ["-target", "aarch64-macos", "-std=c17", "-D_GNU_SOURCE", "-D_DARWIN_C_SOURCE", "-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wconversion",
             "-Wno-unused-command-line-argument", "-Wno-deprecated-declarations", "-I", TOP / "src", "-isystem", headers,
             "-isystem", TOP / "build/deps/include", "-isystem", TOP / "build/deps/include/llama", "-isystem", TOP / "tests/macos/frameworks",
             '-DDB_LLAMA_PIN="0"']  # what CMake reads from deps.lock

    def compile_one(path):
        output = tmp_path / (path.relative_to(TOP).as_posix().replace("/", "_") + ".o")
        result = subprocess.run([sys.executable, "-m", "ziglang", "cc", *flags, "-c", path, "-o", output],
                                capture_output=True, text=True, env=os.environ | {"ZIG_LOCAL_CACHE_DIR": str(tmp_path)})
        return path, result

    wrong = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, result in pool.map(compile_one, sources):
            if result.returncode:
                wrong.append(f"{path.relative_to(TOP)}:\n{result.stderr[:1500]}")
    assert not wrong, "\n\n".join(wrong)
