"""
The record of a run: one op a line, in the order the harness learnt of them.

The words are Jepsen's. `invoke` opens an op; `ok` ends it with an answer; `fail`
says that it certainly did not happen; `info` that it may have. What other
programs saw (the proxy's events, a process's start and end) is `info` too, under
the clock of the program that saw it.

Across clocks the stamps order nothing; there only ids do, and the index, which
is the order in which the harness received the records.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, Required, TypedDict, Unpack

import msgspec

from harness.errors import HistoryDamaged
from harness.records import read_lines, write_line

__all__ = ["Current", "History", "Op", "OpType", "OpWords", "Recorder", "Silent"]

OpType = Literal["invoke", "ok", "fail", "info"]

# The last two are what garbage in a string, and brackets without end, come out as.
_NO_OP: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Op(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    One line of the history.

    Attributes:
        index: Counts the lines from 0, without gaps.
        time_ns: When it happened, on `clock`.
        clock: The clock's name, see `harness.clock.clock_id`.
        process: Who: a client's name, "nemesis", "proxy", "daemon", "run".
        type: `invoke`, `ok`, `fail` or `info`.
        f: What: "call", "open", "close", a fault's name, an event's kind.
        value: The arguments or the result.
        error: What went wrong: a key of `errors.OUTCOMES` or a sentence.
        phase: Where in the run: "baseline", "fault", "recovery", "final", a step's name.
        intended_ns: When a call was meant to start; latency counts from here.
        key: The idempotency key that the attempts of one intention share.
        attempt: Counts those attempts from 1.
    """

    index: int
    time_ns: int
    clock: str
    process: str
    type: OpType
    f: str
    value: Any = None
    error: str | None = None
    phase: str | None = None
    intended_ns: int | None = None
    key: str | None = None
    attempt: int | None = None


class Recorder(Protocol):
    """
    Where ops go. One for each run; it alone gives out the index.

    `record` returns when the line has left this process: an `invoke` that it took
    outlives a SIGKILL of the harness.
    """

    def record(
        self,
        *,
        process: str,
        type: OpType,
        f: str,
        value: Any = None,
        error: str | None = None,
        time_ns: int | None = None,
        clock: str | None = None,
        intended_ns: int | None = None,
        key: str | None = None,
        attempt: int | None = None,
    ) -> None:
        """Append one op. Without a stamp it happened now, on this process's clock."""


class OpWords(TypedDict, total=False):
    """What `Recorder.record` is told, for those who pass it on as it is."""

    process: Required[str]
    type: Required[OpType]
    f: Required[str]
    value: Any
    error: str | None
    time_ns: int | None
    clock: str | None
    intended_ns: int | None
    key: str | None
    attempt: int | None


class Silent:
    """A recorder for those who want no record."""

    def record(self, **op: Unpack[OpWords]) -> None:
        """Forget it."""


class Current:
    """
    The recorder of what outlives a record: whoever is current has what comes now.

    Safe to use from several threads: whose turn is over has nothing put into it any more.

    Args:
        to: Whose turn it is; `Silent` where it is nobody's.
    """

    def __init__(self, to: Recorder) -> None:
        self._to = to
        self._lock = threading.Lock()

    @property
    def to(self) -> Recorder:
        """Whose turn it is."""
        return self._to

    def turn_to(self, to: Recorder) -> None:
        """It is somebody else's turn."""
        with self._lock:
            self._to = to

    def record(self, **op: Unpack[OpWords]) -> None:
        """Pass it on."""
        with self._lock:
            self._to.record(**op)


@dataclass(frozen=True)
class History:
    """
    A record, read back.

    Attributes:
        ops: The ops by index.
        torn: Bytes of a last line that was cut off, b"" if it was whole.
    """

    ops: Sequence[Op]
    torn: bytes = b""

    @classmethod
    def parse(cls, data: bytes, *, where: str = "history") -> History:
        """
        Read a history's bytes. A last line that was cut off is kept apart, not refused.

        Raises:
            HistoryDamaged: If a whole line is no op, or the indices have a gap.
        """
        try:
            ops, torn = read_lines(data, Op)
        except _NO_OP as error:
            raise HistoryDamaged(
                f"{where}: line {_bad_line(data)} is no op: {error}",
                [("next", "the lines before it can still be read; nothing here was changed")],
            ) from None
        for expected, op in enumerate(ops):
            if op.index != expected:
                raise HistoryDamaged(
                    f"{where}: line {expected + 1} has index {op.index}, expected {expected}"
                )
        return cls(ops, torn)

    def dump(self) -> bytes:
        """The history as it stands on file."""
        return b"".join(write_line(op) for op in self.ops) + self.torn

    def calls(self) -> Iterator[tuple[Op, Op | None]]:
        """Each call's `invoke` with the op that ended it, None where nothing did."""
        ends = {
            (op.process, op.value["request_id"]): op
            for op in self.ops
            if op.f == "call" and op.type != "invoke"
        }
        for op in self.ops:
            if op.f == "call" and op.type == "invoke":
                yield op, ends.get((op.process, op.value["request_id"]))


def _bad_line(data: bytes) -> int:
    decoder = msgspec.json.Decoder(Op)
    for number, line in enumerate(data.split(b"\n"), 1):
        try:
            if line:
                decoder.decode(line)
        except _NO_OP:
            return number
    return 0
