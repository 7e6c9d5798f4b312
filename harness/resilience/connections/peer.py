"""One session: its connection of the moment, and what is kept for it between connections."""

from __future__ import annotations

from harness.resilience.breaker import Breaker
from harness.resilience.clients import ClientFigures
from harness.resilience.connections.outbox import Outbox
from harness.resilience.connections.seen import Seen
from harness.resilience.connections.values import ConnectionSettings, Transport

__all__ = ["Peer", "due"]


class Peer:
    """
    A session.

    Attributes:
        name: The session's id. Addresses change with every connection, it does not.
        transport: Its connection, None while it has none.
        heard_s: When anything came from it last, on the present connection.
        asked_s: When it last sent a message, on the present connection.
        pinged_s: When it was pinged and has not been heard since; None where it was not.
        gone_s: Since when it has no connection.
        due_s: When time alone next changes something about it, None where it never does.
        connection: The number of its present or last connection.
        closing: Whether it is being closed.
        flushing: Whether its outbox is being emptied just now.
        counted: How many of its messages are in the figure of all that wait.
    """

    __slots__ = (
        "asked_s",
        "breaker",
        "closing",
        "connection",
        "counted",
        "due_s",
        "figures",
        "flushing",
        "gone_s",
        "heard_s",
        "name",
        "outbox",
        "pinged_s",
        "seen",
        "transport",
    )

    def __init__(self, name: str, *, breaker: Breaker, figures: ClientFigures) -> None:
        self.name = name
        self.breaker = breaker
        self.figures = figures
        self.outbox = Outbox()
        self.seen = Seen()
        self.transport: Transport | None = None
        self.heard_s = self.asked_s = self.gone_s = 0.0
        self.pinged_s: float | None = None
        self.due_s: float | None = None
        self.connection = 0
        self.counted = 0
        self.closing = self.flushing = False

    def go_back(self, now_s: float) -> None:
        """The clock went back to `now_s`: nothing happened later than that."""
        self.heard_s = min(self.heard_s, now_s)
        self.asked_s = min(self.asked_s, now_s)
        self.gone_s = min(self.gone_s, now_s)
        if self.pinged_s is not None:
            self.pinged_s = min(self.pinged_s, now_s)
        for entry in self.outbox.entries():
            entry.since_s = min(entry.since_s, now_s)
        self.due_s = None


def due(peer: Peer, settings: ConnectionSettings, now_s: float) -> float:
    """When time alone next changes something about a session."""
    times = []
    oldest = peer.outbox.oldest()
    if oldest is not None:
        times.append(oldest.since_s + settings.message_ttl_s)
    if peer.transport is None:
        times.append(peer.gone_s + settings.session_ttl_s)
        return min(times)
    if peer.pinged_s is None:
        times.append(peer.heard_s + settings.ping_interval_s)
    else:
        times.append(peer.pinged_s + settings.ping_timeout_s)
    if settings.idle_s is not None and not peer.closing:
        times.append(peer.asked_s + settings.idle_s)
    if peer.outbox.waiting and not peer.breaker.is_closed:
        retry_after_s = peer.breaker.report().retry_after_s
        times.append(
            now_s + (peer.breaker.settings.open_s if retry_after_s is None else retry_after_s)
        )
    return min(times)
