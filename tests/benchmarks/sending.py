"""
A server that sends messages to sessions, with `resilience.connections` or barely.

    python -m tests.benchmarks.sending resilient|bare

The yardstick of `tests.benchmarks.connections`. A client's first message names its session;
each further one acknowledges a message. While it is told to go, each session has `WINDOW`
messages under way. Barely means: `send` of the transport, and nothing kept; what was under way
when a connection ended is lost. Both write down what they sent and when it was acknowledged.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from harness import program
from harness.clock import now, now_ns
from harness.refdaemon.transport import picows
from harness.refdaemon.transport.base import Cause, ListenOptions, Wire
from harness.resilience.breaker import Breakers
from harness.resilience.connections import Connections, ConnectionSettings, Message
from harness.resilience.histogram import Histogram
from harness.resilience.metrics import Metrics

WINDOW: Final = 4
_FILL: Final = b"." * 130


@dataclass
class _Session:
    """What is under way to one client, by id, with when it was sent."""

    sent: int = 0
    under_way: dict[str, int] = field(default_factory=dict)
    wire: Wire | None = None


class _Sender:
    """All sessions of this process."""

    def __init__(self, *, resilient: bool) -> None:
        self.going = False
        self.sessions: dict[str, _Session] = {}
        self.acknowledged = 0
        self.times = Histogram()
        self.connections = None
        if resilient:
            self.connections = Connections(
                clock=now,
                settings=ConnectionSettings(),
                breakers=Breakers(clock=now),
                metrics=Metrics(clock=now),
            )

    def attach(self, name: str, wire: Wire) -> None:
        session = self.sessions.setdefault(name, _Session())
        session.wire = wire
        if self.connections is None:
            session.under_way.clear()
        else:
            self.connections.attach(name, wire)
        self.fill(name, session)

    def lost(self, name: str, wire: Wire) -> None:
        session = self.sessions[name]
        if session.wire is wire:
            session.wire = None
        if self.connections is not None:
            self.connections.lost(name, wire)

    def came(self, name: str, message: str) -> None:
        session = self.sessions[name]
        if self.connections is not None:
            self.connections.message_came(name)
            self.connections.acknowledged(name, message)
        sent_ns = session.under_way.pop(message, None)
        if sent_ns is not None:
            self.acknowledged += 1
            self.times.record(now_ns() - sent_ns)
        self.fill(name, session)

    def fill(self, name: str, session: _Session) -> None:
        while self.going and session.wire is not None and len(session.under_way) < WINDOW:
            session.sent += 1
            name_of = str(session.sent)
            session.under_way[name_of] = now_ns()
            data = b"%d %s" % (session.sent, _FILL)
            if self.connections is None:
                session.wire.send(data)
            else:
                self.connections.send(name, Message(data=data, id=name_of, critical=True))

    def go(self) -> None:
        self.going, self.acknowledged, self.times = True, 0, Histogram()
        for name, session in self.sessions.items():
            self.fill(name, session)

    def stop(self) -> dict[str, object]:
        self.going = False
        return {
            "acknowledged": self.acknowledged,
            "p95_ms": (self.times.percentile(95) or 0) / 1e6,
            "sent": {name: session.sent for name, session in self.sessions.items()},
            "kept": sum(len(session.under_way) for session in self.sessions.values()),
        }


class _Peer:
    """One connection: that of a session, or of whoever gives orders."""

    def __init__(self, sender: _Sender) -> None:
        self._sender = sender
        self._name: str | None = None

    def opened(self, wire: Wire) -> None:
        self._wire = wire

    def messages(self, frames: Sequence[bytes | str]) -> None:
        for frame in frames:
            self._message(frame)

    def _message(self, frame: bytes | str) -> None:
        text = frame if isinstance(frame, str) else frame.decode()
        if text == "go":
            self._sender.go()
        elif text == "stop":
            self._wire.send(json.dumps(self._sender.stop()).encode())
        elif self._name is None:
            self._name = text
            self._sender.attach(text, self._wire)
        else:
            self._sender.came(self._name, text)

    def wants(self, size: int) -> bool:
        return True

    def unwanted(self, head: bytes | str, size: int) -> None:
        """There is none."""

    def pong(self) -> None:
        """Nobody pings."""

    def crowded(self) -> None:
        """They are asked for what is `buffered`."""

    def writable(self) -> None:
        if self._name is not None and self._sender.connections is not None:
            self._sender.connections.writable(self._name)

    def closing(self) -> None:
        """`lost` follows."""

    def lost(self, cause: Cause) -> None:
        if self._name is not None:
            self._sender.lost(self._name, self._wire)


async def _main(*, resilient: bool) -> int:
    sender = _Sender(resilient=resilient)
    options = ListenOptions(host="127.0.0.1", port=0, max_bytes=1 << 20, upgrade_timeout_s=5)
    listener = await picows.listen(lambda: _Peer(sender), options)
    program.announce(f"ws://127.0.0.1:{listener.port}")
    await asyncio.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(program.run(_main(resilient=sys.argv[1] == "resilient")))
