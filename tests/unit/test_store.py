"""The run directory and the one writer of its history. A file system, no socket."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness import clock
from harness.errors import EnvironmentFailed, HistoryDamaged, InvalidValue
from harness.run.redact import Redactor
from harness.run.store import RunDirectory, Series, load_history, run_name, series


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


# The history.


@pytest.fixture
def run(tmp_path: Path):
    with RunDirectory.create(tmp_path, "demo") as run:
        yield run


def test_an_op_is_on_file_when_record_returns(run: RunDirectory):
    """
    Another reader sees the line at once.
    """
    with run.history() as history:
        history.record(process="client", type="invoke", f="call", value={"request_id": "a"})

        (op,) = load_history(run.path).ops

    assert (op.index, op.process, op.type, op.f, op.value) == (
        0,
        "client",
        "invoke",
        "call",
        {"request_id": "a"},
    )


def test_an_op_without_a_stamp_happened_now_on_our_clock(run: RunDirectory):
    """
    One with a stamp keeps it, and its clock.
    """
    before = clock.now_ns()
    with run.history() as history:
        history.record(process="client", type="info", f="x")
        history.record(process="proxy", type="info", f="y", time_ns=5, clock="other")

    ours, theirs = load_history(run.path).ops
    assert ours.clock == clock.clock_id()
    assert before <= ours.time_ns <= clock.now_ns()
    assert (theirs.time_ns, theirs.clock) == (5, "other")


def test_ops_carry_the_phase_that_was_set_last(run: RunDirectory):
    """
    None until one was set.
    """
    with run.history() as history:
        history.record(process="run", type="info", f="x")
        history.phase = "fault"
        history.record(process="run", type="info", f="x")

    assert [op.phase for op in load_history(run.path).ops] == [None, "fault"]


def test_ops_of_many_threads_are_numbered_without_gaps(run: RunDirectory):
    """
    The file's order is the index's, and no line is torn by another.
    """
    with run.history() as history:

        def some(name: str) -> None:
            for number in range(200):
                history.record(process=name, type="info", f="x", value=number)

        threads = [threading.Thread(target=some, args=(f"t{n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    ops = load_history(run.path).ops
    assert len(ops) == 800
    for name in ("t0", "t1", "t2", "t3"):
        assert [op.value for op in ops if op.process == name] == list(range(200))


def test_a_history_holds_no_secret(run: RunDirectory):
    """
    Not in a value, a key of a dict, an error or an idempotency key; not inside nested JSON.
    """
    secret = 's3"cret'
    with run.history(secrets=[secret, ""]) as history:
        history.record(
            process="client",
            type="info",
            f="x",
            value={"text": f"a {secret}", secret: [json.dumps({"token": secret})]},
            error=f"no {secret}",
            key=secret,
        )
        history.record(process="client", type="info", f="x", value="harmless")

    assert b"cret" not in (run.path / "history.jsonl").read_bytes()
    op, harmless = load_history(run.path).ops
    assert op.value == {"text": "a ***", "***": ['{"token": "***"}']}
    assert (op.error, op.key, harmless.value) == ("no ***", "***", "harmless")


@pytest.mark.parametrize("secret", ["ok", "call", ":", '"', "1", "value", "{"])
def test_a_secret_that_looks_like_json_breaks_no_line(run: RunDirectory, secret: str):
    """
    Only strings are touched, never what holds them together.
    """
    with run.history(secrets=[secret]) as history:
        history.record(process="client", type="ok", f="call", value={"x": f"<{secret}>", "n": 1})

    (op,) = load_history(run.path).ops
    assert (op.type, op.f, op.value) == ("ok", "call", {"x": "<***>", "n": 1})


def test_a_secret_inside_another_is_replaced_with_it():
    """
    The longer one goes first, so that nothing of it stays.
    """
    assert Redactor(["abc", "abcdef"]).text("abcdef abc") == "*** ***"


def test_a_run_has_one_history_writer(run: RunDirectory):
    """
    A second one would give the same indices again.
    """
    with run.history(), pytest.raises(EnvironmentFailed, match="cannot be made"):
        run.history()


def test_a_closed_history_takes_no_more(run: RunDirectory):
    """
    An op that goes nowhere is never silent.
    """
    history = run.history()
    history.close()
    history.close()

    with pytest.raises(EnvironmentFailed, match="takes no more ops: it was closed"):
        history.record(process="client", type="info", f="x")


def test_a_full_disk_is_loud(run: RunDirectory, monkeypatch: pytest.MonkeyPatch):
    """
    The op is refused with path and advice; the index it would have had is given out again.
    """
    with run.history() as history:

        def full(file: int, data: bytes) -> int:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as broken:
            broken.setattr(os, "write", full)
            with pytest.raises(EnvironmentFailed, match="No space left on device") as caught:
                history.record(process="client", type="info", f="x")
        history.record(process="client", type="info", f="x")

    assert dict(caught.value.details)["path"] == str(run.path / "history.jsonl")
    assert [op.index for op in load_history(run.path).ops] == [0]


def test_a_torn_line_is_the_last_one(run: RunDirectory, monkeypatch: pytest.MonkeyPatch):
    """
    A disk that took half a line ends the history there, so that it can still be read.
    """
    write = os.write
    history = run.history()
    history.record(process="client", type="info", f="x")
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:10]))

    with pytest.raises(EnvironmentFailed, match="torn: op 1 was cut off after 10 of"):
        history.record(process="client", type="info", f="x")
    with pytest.raises(EnvironmentFailed, match="takes no more ops"):
        history.record(process="client", type="info", f="x")

    read = load_history(run.path)
    assert (len(read.ops), read.torn) == (1, b'{"index":1')


def test_a_value_that_is_no_json_is_refused_and_costs_no_index(run: RunDirectory):
    """
    The mistake is the caller's; the history stays whole.
    """
    with run.history() as history:
        with pytest.raises(TypeError):
            history.record(process="client", type="info", f="x", value=object())
        history.record(process="client", type="info", f="x")

    assert [op.index for op in load_history(run.path).ops] == [0]


def test_a_history_is_loaded_from_its_file_or_its_run(run: RunDirectory):
    """
    `runs/latest` is as good as the file in it.
    """
    with run.history() as history:
        history.record(process="client", type="info", f="x")

    assert load_history(run.path) == load_history(run.path / "history.jsonl")


def test_a_run_without_a_history_says_so(tmp_path: Path):
    """
    The message names the file and what to give instead.
    """
    with pytest.raises(HistoryDamaged, match="no history can be read") as caught:
        load_history(tmp_path)

    assert str(tmp_path / "history.jsonl") in str(caught.value)
