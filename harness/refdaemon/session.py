"""
One client, over all its connections: its calls, and what is sent to it.

Rule: an answer goes to the session, whichever connection that has by then. While it has none
the answer is kept, within bounds, and leaves before anything else when it is back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from harness.dialects.exai import encode
from harness.refdaemon.calls import Calls
from harness.resilience.connections import Message, digest_of

if TYPE_CHECKING:
    from harness.refdaemon.state import State
    from harness.resilience.connections.peer import Peer

__all__ = ["Line", "Session", "SpoiltSession"]

log = logging.getLogger(__name__)

_GATHERED_BYTES: Final = 64 * 1024


class Line(Protocol):
    """A session's connection of the moment."""

    def replaced(self) -> None:
        """The session came by another connection."""

    def shed(self) -> None:
        """Close it, since its peer does not read."""

    def wait_for(self, task: asyncio.Task[None]) -> None:
        """Take nothing of the peer before that is done."""


class Session:
    """
    Args:
        state: The daemon's.
        name: Its id.

    Attributes:
        line: Its connection; None while it has none.
        calls: Its calls.
        forgotten: Whether it is; its calls may go on, and another may have its name.
        peer: Its handle in `State.connections`, once it was attached.
    """

    __slots__ = (
        "_connections",
        "_gathered",
        "_gathered_bytes",
        "_room",
        "_state",
        "calls",
        "forgotten",
        "line",
        "name",
        "peer",
    )

    def __init__(self, state: State, name: str) -> None:
        self._state = state
        self._connections = state.connections
        self.name = name
        self.forgotten = False
        self.peer: Peer | None = None
        self.line: Line | None = None
        self.calls = Calls(state, self)
        # The answers to what one read brought, each with when it was known; None between reads.
        self._gathered: list[tuple[bytes, int]] | None = None
        self._gathered_bytes = 0
        # Made where somebody waits for room: few ever do.
        self._room: asyncio.Event | None = None

    def send(self, reply: Any, *, since_ns: int) -> None:
        """
        Send what the client waits for; kept while that cannot be.

        Args:
            since_ns: When that was known, by `now_ns`.
        """
        data, gathered = encode(reply), self._gathered
        if gathered is None:
            self._leave((data,), (since_ns,))
            return
        gathered.append((data, since_ns))
        self._gathered_bytes += len(data)
        if self._gathered_bytes > _GATHERED_BYTES:
            # One read may ask for more than can be held.
            self.release()
            self.gather()

    def gather(self) -> None:
        """What is sent from now on leaves together, by `release`."""
        self._gathered, self._gathered_bytes = [], 0

    def release(self) -> None:
        """Let it leave."""
        gathered, self._gathered = self._gathered, None
        if gathered:
            self._leave(*zip(*gathered, strict=True))

    def _leave(self, messages: Sequence[bytes], since_ns: Sequence[int]) -> None:
        peer, connections = self.peer, self._connections
        if peer is not None and connections.send_now(peer, messages, since_ns=since_ns):
            return
        if self.forgotten:
            self._state.figures.counters.replies_left += len(messages)
            return
        for data in messages:
            connections.send(self.name, Message(data=data, critical=True))
        self._state.pulse.check()

    def say(self, reply: Any) -> bool:
        """
        Send what is worth nothing later: it goes now, or not at all.

        Returns:
            False where the peer reads too slowly just now; see `has_room`.
        """
        if self.forgotten:
            return True
        data = encode(reply)
        delivery = self._connections.send(self.name, Message(data=data))
        return delivery.outcome == "sent" or self._room is None or self._room.is_set()

    def crowded(self, *, crowded: bool) -> None:
        """Its peer reads too slowly, or does no longer."""
        if not crowded:
            if self._room is not None:
                self._room.set()
        else:
            self._room = self._room or asyncio.Event()
            self._room.clear()

    async def has_room(self) -> None:
        """Wait until the peer has read most of what it was sent, or is gone."""
        if self._room is not None:
            await self._room.wait()


class SpoiltSession(Session):
    """One of a daemon with defects: some are about what is sent. Apart, since `send` is hot."""

    __slots__ = ()

    def send(self, reply: Any, *, since_ns: int) -> None:
        """The same, by the longer way."""
        defects, data, name = self._state.defects, encode(reply), None
        if "renamed-op" in defects:
            data = data.replace(b'{"op":"call_tool_res"', b'{"op":"tool_call_res"')
        if "content-dedup" in defects:
            name = digest_of(data)
        message = Message(data=data, id=name, critical=True)
        delivery = self._connections.send(self.name, message)
        if delivery.outcome != "sent" and "log-flood" in defects:
            log.warning("session %s: an answer could not be sent, %s", self.name, delivery.why)
        self._state.pulse.check()
