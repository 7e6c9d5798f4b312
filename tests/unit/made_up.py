"""A made-up peer and its connections, and a daemon's components around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from harness.resilience.breaker import Breakers, BreakerSettings
from harness.resilience.connections import (
    Connections,
    ConnectionSettings,
    Delivery,
    End,
    Message,
)
from harness.resilience.metrics import Metrics
from tests.unit.hands import Hands

__all__ = ["Components", "MadeUp", "message"]


class MadeUp:
    """
    A connection to a peer that is made up.

    Attributes:
        got: What the peer was sent, in order.
        failing: "before": `send` raises and nothing leaves. "after": it raises although the
            message left. "loses": the connection is lost within `send`.
        unread: What `buffered` says.
        closing: Whether its closing began: nothing may be sent any more.
    """

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.failing: Literal["", "before", "after", "loses"] = ""
        self.unread = 0
        self.pings = 0
        self.closed: list[tuple[int, str, float]] = []
        self.aborted = self.closing = False
        self.while_sending: Callable[[], object] | None = None

    def send(self, data: bytes, /) -> None:
        assert not self.aborted, "sent to a connection that was given up"
        assert not self.closing, "sent to a connection that is closing"
        if self.failing == "before":
            raise ConnectionResetError("reset")
        if self.while_sending is not None:
            react, self.while_sending = self.while_sending, None
            react()
        self.got.append(data)
        if self.failing == "after":
            raise BrokenPipeError("broken pipe")

    def send_all(self, messages: Sequence[bytes], /) -> None:
        for data in messages:
            self.send(data)

    def ping(self) -> None:
        self.pings += 1

    def close(self, code: int, reason: str, *, within_s: float) -> None:
        self.closed.append((code, reason, within_s))

    def abort(self) -> None:
        self.aborted = True

    def buffered(self) -> int:
        return self.unread


class Components:
    """Connections, breakers and metrics on one clock, as a daemon has them."""

    def __init__(self, *, breaker: BreakerSettings | None = None, **settings: Any) -> None:
        self.clock = Hands(1000.0)
        self.metrics = Metrics(clock=self.clock)
        self.breakers = Breakers(
            clock=self.clock,
            settings=breaker or BreakerSettings(),
            observers=(self.metrics.breaker_changed,),
        )
        self.ends: list[tuple[str, bytes, End]] = []
        self.connections = Connections(
            clock=self.clock,
            settings=ConnectionSettings(**settings),
            breakers=self.breakers,
            metrics=self.metrics,
            on_end=lambda session, message, how: self.ends.append((session, message.data, how)),
        )

    def connect(self, session: str = "a") -> MadeUp:
        transport = MadeUp()
        assert self.connections.attach(session, transport) != "refused"
        return transport

    def send(self, data: str, session: str = "a", **options: Any) -> Delivery:
        return self.connections.send(session, message(data, **options))

    def pass_(self, seconds: float) -> None:
        """Time passes, and whatever it brings about is done at its own time."""
        until_s = self.clock.now_s + seconds
        while (due_s := self.connections.next_due_s) is not None and due_s <= until_s:
            self.clock.now_s = max(due_s, self.clock.now_s)
            self.connections.advance()
            assert self.connections.next_due_s != due_s, "what was due is undone"
        self.clock.now_s = max(self.clock.now_s, until_s)
        self.connections.advance()


def message(data: str, *, name: str | None = None, critical: bool = True) -> Message:
    """A message whose id is what it says, unless told otherwise; "" gives it none."""
    return Message(
        data=data.encode(), id=(data if name is None else name) or None, critical=critical
    )
