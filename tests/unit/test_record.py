"""The one writer of a run's history, and reading it back. A file system, no socket."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from harness import clock
from harness.errors import EnvironmentFailed, HistoryDamaged
from harness.run.redact import Redactor
from harness.run.store import RunDirectory, load_history


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
