"""
The effect log: what the tools did, on file before anybody is told.

One effect is one line and one `write` to a file opened for appending, so that a
SIGKILL leaves whole lines: what was handed to the kernel outlives the process.
A crash of the machine is outside this promise; nothing is synced.
"""

from __future__ import annotations

import errno
import os
from hashlib import blake2b
from pathlib import Path
from typing import Self

from harness.clock import clock_id, now_ns
from harness.dialects.exai import CallTool, encode
from harness.records import Effect, write_line

__all__ = ["EffectLog"]


class EffectLog:
    """
    An open effect log.

    Args:
        path: The file; made if absent, appended to if there.

    Raises:
        OSError: If it cannot be opened for writing.
    """

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o644)
        self._sequence = 0
        self._clock = clock_id()
        self._pid = os.getpid()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def write(self, tool: str, call: CallTool, session: str, value: int | None) -> None:
        """
        Put the effect of one call on file.

        Args:
            tool: The tool's own name.
            call: The call that had it.
            session: Whose call.
            value: What the tool made of it, for the record.

        Raises:
            OSError: If not all of the line could be written; then none of it is there.
        """
        line = write_line(
            Effect(
                sequence=self._sequence + 1,
                time_ns=now_ns(),
                clock=self._clock,
                tool=tool,
                key=call.key or call.request_id,
                request_id=call.request_id,
                session=session,
                pid=self._pid,
                digest=blake2b(encode(call.arguments), digest_size=8).hexdigest(),
                value=value,
            )
        )
        written = os.write(self._file, line)
        if written < len(line):
            self._take_back(written)
            raise OSError(errno.ENOSPC, f"only {written} of {len(line)} bytes could be written")
        self._sequence += 1

    def _take_back(self, written: int) -> None:
        """Remove a torn line, unless another process has appended behind it."""
        end = os.lseek(self._file, 0, os.SEEK_CUR)
        if os.fstat(self._file).st_size == end:
            os.ftruncate(self._file, end - written)
