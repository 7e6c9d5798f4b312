"""What all connections of one daemon share, and the health report made of it."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from harness.clock import now
from harness.refdaemon.effects import EffectLog
from harness.refdaemon.settings import Settings
from harness.refdaemon.tools import Tools

__all__ = ["Counters", "Guest", "State"]


@dataclass(kw_only=True)
class Counters:
    """
    Counts since the start.

    Every connection counts once as opened and once as closed; every call whose
    frame could be read counts once: as executed, failed, refused or cancelled.

    Attributes:
        connections_opened: Upgrades done.
        connections_refused: Of these, above the limit or while draining.
        hellos_refused: Connections closed for their first frame, or for the lack of one.
        closed_by_reset: Ended by the peer's RST.
        closed_by_eof: Ended by the peer's FIN without a close frame.
        closed_orderly: Ended by a close frame of either side.
        calls_executed: Ran and succeeded; the effect is on file.
        calls_failed: Ran and failed, or the effect could not be written.
        calls_refused: Not run.
        calls_cancelled: Ended while they ran.
        frames_refused: Frames after hello that no call could be read from, or that made no sense.
        pings_missed: Connections closed since no pong came in time.
    """

    connections_opened: int = 0
    connections_refused: int = 0
    hellos_refused: int = 0
    closed_by_reset: int = 0
    closed_by_eof: int = 0
    closed_orderly: int = 0
    calls_executed: int = 0
    calls_failed: int = 0
    calls_refused: int = 0
    calls_cancelled: int = 0
    frames_refused: int = 0
    pings_missed: int = 0


class Guest(Protocol):
    """A connection, as the daemon's end sees it."""

    def cancel_calls(self) -> None:
        """End its running calls and say so."""

    def dismiss(self, code: int, reason: str) -> None:
        """Close it."""


@dataclass(kw_only=True)
class State:
    """
    One daemon's state.

    Attributes:
        connections: Those that are served.
        running: The tasks of coroutine tools, also of calls whose connection is gone.
        sessions: How many connections each session id has.
        empty: Set while no connection is served.
        draining: Whether the daemon was asked to end.
    """

    settings: Settings
    tools: Tools
    effects: EffectLog | None
    counters: Counters = field(default_factory=Counters)
    connections: set[Guest] = field(default_factory=set)
    running: set[asyncio.Task[None]] = field(default_factory=set)
    sessions: Counter[str] = field(default_factory=Counter)
    empty: asyncio.Event = field(default_factory=asyncio.Event)
    draining: bool = False
    started: float = field(default_factory=now)

    def health(self) -> dict[str, Any]:
        """The report of the `health` op."""
        return {
            "connections": len(self.connections),
            "sessions": len(self.sessions),
            "running_calls": len(self.running),
            "uptime_s": round(now() - self.started, 3),
            "pid": os.getpid(),
            "draining": self.draining,
            "tool_state": self.tools.remembered(),
            "counters": asdict(self.counters),
        }

    def admit(self, guest: Guest) -> None:
        """A connection is served from now on."""
        self.connections.add(guest)
        self.empty.clear()

    def part(self, guest: Guest) -> None:
        """A connection is gone."""
        self.connections.discard(guest)
        if not self.connections:
            self.empty.set()

    def enter_session(self, session: str) -> None:
        """A connection took this session id."""
        self.sessions[session] += 1

    def leave_session(self, session: str) -> None:
        """One of the session's connections is gone; the session lives while it has another."""
        self.sessions[session] -= 1
        if not self.sessions[session]:
            del self.sessions[session]
