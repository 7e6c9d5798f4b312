"""The last lines of the demonstration: commands that can be pasted."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from harness.demo import _verdict
from harness.demo.telling import Step, close_line


def hints(runs: Path, monkeypatch: pytest.MonkeyPatch, *, command: str | None = "harness"):
    """The last lines by their label."""
    monkeypatch.setattr("shutil.which", lambda name: command)
    text = close_line(
        "valid",
        [],
        total=6,
        elapsed_s=1.0,
        left=[],
        again="--seed 7",
        runs=runs,
        directory=runs / "demo/20261122-191500",
    )
    return dict(line.split(maxsplit=1) for line in text.splitlines()[1:])


def test_the_hints_are_as_short_as_one_would_type_them(monkeypatch: pytest.MonkeyPatch):
    """
    Defaults are left out.
    """
    said = hints(Path("runs"), monkeypatch)

    assert said["again"] == "harness demo --seed 7"
    assert said["timeline"] == "harness show runs/demo/20261122-191500"


def test_a_limit_that_was_hit_stands_beside_the_verdict():
    """
    Each in a line of its own.
    """
    text = close_line(
        "unknown",
        [],
        total=6,
        elapsed_s=1.0,
        left=[],
        limits_hit=["descriptors: 8192 of 8192 open in process 7"],
        again="--seed 7",
        runs=Path("runs"),
        directory=Path("runs/demo/20261122-191500"),
    )

    assert text.splitlines()[:2] == [
        "  unknown: 0 of 6 steps, 1.0 s, nothing left running",
        "  limit     descriptors: 8192 of 8192 open in process 7",
    ]


@pytest.mark.parametrize(
    ("limits_hit", "verdict"),
    [
        ([], "valid"),
        (["memory: refused 3 times"], "unknown"),
        (["cpus: held back in 2 of 9 periods"], "valid"),
    ],
)
def test_a_daemon_that_was_refused_something_proves_nothing(limits_hit: list[str], verdict: str):
    """
    One that was merely slowed down does.
    """
    step = Step(name="echo", expected="", measured="", sides=(), verdict="valid", why="")

    assert _verdict([step], [], limits_hit) == verdict


def test_the_hints_repeat_the_folder_of_the_runs(monkeypatch: pytest.MonkeyPatch):
    """
    What is run again goes where it went before.
    """
    assert hints(Path("kept"), monkeypatch)["again"] == "harness demo --seed 7 --runs kept"


@pytest.mark.parametrize("name", ["my runs", "it's", "$HOME", "-x"])
def test_the_hints_survive_a_shell(name: str, monkeypatch: pytest.MonkeyPatch):
    """
    Each path is one word, and none looks like an option.
    """
    said = hints(Path(name), monkeypatch)

    *_, option, runs = shlex.split(said["again"])
    assert (option, Path(runs)) == ("--runs", Path(name))
    assert not runs.startswith("-")
    *_, show, run = shlex.split(said["timeline"])
    assert (show, Path(run)) == ("show", Path(name, "demo/20261122-191500"))


def test_the_hints_survive_a_python_in_an_odd_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """
    Where no `harness` is found, the Python that ran this one is named.
    """
    python = tmp_path / "a b" / "python3"
    monkeypatch.setattr("sys.executable", str(python))

    said = hints(Path("runs"), monkeypatch, command=None)

    assert shlex.split(said["again"])[:3] == [str(python), "-m", "harness"]
