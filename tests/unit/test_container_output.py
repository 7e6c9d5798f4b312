"""What an engine hands on of a container's output, and what is kept of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.environment.containers import Said
from harness.environment.containers.output import stamped, whole_lines
from harness.environment.engine_events import Sayings
from harness.environment.logs import Log
from harness.run.record import HistoryWriter, load_history

NOON_NS = 1_795_953_600_000_000_000
"""2026-11-29, 12:00 in Greenwich."""


@pytest.mark.parametrize(
    "stamp", ["2026-11-29T12:00:00.000000042Z", "2026-11-29T13:00:00.000000042+01:00"]
)
def test_a_stamp_has_all_its_digits(stamp: str) -> None:
    """Some log drivers give it in local time."""
    assert stamped(f"{stamp} a line\n".encode()) == Said(NOON_NS + 42, b"a line\n")


@pytest.mark.parametrize("piece", [b"no stamp at all\n", b"", b"2026-11-29 and more\n"])
def test_what_has_no_stamp_is_whole(piece: bytes) -> None:
    """Nothing of it is lost."""
    assert stamped(piece) == Said(0, piece)


def test_a_terminals_output_is_cut_into_lines() -> None:
    """Whatever pieces it comes in, text or bytes; the last line may have no end."""
    assert list(whole_lines([b"on", "e\ntw", b"o\n", b"three"])) == [b"one\n", b"two\n", b"three"]


def test_a_talkative_program_does_not_bury_the_rest(tmp_path: Path) -> None:
    """After so many lines it is said once that the others are in its log."""
    file = tmp_path / "history.jsonl"
    writer = HistoryWriter(file)
    sayings = Sayings("daemon", writer, most=2)
    for number in range(5):
        sayings(Said(NOON_NS + number, b"line %d\r\n" % number), (1, 2))
    writer.close()

    ops = load_history(file).ops
    values = [{key: op.value[key] for key in op.value if key != "received_ns"} for op in ops]
    assert values == [{"line": "line 0"}, {"line": "line 1"}, {"rest": "in its log alone"}]


def test_a_log_that_cannot_be_written_says_so() -> None:
    """Whoever is shown its end learns that it is not all."""
    log = Log(Path("/dev/full"))
    log.append(b"lost\n")
    log.path = Path("/nowhere/daemon.log")

    assert log.tail() == (
        "(it wrote nothing)\n(some of it could not be written: No space left on device)"
    )
