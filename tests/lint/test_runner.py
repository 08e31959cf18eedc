"""The runner of the suite itself: what it runs a second time, and what it never does."""

import importlib.machinery
import importlib.util
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]


@pytest.fixture
def runner(tmp_path):
    loader = importlib.machinery.SourceFileLoader("suite_runner", str(TOP / "tests/run"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    module.PYTHON = TOP / "build/venv/bin/python"
    module.TOP = tmp_path
    (tmp_path / "build/made/unit").mkdir(parents=True)
    (tmp_path / "tests").mkdir()
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return module


def cases(runner, **bodies):
    text = "from pathlib import Path\nimport pytest\n"
    for name, body in bodies.items():
        text += f"\ndef test_{name}():\n    {body}\n"
    (runner.TOP / "tests/test_made.py").write_text(text)
    runner.pytest("made", "made", "tests", again=True)
    return runner.passed, runner.failed, runner.second_try


def once(name):
    """Fails at the first run, and leaves a mark by which the second passes."""
    return f"mark = Path('mark-{name}'); seen = mark.exists(); mark.touch(); assert seen"


def program(runner, name, text):
    path = runner.TOP / f"build/made/unit/unit_{name}"
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)


def test_a_case_that_fails_once_is_named_and_counted_once(runner):
    good, bad, named = cases(runner, fine="assert True", late=once("late"))
    assert (good, bad, named) == (2, 0, ["tests/test_made.py::test_late"])


def test_a_case_that_fails_twice_has_failed(runner):
    assert cases(runner, fine="assert True", wrong="assert False", late=once("late")) == (2, 1, ["tests/test_made.py::test_late"])


def test_a_crash_or_a_report_is_final(runner):
    ended = "mark = Path('m'); seen = mark.exists(); mark.touch(); seen or pytest.fail('provider ended with status -11')"
    assert cases(runner, ended=ended, late=once("late"))[1:] == (2, [])
    assert not (runner.TOP / "mark-late").read_bytes()


def test_more_than_three_failures_are_final(runner):
    assert cases(runner, **{f"late{n}": once(n) for n in range(4)}) == (0, 4, [])


def test_a_suite_that_cannot_start_has_failed(runner):
    (runner.TOP / "tests/conftest.py").write_text("import nothing_of_that_name\n")
    assert cases(runner, fine="assert True")[1:] == (1, [])


def test_a_unit_program_that_fails_once_is_named(runner):
    program(runner, "fine", "echo '[  PASSED  ] 3 test(s).'\n")
    program(runner, "late", "[ -e mark ] && echo '[  PASSED  ] 2 test(s).' && exit 0\ntouch mark\n"
            "echo '[  PASSED  ] 1 test(s).'; echo '[  FAILED  ] x: 1 test(s)'; exit 1\n")
    runner.unit_tests("made")
    assert (runner.passed, runner.failed, runner.second_try) == (5, 0, ["unit_late"])


def test_a_unit_program_that_a_sanitizer_ends_is_final(runner):
    program(runner, "raced", "[ -e mark ] && echo '[  PASSED  ] 1 test(s).' && exit 0\ntouch mark\n"
            "echo '[  PASSED  ] 1 test(s).'; echo 'WARNING: ThreadSanitizer: data race' >&2; exit 66\n")
    runner.unit_tests("made")
    assert (runner.passed, runner.failed, runner.second_try) == (1, 1, [])


def test_a_unit_program_that_dies_is_final(runner):
    program(runner, "dead", "[ -e mark ] && echo '[  PASSED  ] 1 test(s).' && exit 0\ntouch mark\nkill -SEGV $$\n")
    runner.unit_tests("made")
    assert (runner.failed, runner.second_try) == (1, [])
