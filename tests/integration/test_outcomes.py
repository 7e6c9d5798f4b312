"""The list of what became of each test, written by a pytest of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SUITE = """
import pytest

@pytest.mark.parametrize("backend", ["local", "docker"])
def test_each(backend):
    if backend == "docker":
        pytest.skip({reason!r})

def test_fails():
    assert {good}

@pytest.fixture
def late():
    yield
    assert {good}

def test_late(late):
    pass

@pytest.mark.xfail
def test_expected():
    assert False
"""


def session(folder: Path, *options: str, reason: str, good: bool) -> tuple[int, str, dict]:
    """Its exit code, what it said, and the list by test."""
    (folder / "test_it.py").write_text(SUITE.format(reason=reason, good=good))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "tests.outcomes"),
            *("--outcomes", "out/list.json", "-p", "no:randomly", "-p", "no:cacheprovider"),
            *options,
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HARNESS_TEST_GIVEN": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    rows = json.loads((folder / "out/list.json").read_text())
    return done.returncode, done.stdout, {row["test"].partition("::")[2]: row for row in rows}


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_each_test_has_its_outcome(tmp_path: Path, options: tuple[str, ...]):
    """And its backend, under pytest-xdist too."""
    code, _, rows = session(tmp_path, *options, reason="no containers: x", good=False)

    assert code == 1
    assert {name: row["outcome"] for name, row in rows.items()} == {
        "test_each[local]": "passed",
        "test_each[docker]": "not run",
        "test_fails": "failed",
        "test_late": "error",
        "test_expected": "xfailed",
    }
    assert rows["test_each[docker]"]["reason"] == "no containers: x"
    assert rows["test_each[docker]"]["backend"] == "docker"
    assert rows["test_fails"]["backend"] == "-"


def test_one_that_was_not_run_without_leave_fails_the_session(tmp_path: Path):
    """By name, although every test that ran has passed."""
    code, said, _ = session(tmp_path, reason="I was not in the mood", good=True)

    assert code == 1
    assert "UNEXPECTED test_it.py::test_each[docker]: not run without leave" in said


NEED_AN_ENGINE = (
    "test_engine_script.py::test_an_engine_that_answers_is_left_as_it_is",
    "test_images_programs.py::test_the_command_lists_what_is_here",
    "test_engine.py::test_docker_host_goes_before_the_context",
)


@pytest.mark.parametrize(("options", "code"), [((), 0), (("--backend", "docker"), 1)])
def test_whoever_asks_for_containers_is_given_no_skip(
    options: tuple[str, ...], code: int, tmp_path: Path
):
    """Nor by the tests of the engine itself, which run on no backend."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options),
            *(f"tests/integration/{test}" for test in NEED_AN_ENGINE),
        ],
        cwd=ROOT,
        env={
            **{name: value for name, value in os.environ.items() if "HARNESS_TEST" not in name},
            "DOCKER_HOST": f"unix://{tmp_path}/nobody.sock",
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == code, done.stdout
    assert ("skipped" in done.stdout.splitlines()[-1]) == (code == 0), done.stdout
