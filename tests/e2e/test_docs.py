"""Documents that are checked against the programs."""

import os
import re
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("DARKBLOOM_BUILD", TOP / "build/release")).resolve() / "bin"


def output(*command):
    result = subprocess.run([BIN / command[0], *command[1:]], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_configuration_reference_is_what_the_program_prints():
    written = (TOP / "docs/operator/configuration.md").read_text()
    assert written == output("darkbloom-coordinator", "config", "docs"), \
        "run: build/release/bin/darkbloom-coordinator config docs > docs/operator/configuration.md"


def test_the_reference_of_the_prefix_cache_is_what_the_program_prints():
    written = (TOP / "docs/operator/prefix-cache.md").read_text()
    assert written.endswith(output("darkbloom", "cache", "settings")), "end the page with what `darkbloom cache settings` prints"


@pytest.mark.parametrize("program", ["darkbloom", "darkbloom-coordinator", "darkbloom-swarm"])
def test_every_command_has_help_with_an_example(program):
    top = output(program, "--help")
    commands = re.findall(r"^  ([a-z][a-z -]*?)  +\S", top.split("Commands:")[1].split("Options:")[0], re.M)
    assert commands
    for command in commands:
        text = output(program, *command.split(), "--help")
        assert "Example" in text, command
        assert program in text.split("Example")[1], command


@pytest.mark.parametrize("program", ["darkbloom", "darkbloom-coordinator", "darkbloom-swarm"])
def test_man_pages_name_every_command(program):
    page = output(program, "--man")
    commands = re.findall(r"^  ([a-z][a-z -]*?)  +\S", output(program, "--help").split("Commands:")[1].split("Options:")[0], re.M)
    assert page.startswith(".Dd ") and ".Sh NAME" in page and ".Sh SYNOPSIS" in page
    assert page.count("Examples:") >= len(commands) >= 1
    for command in commands:
        assert command in page


def test_the_readme_names_targets_that_exist():
    targets = set(re.findall(r"^([a-z-]+):", (TOP / "Makefile").read_text(), re.M))
    for document in ("README.md", "CONTRIBUTING.md"):
        for target in re.findall(r"`?(?<![a-z])make ([a-z-]+)", (TOP / document).read_text()):
            assert target in targets, f"{document} names `make {target}`"


def test_links_between_documents_lead_somewhere():
    for document in [TOP / "README.md", TOP / "ARCHITECTURE.md", TOP / "CONTRIBUTING.md", *sorted((TOP / "docs").rglob("*.md"))]:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document} links to {target}"
