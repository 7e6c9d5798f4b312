"""A daemon's events as they come: a reader of its monitor's stream, and what it has read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from tests.integration.refdaemon_process import PATIENCE_S
from tests.integration.standing import Standing

__all__ = ["Following", "following"]

_LINE_BYTES: Final = 1 << 20


class Following:
    """
    A reader of the stream.

    Attributes:
        seen: All events so far, in order.
    """

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self.seen: list[dict[str, Any]] = []

    async def until(self, kind: str, **about: Any) -> dict[str, Any]:
        """The next event of that kind that says all this, past others."""
        before = len(self.seen)
        try:
            async with asyncio.timeout(PATIENCE_S):
                async for event in self:
                    if event["kind"] == kind and about.items() <= event.items():
                        return event
        except TimeoutError:
            pass
        raise AssertionError(f"no {kind} {about}; came: {self.seen[before:]}")

    async def to_the_end(self) -> None:
        """Read on until the daemon ends the stream."""
        async with asyncio.timeout(PATIENCE_S):
            async for _ in self:
                pass

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        while line := await self._reader.readline():
            if line.strip():
                self.seen.append(json.loads(line))
                yield self.seen[-1]


@asynccontextmanager
async def following(daemon: Standing) -> AsyncIterator[Following]:
    """What happened so far, and what happens, until the block is left."""
    async with asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection(
            daemon.monitor.host, daemon.monitor.port, limit=_LINE_BYTES
        )
    try:
        # Of 1.0: without chunks.
        writer.write(b"GET /events HTTP/1.0\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            head = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head.partition(b"\r\n")[0]
        yield Following(reader)
    finally:
        writer.transport.abort()
