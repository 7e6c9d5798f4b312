"""One call under way: its tool, and all who wait for what it comes to."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.clock import now, now_ns
from harness.dialects.exai import CallTool, ProgressFrame, StreamChunk

if TYPE_CHECKING:
    from harness.refdaemon.session import Session
    from harness.refdaemon.tools import Tool
    from harness.resilience.idempotency import Kept

__all__ = ["Asker", "Work"]


@dataclass(slots=True, kw_only=True)
class Asker:
    """
    One request that waits for the call.

    Attributes:
        received_ns: When it was read.
        overdue: Ends its wait, where the caller said for how long it will.
    """

    received_ns: int
    overdue: asyncio.TimerHandle | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class Work:
    """
    A call that runs, and what its tool may do meanwhile.

    Attributes:
        session: Whose it is.
        call: The request that began it.
        tool: What runs.
        arguments: As the tool takes them.
        kept: What is remembered under its key.
        size: What the request weighed, in bytes.
        deadline_s: When nobody waits any more, on our clock.
        askers: Who waits, by request id; the first of them counts as the one who had it run.
        began_ns: When the tool began.
        in_flight: Whether it has a place among the calls that may run.
    """

    session: Session
    call: CallTool
    tool: Tool
    arguments: Any
    kept: Kept
    size: int
    deadline_s: float
    askers: dict[str, Asker] = field(default_factory=dict)
    began_ns: int = 0
    in_flight: bool = True
    task: asyncio.Task[None] | None = None
    heartbeat: asyncio.TimerHandle | None = None
    _last: tuple[float, float | None] = (0.0, None)

    @property
    def key(self) -> str:
        """Names the intention, for whoever the tool asks: sessions may use the same keys."""
        return f"{self.session.name}/{self.kept.name}"

    def left_s(self) -> float:
        """How long somebody still waits, in seconds."""
        return max(0.0, self.deadline_s - now())

    def report(self, progress: float, total: float | None, message: str) -> None:
        """Say how far the tool is."""
        self._last = (progress, total)
        for request_id in self.askers:
            self.session.say(ProgressFrame(request_id, progress, total, message))

    def still_running(self) -> None:
        """Say the same again, so that nobody takes silence for the end."""
        ran_s = (now_ns() - self.began_ns) / 1e9
        self.report(*self._last, f"running for {ran_s:.0f} s")

    async def chunk(self, index: int, text: str) -> None:
        """Send a part of the output; a peer that reads slowly makes it wait."""
        for request_id in list(self.askers):
            frame = StreamChunk(request_id, index, text)
            # Whoever had its end meanwhile may use its id for another.
            while request_id in self.askers and not self.session.say(frame):
                await self.session.has_room()
        # Others have a turn, however fast the peer reads.
        await asyncio.sleep(0)

    def stop(self) -> None:
        """Have the tool end; nobody waits for it."""
        if self.task is not None:
            self.task.cancel()

    def ended(self) -> None:
        """Nothing of it is due any more."""
        if self.heartbeat is not None:
            self.heartbeat.cancel()
        for asker in self.askers.values():
            if asker.overdue is not None:
                asker.overdue.cancel()
