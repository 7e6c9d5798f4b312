"""What holds the tests' traffic against the schema, in a pytest of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

GOOD = b'{"op": "pong", "request_id": "1", "timestamp": 1}'
BAD = b'{"op": "pong", "request_id": "1", "timestamp": "soon"}'

SUITE = f"""
import threading

import pytest

from tests.held import HELD

def test_fits():
    HELD.reply({GOOD!r})

def test_does_not():
    # As in a session's own task or thread: nobody looks at what comes of it.
    thread = threading.Thread(target=HELD.reply, args=({BAD!r},))
    thread.start()
    thread.join()

def test_fails_by_itself_too():
    HELD.reply({BAD!r})
    assert "mine" == ""

@pytest.fixture
def late():
    yield
    HELD.reply({BAD!r})

def test_late(late):
    HELD.reply({GOOD!r})

def test_after_all_of_them():
    pass
"""
SILENT = """
def test_nothing():
    pass
"""
OURS = """
def pytest_addoption(parser):
    parser.addoption("--inert")
"""
LINE = "frames held against docs/protocol.schema.json: "


def session(folder: Path, suite: str, *options: str) -> tuple[int, str]:
    """Its exit code, and what it said."""
    tier = folder / "tests/integration"
    tier.mkdir(parents=True)
    (tier / "test_it.py").write_text(suite)
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "conftest.py").write_text(OURS)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "tests.held", "--import-mode=importlib"),
            *("-p", "no:randomly", "-p", "no:cacheprovider", "-rfE", *options),
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_a_frame_that_does_not_fit_fails_the_test_that_met_it(
    tmp_path: Path, options: tuple[str, ...]
):
    """That one alone, however it met it; and the frames of all are counted."""
    code, said = session(tmp_path, SUITE, *options)

    failed = [line for line in said.splitlines() if line.startswith(("FAILED ", "ERROR tests"))]
    names = sorted(line.partition("::")[2].partition(" ")[0] for line in failed)
    assert code == 1
    assert names == ["test_does_not", "test_fails_by_itself_too", "test_late"]
    assert "$/timestamp" in said
    assert "'mine' == ''" in said
    assert LINE + "5\n" in said


@pytest.mark.parametrize("asked", ["", "tests", "tests/integration"])
def test_where_the_whole_tier_held_none_it_fails(tmp_path: Path, asked: str):
    """Although every test has passed: nothing was looked at."""
    code, said = session(tmp_path, SILENT, *asked.split())

    assert "1 passed" in said
    assert (code, LINE + "0\n" in said) == (1, True)


@pytest.mark.parametrize("asked", ["tests/integration/test_it.py", "-k nothing", "--inert latency"])
def test_a_part_of_it_may_hold_none(tmp_path: Path, asked: str):
    """Not every test has to do with the daemon."""
    code, said = session(tmp_path, SILENT, *asked.split())

    assert (code, LINE in said) == (0, False)
