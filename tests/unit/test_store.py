"""The run directory. A file system, no socket."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.errors import EnvironmentFailed, InvalidValue
from harness.run.store import RunDirectory, Series, run_name, series


def ended(root: Path, name: str = "demo", *, keep: int = 36, of: Series | None = None) -> Path:
    with RunDirectory.create(root, name, series=of, keep=keep) as run:
        (run.path / "daemon.log").write_text("log")
    return run.path


def left(root: Path) -> set[Path]:
    """The run directories that are there."""
    return {path.parent for path in root.glob("*/*/.run")}


# The directory.


def test_a_run_gets_a_folder_by_name_and_stamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """
    runs/<name>/<stamp>, made where nothing was.
    """
    monkeypatch.setattr("harness.run.store.stamp", lambda: "20261122-191500")

    assert ended(tmp_path / "runs") == tmp_path / "runs/demo/20261122-191500"


def test_runs_of_one_second_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """
    A stamp that is taken gets -2, then -3.
    """
    monkeypatch.setattr("harness.run.store.stamp", lambda: "20261122-191500")

    names = [ended(tmp_path).name for _ in range(3)]

    assert names == ["20261122-191500", "20261122-191500-2", "20261122-191500-3"]


def test_runs_that_start_together_get_a_folder_each(tmp_path: Path):
    """
    Eight threads at once, eight directories.
    """
    paths: list[Path] = []
    start = threading.Barrier(8)

    def one() -> None:
        start.wait()
        paths.append(ended(tmp_path))

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(paths)) == 8


def test_latest_leads_to_the_newest_run(tmp_path: Path):
    """
    A relative link, so that the folder of runs can be moved, replaced with each run.
    """
    ended(tmp_path)
    newest = ended(tmp_path, "other")

    link = tmp_path / "latest"
    assert str(link.readlink()) == f"other/{newest.name}"
    assert link.resolve() == newest.resolve()


@pytest.mark.parametrize("name", ["", "latest", ".", "..", "../x", "a/b", ".x", "a b", "é"])
def test_a_name_that_is_no_folders_name_is_refused(tmp_path: Path, name: str):
    """
    Nothing is written outside the folder of runs, and `latest` stays a link.
    """
    with pytest.raises(InvalidValue, match="cannot name a run"):
        RunDirectory.create(tmp_path / "runs", name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("test_x[local-0.5 s]", "test_x-local-0.5-s"),
        ("tests/a.py::b", "tests-a.py-b"),
        ("é", "run"),
    ],
)
def test_any_text_can_be_made_a_runs_name(text: str, name: str):
    """
    A test's id, for instance.
    """
    assert run_name(text) == name


def test_a_folder_that_cannot_be_made_is_a_failure_of_ours(tmp_path: Path):
    """
    The message says where and what to do.
    """
    (tmp_path / "runs").write_text("a file")

    with pytest.raises(EnvironmentFailed) as caught:
        RunDirectory.create(tmp_path / "runs", "demo")

    assert str(tmp_path / "runs") in str(caught.value)
    assert "next" in dict(caught.value.details)


# What is removed.


def test_only_the_newest_ended_runs_stay(tmp_path: Path):
    """
    With the fourth run, the oldest of three ended ones goes, and its empty folder with it.
    """
    paths = [ended(tmp_path, f"run{number}", keep=2) for number in range(4)]

    assert left(tmp_path) == set(paths[1:])
    assert not (tmp_path / "run0").exists()


def test_a_run_that_still_runs_is_never_removed(tmp_path: Path):
    """
    However old it is, as long as it is open.
    """
    with RunDirectory.create(tmp_path, "old") as old:
        for _ in range(3):
            ended(tmp_path, keep=0)

        assert old.path in left(tmp_path)
    ended(tmp_path, keep=0)
    assert old.path not in left(tmp_path)


def test_a_killed_process_leaves_its_run_ended(tmp_path: Path):
    """
    The kernel lets go of the lock, so the run may be removed.
    """
    code = (
        "import os, signal, sys, pathlib; from harness.run.store import RunDirectory;"
        "run = RunDirectory.create(pathlib.Path(sys.argv[1]), 'killed');"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    gone = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert gone.returncode == -9
    (killed,) = left(tmp_path)

    ended(tmp_path, keep=0)

    assert killed not in left(tmp_path)


def test_runs_of_a_series_under_way_are_never_removed(tmp_path: Path):
    """
    As long as the series lasts, however many they are; afterwards they are runs like others.
    """
    with series(tmp_path) as it:
        inside = {ended(tmp_path, "repro", keep=1, of=it) for _ in range(4)}
        outside = [ended(tmp_path, keep=1) for _ in range(3)]

        # The newest was still running when it looked for old ones.
        assert left(tmp_path) == inside | set(outside[-2:])
    ended(tmp_path, keep=1)
    assert not inside & left(tmp_path)


def test_a_series_whose_process_was_killed_is_over(tmp_path: Path):
    """
    Its file alone keeps nothing alive.
    """
    code = (
        "import os, signal, sys, pathlib; from harness.run.store import RunDirectory, series\n"
        "root = pathlib.Path(sys.argv[1])\n"
        "with series(root) as it:\n"
        "    RunDirectory.create(root, 'killed', series=it)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    (killed,) = left(tmp_path)

    ended(tmp_path, keep=0)

    assert killed not in left(tmp_path)
    assert list((tmp_path / ".series").iterdir()) == []


@pytest.mark.parametrize("marker", [None, b"", b"{}", b'{"harness":"notes"}'])
def test_what_is_not_ours_is_never_removed(tmp_path: Path, marker: bytes | None):
    """
    A folder without our marker, or with something else under its name, is somebody's.
    """
    theirs = tmp_path / "notes" / "20200101-000000"
    theirs.mkdir(parents=True)
    (theirs / "thesis.txt").write_text("years of work")
    if marker is not None:
        (theirs / ".run").write_bytes(marker)

    ended(tmp_path, keep=0)
    ended(tmp_path, keep=0)

    assert (theirs / "thesis.txt").exists()


def test_links_are_not_followed_when_a_run_is_removed(tmp_path: Path):
    """
    Neither a link to a run nor one inside a run takes anything else with it.
    """
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "thesis.txt").write_text("years of work")
    old = ended(tmp_path / "runs")
    (old / "link").symlink_to(outside)

    ended(tmp_path / "runs", keep=0)

    assert not old.exists()
    assert (outside / "thesis.txt").exists()


def test_somebody_else_removes_old_runs_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """
    A folder that vanishes while old runs are looked for is no error: workers begin together.
    """
    names = {"a", "b", "c"}
    for name in names:
        ended(tmp_path, name)

    def looked_at(root: Path, path: Path) -> None:
        for other in names - {path.parent.name} if path.parent.name in names else ():
            shutil.rmtree(tmp_path / other, ignore_errors=True)

    monkeypatch.setattr("harness.run.store._ended", looked_at)

    with series(tmp_path):
        assert len(left(tmp_path)) == 1


def test_a_removal_cut_short_is_gone_on_with(tmp_path: Path):
    """
    The marker goes last: what is left after a kill is still known as ours.
    """
    old = ended(tmp_path)
    (old / "daemon.log").unlink()

    ended(tmp_path, keep=0)

    assert not old.exists()


# Files of a run.


@dataclass(frozen=True)
class Daemon:
    url: str
    token: str


def test_json_files_are_written_and_replaced_whole(tmp_path: Path):
    """
    Readers find the old file or the new one, and no draft stays.
    """
    with RunDirectory.create(tmp_path, "demo") as run:
        run.write_json("results.json", {"verdict": "unknown"})
        path = run.write_json("results.json", {"verdict": "valid"})

    assert json.loads(path.read_bytes()) == {"verdict": "valid"}
    assert sorted(entry.name for entry in run.path.iterdir()) == [".run", "results.json"]


def test_a_json_file_holds_no_secret(tmp_path: Path):
    """
    In keys, in values and in dataclasses "***" stands for it.
    """
    value = {"daemon": Daemon("ws://x", 'to"ken'), 'to"ken': ['a to"ken b']}
    with RunDirectory.create(tmp_path, "demo") as run:
        path = run.write_json("environment.json", value, secrets=['to"ken'])

    assert json.loads(path.read_bytes()) == {
        "daemon": {"url": "ws://x", "token": "***"},
        "***": ["a *** b"],
    }


def test_a_text_file_holds_no_secret(tmp_path: Path):
    """
    A scenario may name a token too.
    """
    with RunDirectory.create(tmp_path, "demo") as run:
        path = run.write_text("scenario.toml", 'token = "s3cret"\n', secrets=["s3cret"])

    assert path.read_text() == 'token = "***"\n'


def test_a_file_that_cannot_be_written_is_a_failure_of_ours(tmp_path: Path):
    """
    The old file stays as it was.
    """
    with RunDirectory.create(tmp_path, "demo") as run:
        (run.path / "results.json").mkdir()
        with pytest.raises(
            EnvironmentFailed, match=r"results\.json could not be written"
        ) as caught:
            run.write_json("results.json", {})

    assert dict(caught.value.details)["path"] == str(run.path / "results.json")
