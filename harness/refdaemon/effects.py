"""The effect log: what the tools did, on file before anybody is told."""

from __future__ import annotations

import os
from hashlib import blake2b
from pathlib import Path
from typing import Self

from harness.clock import clock_id, now_ns
from harness.dialects.exai import CallTool, encode
from harness.records import Effect
from harness.refdaemon.lines import LineFile

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
        self._lines = LineFile(path)
        self._sequence = 0
        self._clock = clock_id()
        self._pid = os.getpid()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()

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
        self._lines.append(
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
        self._sequence += 1
