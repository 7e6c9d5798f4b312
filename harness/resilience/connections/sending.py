"""
Sending to one session: at once, later, or not.

Rule: what was refused was not kept, what was queued is, and of what a transport failed over
nobody claims that it did not leave.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from harness.errors import BreakerOpen, InvalidValue
from harness.resilience.connections.outbox import Entry
from harness.resilience.connections.peer import Peer
from harness.resilience.connections.values import (
    ConnectionSettings,
    Delivery,
    End,
    Message,
    Transport,
)
from harness.resilience.metrics import Metrics

__all__ = ["LEAVING", "SENT", "Sending"]

SENT: Final = Delivery(outcome="sent")
_SENT_BEFORE: Final = Delivery(outcome="sent", repeated=True)
_QUEUED_BEFORE: Final = Delivery(outcome="queued", repeated=True)
_ABSENT: Final = Delivery(outcome="refused", why="the session has no connection")
_CLOSING: Final = Delivery(outcome="refused", why="the connection is being closed")
_BEHIND: Final = Delivery(outcome="refused", why="older messages wait")
_SLOW: Final = Delivery(outcome="refused", why="the peer reads too slowly")
LEAVING: Final = Delivery(outcome="refused", why="shutting down")


class Sending:
    """
    What `Connections` does with messages. It knows of one session at a time.

    Args:
        clock: Seconds that only go forward.
        settings: Bounds and times.
        metrics: Where everything is counted.
        broke: Told of a transport that failed; it takes it from the peer and aborts it.
        ended: Told of each critical message that ended.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        settings: ConnectionSettings,
        metrics: Metrics,
        broke: Callable[[Peer, Transport], None],
        ended: Callable[[Peer, Message, End], None],
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._metrics = metrics
        self._broke = broke
        self._ended = ended

    def adopt(self, settings: ConnectionSettings) -> None:
        """Go by other settings from now on."""
        self._settings = settings

    def send(self, peer: Peer, message: Message) -> Delivery:
        """`Connections.send`, for a session that is known."""
        now_s = self._clock()
        name = message.id
        if name is not None:
            before = self._repetition(peer, name, now_s)
            if before is not None:
                peer.figures.deduplicated()
                return before
        if message.critical:
            return self._send_critical(peer, message, now_s)
        if peer.outbox.waiting:
            self.flush(peer, now_s)
        not_sent = self._why_not_now(peer) or self._hand_over(peer, message.data)
        if not_sent is not None:
            peer.figures.failed()
            return not_sent
        peer.figures.sent(int((self._clock() - now_s) * 1e9))
        if name is not None:
            self._remember(peer, name, now_s, connection=peer.connection)
        return SENT

    def acknowledged(self, peer: Peer, name: str) -> None:
        """The peer has the message of that name."""
        entry = peer.outbox.take(name)
        if entry is None:
            peer.seen.prove(name)
        else:
            self._remember(peer, name, self._clock(), connection=None)
            self._ended(peer, entry.message, "acknowledged")

    def _repetition(self, peer: Peer, name: str, now_s: float) -> Delivery | None:
        if name in peer.outbox:
            return _QUEUED_BEFORE if peer.outbox.is_waiting(name) else _SENT_BEFORE
        ttl_s = self._settings.repeat_ttl_s
        if peer.seen.has(name, now_s, connection=peer.connection, ttl_s=ttl_s):
            return _SENT_BEFORE
        return None

    def _send_critical(self, peer: Peer, message: Message, now_s: float) -> Delivery:
        settings = self._settings
        if message.id is None and settings.keep == "until_acknowledged":
            raise InvalidValue(
                "a critical message without an id cannot be kept until it is acknowledged",
                [("next", 'give it an id that the peer acknowledges, or set keep = "until_sent"')],
            )
        tries = 0
        if settings.keep == "until_sent" and self._why_not_now(peer) is None:
            # Most go this way: nothing waits, so nothing has to be kept, however large it is.
            failed = self._hand_over(peer, message.data)
            if failed is None:
                peer.figures.sent(int((self._clock() - now_s) * 1e9))
                if message.id is not None:
                    self._remember(peer, message.id, now_s, connection=peer.connection)
                self._ended(peer, message, "sent")
                return SENT
            tries = int(failed.may_have_left)
            if tries >= settings.max_tries:
                self._ended(peer, message, "poison")
                return failed
        return self._keep(peer, message, now_s, tries=tries)

    def _keep(self, peer: Peer, message: Message, now_s: float, *, tries: int) -> Delivery:
        settings, outbox, size = self._settings, peer.outbox, len(message.data)
        if size > settings.queue_bytes:
            peer.figures.failed()
            why = f"{size} bytes; expected at most {settings.queue_bytes} (queue_bytes)"
            return Delivery(outcome="refused", why=why, may_have_left=tries > 0)
        while len(outbox) >= settings.queue_messages or outbox.bytes + size > settings.queue_bytes:
            self._ended(peer, outbox.pop_oldest().message, "dropped")
        entry = outbox.add(message, now_s)
        entry.tries = tries
        not_sent = self.flush(peer, now_s)
        if not_sent is None:
            return SENT
        if entry.key not in outbox:
            # It ended already: it was tried as often as anything is.
            return not_sent
        peer.figures.queued()
        return Delivery(outcome="queued", why=not_sent.why)

    def _why_not_now(self, peer: Peer) -> Delivery | None:
        """Why nothing can be handed over now; None where it can."""
        transport = peer.transport
        if transport is None:
            return _ABSENT
        if peer.closing:
            return _CLOSING
        if peer.outbox.waiting or peer.flushing:
            return _BEHIND
        if transport.buffered() > self._settings.high_water_bytes:
            return _SLOW
        return None

    def _hand_over(self, peer: Peer, data: bytes) -> Delivery | None:
        """Give it to the transport; why it did not take it, None where it did."""
        transport = peer.transport
        assert transport is not None
        try:
            peer.breaker.call(transport.send, data)
        except BreakerOpen as refused:
            self._metrics.breaker_refused(peer.name)
            return Delivery(outcome="refused", why=str(refused))
        # Whatever it was: bytes may have left, and what failed once is no connection any more.
        except Exception as error:  # noqa: BLE001
            if peer.transport is transport:
                self._broke(peer, transport)
            why = f"the transport failed: {type(error).__name__}: {error}"
            return Delivery(outcome="refused", why=why, may_have_left=True)
        return None

    def flush(self, peer: Peer, now_s: float) -> Delivery | None:
        """Send what waits, as far as it goes; why it went no further, None where all went."""
        if peer.flushing:
            return _BEHIND
        peer.flushing = True
        try:
            return self._send_waiting(peer, now_s)
        finally:
            peer.flushing = False

    def _send_waiting(self, peer: Peer, now_s: float) -> Delivery | None:
        settings, outbox = self._settings, peer.outbox
        self.expire(peer, now_s)
        while (entry := outbox.next()) is not None:
            transport = peer.transport
            if transport is None:
                return _ABSENT
            if peer.closing:
                return _CLOSING
            if transport.buffered() > settings.high_water_bytes:
                return _SLOW
            not_sent = self._hand_over(peer, entry.message.data)
            if not_sent is not None:
                entry.tries += not_sent.may_have_left
                if entry.tries >= settings.max_tries and outbox.take(entry.key) is not None:
                    self._ended(peer, entry.message, "poison")
                return not_sent
            # Within `send` it may have been lost, or acknowledged.
            if peer.transport is transport and outbox.next() is entry:
                outbox.first_went(keep=settings.keep == "until_acknowledged")
                self._went(peer, entry, now_s)
        return None

    def _went(self, peer: Peer, entry: Entry, now_s: float) -> None:
        waited_ns = int((now_s - entry.since_s) * 1e9)
        self._metrics.queue_wait.record(waited_ns)
        peer.figures.sent(waited_ns)
        if self._settings.keep == "until_sent":
            if entry.message.id is not None:
                self._remember(peer, entry.message.id, now_s, connection=peer.connection)
            self._ended(peer, entry.message, "sent")

    def _remember(self, peer: Peer, name: str, now_s: float, *, connection: int | None) -> None:
        settings = self._settings
        peer.seen.add(
            name,
            now_s,
            connection=connection,
            ttl_s=settings.repeat_ttl_s,
            limit=settings.repeat_names,
        )

    def expire(self, peer: Peer, now_s: float) -> None:
        """End what has been kept for too long, under way or waiting."""
        outbox, ttl_s = peer.outbox, self._settings.message_ttl_s
        while (oldest := outbox.oldest()) is not None and now_s >= oldest.since_s + ttl_s:
            self._ended(peer, outbox.pop_oldest().message, "expired")
