"""How many tests stood on each ground, told by a pytest of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SUITE = """
import pytest

from tests.grounds import stands_on

@pytest.fixture(scope="module")
def shared():
    stands_on("local", "toxiproxy")

@pytest.mark.parametrize("n", range(3))
def test_each(n):
    stands_on("local", "embedded")
    stands_on("local", "embedded")

def test_two():
    stands_on("local", "alone")
    stands_on("docker", "embedded")

def test_one(shared):
    pass

def test_that_is_given_up():
    stands_on("docker", "toxiproxy")
    if {given_up}:
        pytest.skip("no containers: x")

@pytest.mark.xfail
def test_that_fails_as_it_should():
    stands_on("local", "embedded")
    assert False

def test_of_nothing():
    pass
"""


def session(folder: Path, *options: str, given_up: bool, what: str = "tests/integration") -> str:
    """Carry the suite out; what it said, and its exit code behind it."""
    tier = folder / "tests/integration"
    tier.mkdir(parents=True)
    (folder / "pytest.ini").write_text("[pytest]\n")
    (tier / "test_it.py").write_text(SUITE.format(given_up=given_up))
    (folder / "test_other.py").write_text("def test_other(): pass\n")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "tests.grounds", "-p", "no:randomly"),
            *("-p", "no:cacheprovider", "--import-mode=importlib", *options, what),
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HARNESS_STRICT": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return f"{done.stdout}\nexit code {done.returncode}"


def counts(said: str) -> dict[str, str]:
    """What was told of each ground."""
    _, _, rest = said.partition("tests on each ground (backend/proxy):\n")
    rows = [line.split(maxsplit=1) for line in rest.splitlines() if line.startswith("  ")]
    return dict(rows)


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_each_ground_has_its_count(tmp_path: Path, options: tuple[str, ...]):
    """
    A test counts once on each that it stood on, if it was not given up; under pytest-xdist, too.
    """
    said = session(tmp_path, *options, given_up=True)

    assert counts(said) == {
        "local/embedded": "4",
        "local/toxiproxy": "1",
        "docker/embedded": "1",
        "docker/toxiproxy": "not run",
        "local/alone": "1",
    }
    assert said.endswith("exit code 0")


@pytest.mark.parametrize(("given_up", "code"), [(True, 1), (False, 0)])
def test_a_ground_without_a_test_fails_a_strict_session(tmp_path: Path, given_up: bool, code: int):
    """
    Although every test that ran has passed; and says which it is.
    """
    said = session(tmp_path, "--harness-strict", given_up=given_up)

    assert said.endswith(f"exit code {code}")
    word = "not run (--harness-strict)" if given_up else "1"
    assert counts(said)["docker/toxiproxy"] == word


@pytest.mark.parametrize(
    ("options", "what"),
    [(("-k", "each"), "tests/integration"), ((), "tests/integration/test_it.py")],
)
def test_of_a_part_of_the_tier_only_what_ran_is_told(
    tmp_path: Path, options: tuple[str, ...], what: str
):
    """
    Who asks for one test need not be told what else there is.
    """
    said = session(tmp_path, "--harness-strict", *options, given_up=True, what=what)

    assert "not run" not in said
    assert counts(said)["local/embedded"] in ("3", "4")
    assert said.endswith("exit code 0")


def test_where_nothing_stood_on_any_nothing_is_told(tmp_path: Path):
    """
    As with tests of isolated classes.
    """
    said = session(tmp_path, given_up=True, what="test_other.py")

    assert "on each ground" not in said
