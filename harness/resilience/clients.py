"""
Figures of each client, and how long they are remembered.

A client is live while it has a connection, and is never forgotten then. The others stand in
the order in which they went: forgetting looks at those that it forgets, and a few more.

Rule: totals are counted apart, so they know nothing of forgetting.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable
from itertools import islice
from typing import Final

from harness.errors import InvalidValue
from harness.resilience.histogram import Histogram
from harness.resilience.snapshot import ClientView

__all__ = ["ClientFigures", "Clients", "Record", "Totals"]

_CHUNK: Final = 64
"""How many are looked at together, for their order says of all what the last one says."""

_MARGIN: Final = 16
"""Where there is no room, this part of the limit goes at once."""


class Totals:
    """Counts of all clients there ever were; messages sent are as many as latencies."""

    __slots__ = (
        "active",
        "connections",
        "deduplicated",
        "expired",
        "failed",
        "failed_connections",
        "latency",
        "queued",
        "received",
        "reconnections",
        "timeouts",
        "unmatched_closes",
    )

    def __init__(self) -> None:
        self.latency = Histogram()
        self.active = self.connections = self.reconnections = 0
        self.failed_connections = self.timeouts = self.unmatched_closes = 0
        self.received = self.queued = self.failed = self.expired = self.deduplicated = 0


class Record:
    """Counts of one client; `gone_s` is when its last connection ended or failed to begin."""

    __slots__ = (
        "active",
        "connections",
        "deduplicated",
        "expired",
        "failed",
        "failed_connections",
        "gone_s",
        "queued",
        "received",
        "reconnections",
        "sent",
        "timeouts",
    )

    def __init__(self) -> None:
        self.gone_s = 0.0
        self.active = self.connections = self.reconnections = 0
        self.failed_connections = self.timeouts = 0
        self.sent = self.received = 0
        self.queued = self.failed = self.expired = self.deduplicated = 0

    def view(self, now_s: float) -> ClientView:
        """What is shown of it."""
        return ClientView(
            active=self.active,
            connections=self.connections,
            reconnections=self.reconnections,
            failed_connections=self.failed_connections,
            timeouts=self.timeouts,
            sent=self.sent,
            received=self.received,
            queued=self.queued,
            failed=self.failed,
            expired=self.expired,
            deduplicated=self.deduplicated,
            gone_s=None if self.active else now_s - self.gone_s,
        )


class Clients:
    """
    Who is remembered.

    Args:
        now: Seconds that never go back.
        limit: How many clients without a connection are remembered; the longest gone go
            first, a sixteenth of the limit at once.

    Attributes:
        live: Clients with a connection, by id.
        gone: Those without one, the longest gone first.
        totals: Of all there ever were.
        removed_for_room: How many were forgotten because of the limit.
    """

    __slots__ = ("gone", "limit", "live", "now", "removed_for_room", "totals")

    def __init__(self, *, now: Callable[[], float], limit: int) -> None:
        self.now = now
        self.limit = limit
        self.live: dict[str, Record] = {}
        self.gone: dict[str, Record] = {}
        self.totals = Totals()
        self.removed_for_room = 0

    def record_of(self, client_id: str) -> Record:
        """A client's record; who is not known has gone just now."""
        record = self.live.get(client_id) or self.gone.get(client_id)
        if record is None:
            record = Record()
            self._has_gone(client_id, record)
        return record

    def opened(self, client_id: str) -> Record:
        """A client has a connection, or one more."""
        record = self.live.get(client_id)
        if record is None:
            record = self.gone.pop(client_id, None) or Record()
            self.live[client_id] = record
            if record.connections:
                record.reconnections += 1
                self.totals.reconnections += 1
        record.active += 1
        record.connections += 1
        self.totals.active += 1
        self.totals.connections += 1
        return record

    def closed(self, client_id: str) -> None:
        """A client has a connection less."""
        record = self.live.get(client_id)
        if record is None:
            self.totals.unmatched_closes += 1
            return
        record.active -= 1
        self.totals.active -= 1
        if not record.active:
            del self.live[client_id]
            self._has_gone(client_id, record)

    def connection_failed(self, client_id: str) -> Record:
        """A client tried to connect, in vain."""
        record = self.record_of(client_id)
        record.failed_connections += 1
        self.totals.failed_connections += 1
        if not record.active:
            self._has_gone(client_id, record)
        return record

    def _has_gone(self, client_id: str, record: Record) -> None:
        record.gone_s = self.now()
        self.gone.pop(client_id, None)
        self.gone[client_id] = record
        self.make_room()

    def make_room(self) -> None:
        """Forget the longest gone where there are more than the limit."""
        surplus = len(self.gone) - self.limit
        if surplus > 0:
            # Some more at once: each look for the first passes by those taken out before it.
            surplus += self.limit // _MARGIN
            self._forget(surplus)
            self.removed_for_room += surplus

    def forget_gone(self, ttl_s: float) -> int:
        """
        Forget who went at least so long ago; returns how many they were.

        Raises:
            InvalidValue: If the time is not 0 or more.
        """
        if not ttl_s >= 0:
            raise InvalidValue(f"ttl_s {ttl_s}: expected seconds, 0 or more")
        due = self._due(ttl_s)
        self._forget(due)
        return due

    def _due(self, ttl_s: float) -> int:
        now_s = self.now()
        if self.gone and now_s - next(reversed(self.gone.values())).gone_s >= ttl_s:
            return len(self.gone)
        due = 0
        records = iter(self.gone.values())
        while chunk := [*islice(records, _CHUNK)]:
            if now_s - chunk[-1].gone_s < ttl_s:
                return due + bisect(chunk, -ttl_s, key=lambda each: each.gone_s - now_s)
            due += len(chunk)
        return due

    def _forget(self, longest_gone: int) -> None:
        if longest_gone > len(self.gone) // 2:
            # Dropping the whole and keeping a few is cheaper than taking out one by one.
            self.gone = dict(islice(self.gone.items(), longest_gone, None))
        else:
            for client_id in [*islice(self.gone, longest_gone)]:
                del self.gone[client_id]

    def views(self, now_s: float) -> dict[str, ClientView]:
        """What is shown of each, by id."""
        # A list of each at once: another thread may be telling of one more.
        kept = [*self.live.items()], [*self.gone.items()]
        return {client_id: record.view(now_s) for each in kept for client_id, record in each}


class ClientFigures:
    """
    A handle on one client, for whoever serves it. Made by `Metrics.client`.

    What is counted after the client was forgotten is in the totals only. With its next
    connection, or the next that fails, it is registered anew, from 0.

    Attributes:
        client_id: Whose figures these are.
    """

    __slots__ = ("_clients", "_latency", "_record", "_rows", "_totals", "client_id")

    def __init__(self, client_id: str, clients: Clients) -> None:
        self.client_id = client_id
        self._clients = clients
        self._totals = clients.totals
        self._latency = clients.totals.latency
        self._rows = self._latency.rows
        self._record = clients.record_of(client_id)

    def sent(self, latency_ns: int) -> None:
        """A message reached the client, so many nanoseconds after somebody wanted it sent."""
        # Histogram.record, written out: a call would take a third of the whole.
        if latency_ns < 0:
            latency_ns = self._latency.negative()
        try:
            row, shift = self._rows[latency_ns.bit_length()]
            row[latency_ns >> shift] += 1
        except IndexError:
            self._latency.overflow()
        self._latency.total_ns += latency_ns
        self._record.sent += 1

    def received(self, count: int = 1) -> None:
        """A message came from the client, or so many at once."""
        self._record.received += count
        self._totals.received += count

    def queued(self) -> None:
        """A message for the client has to wait."""
        self._record.queued += 1
        self._totals.queued += 1

    def failed(self) -> None:
        """A message could not be sent."""
        self._record.failed += 1
        self._totals.failed += 1

    def expired(self) -> None:
        """A message waited for longer than it was worth."""
        self._record.expired += 1
        self._totals.expired += 1

    def deduplicated(self) -> None:
        """A message was a repetition, and answered as one."""
        self._record.deduplicated += 1
        self._totals.deduplicated += 1

    def opened(self) -> None:
        """The client has a connection, or one more; a reconnection, where it had had some."""
        self._record = self._clients.opened(self.client_id)

    def closed(self) -> None:
        """A connection of the client ended."""
        self._clients.closed(self.client_id)

    def connection_failed(self) -> None:
        """A connection of the client did not come about."""
        self._record = self._clients.connection_failed(self.client_id)

    def timed_out(self) -> None:
        """A time limit of a connection ran out. What follows from it is told apart."""
        self._record.timeouts += 1
        self._totals.timeouts += 1
