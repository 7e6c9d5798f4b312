"""
The one writer of a run's history, and its reader.

Every op is one `write` to a file opened for appending: once `record` returned,
the line outlives this process, whatever becomes of it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from harness.clock import clock_id, now_ns
from harness.errors import EnvironmentFailed, HistoryDamaged
from harness.history import History, Op, OpType
from harness.records import write_line
from harness.run.redact import Redactor

__all__ = ["HistoryWriter", "load_history"]


class HistoryWriter:
    """
    Writes ops to a file of its own and numbers them. Safe to use from several threads.

    Args:
        path: A file that does not exist yet.
        secrets: Strings to put "***" for.

    Raises:
        EnvironmentFailed: If the file exists or cannot be made.

    Attributes:
        path: The file.
        phase: Which phase the ops belong to from now on; set it as the run goes on.
    """

    def __init__(self, path: Path, *, secrets: Iterable[str] = ()) -> None:
        self.path = path
        self.phase: str | None = None
        self._redactor = Redactor(secrets)
        self._lock = threading.Lock()
        self._index = 0
        # Why nothing more can be written.
        self._over: str | None = None
        try:
            self._file = os.open(
                path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644
            )
        except OSError as error:
            raise self._failed(f"cannot be made: {error.strerror}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write nothing more."""
        with self._lock:
            if self._over is None:
                self._over = "it was closed"
                os.close(self._file)

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
        """
        Append one op. Without a stamp it happened now, on this process's clock.

        Raises:
            EnvironmentFailed: If it could not be written whole, or the writer is closed.
            TypeError: If the value cannot be encoded as JSON.
        """
        with self._lock:
            if self._over is not None:
                raise self._failed(f"takes no more ops: {self._over}")
            op = Op(
                index=self._index,
                time_ns=now_ns() if time_ns is None else time_ns,
                clock=clock_id() if clock is None else clock,
                process=process,
                type=type,
                f=f,
                value=value,
                error=error,
                phase=self.phase,
                intended_ns=intended_ns,
                key=key,
                attempt=attempt,
            )
            line = write_line(op)
            if self._redactor.found_in(line):
                line = write_line(self._clean(op))
            self._append(line)
            self._index += 1

    def _clean(self, op: Op) -> Op:
        clean = self._redactor.value
        return msgspec.structs.replace(
            op, value=clean(msgspec.to_builtins(op.value)), error=clean(op.error), key=clean(op.key)
        )

    def _append(self, line: bytes) -> None:
        try:
            written = os.write(self._file, line)
        except OSError as error:
            # Nothing of it is on file, so the next op may still be tried.
            raise self._failed(f"could not be written to: {error.strerror}") from None
        if written < len(line):
            # A line after this torn one would hide where the history ends.
            self._over = f"op {self._index} was cut off after {written} of {len(line)} bytes"
            os.close(self._file)
            raise self._failed(f"is torn: {self._over}")

    def _failed(self, what: str) -> EnvironmentFailed:
        return EnvironmentFailed(
            f"the history {what}",
            [
                ("path", str(self.path)),
                (
                    "next",
                    "is there room on that disk, and leave to write? nothing that follows"
                    " is on record, so this run proves nothing",
                ),
            ],
        )


def load_history(path: Path) -> History:
    """
    Read a history.

    Args:
        path: The file, or the run directory it lies in.

    Raises:
        HistoryDamaged: If there is none, or it cannot be read as one.
    """
    file = path / "history.jsonl" if path.is_dir() else path
    try:
        data = file.read_bytes()
    except OSError as error:
        raise HistoryDamaged(
            f"no history can be read: {error.strerror}",
            [("path", str(file)), ("next", "give a run directory, for instance runs/latest")],
        ) from None
    return History.parse(data, where=str(file))
