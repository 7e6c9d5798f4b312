"""Finding a run again."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import InvalidValue
from harness.run.find import find_run


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of runs in the current folder; `latest` is not the newest by name."""
    monkeypatch.chdir(tmp_path)
    for name in ("demo/20261122-191500", "demo/20261122-191500-9", "demo/20261122-191500-10"):
        made(Path("runs", name))
    made(Path("runs/test_a/20261121-080000"))
    Path("runs/latest").symlink_to("test_a/20261121-080000")
    Path("runs/demo/notes").mkdir()
    return Path("runs")


def made(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "history.jsonl").touch()
    return path


def test_without_a_name_the_latest_is_meant(runs: Path):
    """
    The one that began last, whatever it is called.
    """
    assert find_run(None, runs=runs) == Path("runs/latest")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("demo", "runs/demo/20261122-191500-10"),
        ("runs/demo", "runs/demo/20261122-191500-10"),
        ("demo/20261122-191500", "runs/demo/20261122-191500"),
        ("runs/demo/20261122-191500", "runs/demo/20261122-191500"),
        ("runs/demo/20261122-191500/", "runs/demo/20261122-191500"),
        ("runs/demo/20261122-191500/history.jsonl", "runs/demo/20261122-191500"),
        ("latest", "runs/latest"),
        ("test_a", "runs/test_a/20261121-080000"),
    ],
)
def test_a_run_is_found_by_its_path_and_by_its_name(runs: Path, text: str, found: str):
    """
    A name without a stamp means the newest run of it.
    """
    assert find_run(text, runs=runs) == Path(found)


def test_a_name_is_looked_up_in_the_folder_that_was_given(runs: Path, tmp_path: Path):
    """
    Not in ./runs.
    """
    there = made(tmp_path / "elsewhere/demo/20200101-000000")

    assert find_run("demo", runs=tmp_path / "elsewhere") == there


def test_a_folder_that_is_no_run_does_not_hide_the_run_of_that_name(runs: Path):
    """
    A project may have a folder that is called as the run is.
    """
    Path("demo").mkdir()

    assert find_run("demo", runs=runs) == Path("runs/demo/20261122-191500-10")


def test_what_is_no_run_is_answered_with_the_newest_ones(runs: Path):
    """
    Newest first, as one would type them, and what makes another.
    """
    made(runs / "test_b/20260101-000000")

    with pytest.raises(InvalidValue) as caught:
        find_run("demon", runs=runs)

    assert str(caught.value).splitlines() == [
        "demon: no run there",
        "  nor at  runs/demon",
        "  newest  demo/20261122-191500-10",
        "          demo/20261122-191500-9",
        "          demo/20261122-191500",
        "          test_a/20261121-080000",
        "          test_b/20260101-000000",
        "  next    give one of those; `harness demo` makes another",
    ]


def test_where_there_are_no_runs_it_says_what_makes_one(tmp_path: Path):
    """
    The first thing a newcomer may try.
    """
    with pytest.raises(InvalidValue) as caught:
        find_run(None, runs=tmp_path / "runs")

    assert caught.value.headline == f"{tmp_path}/runs/latest: no run there"
    assert caught.value.details == (("next", "`harness demo` makes one"),)


def test_a_file_is_no_run(runs: Path):
    """
    It is there, so that it is not there would be wrong.
    """
    Path("README.md").touch()

    with pytest.raises(InvalidValue, match=r"README\.md: no run there, but a file"):
        find_run("README.md", runs=runs)


def test_a_name_that_no_file_can_have_is_no_run(runs: Path):
    """
    The system's refusal is told as any other mistake in an argument.
    """
    with pytest.raises(InvalidValue, match="no run"):
        find_run("x" * 300, runs=runs)
