"""
The critical messages of one session, in order, until they have ended.

Rule: a message is in here or it has ended, and its end is told once. Order is that of
`add`, over any number of connections.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from harness.resilience.connections.values import Message

__all__ = ["Entry", "Outbox"]


@dataclass(slots=True)
class Entry:
    """
    A message that is kept.

    Attributes:
        key: Its message's id, or a number of its own.
        message: The message.
        since_s: Since when.
        tries: How many transports failed over it.
    """

    key: str | int
    message: Message
    since_s: float
    tries: int = 0


class Outbox:
    """
    What waits, and what is under way: handed to the present transport, not yet acknowledged.

    All that is under way was added before all that waits.
    """

    __slots__ = ("_bytes", "_serial", "_under_way", "_waiting")

    def __init__(self) -> None:
        # By name; those without a name have a number of their own.
        self._waiting: OrderedDict[str | int, Entry] = OrderedDict()
        self._under_way: OrderedDict[str | int, Entry] = OrderedDict()
        self._bytes = 0
        self._serial = 0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._under_way)

    @property
    def bytes(self) -> int:
        """The bytes of all messages."""
        return self._bytes

    @property
    def waiting(self) -> int:
        """How many wait for a transport."""
        return len(self._waiting)

    def __contains__(self, key: object) -> bool:
        return key in self._waiting or key in self._under_way

    def add(self, message: Message, now_s: float) -> Entry:
        """Keep one, behind all others. One of the same name must not be in here."""
        self._serial += 1
        key = self._serial if message.id is None else message.id
        entry = self._waiting[key] = Entry(key, message, now_s)
        self._bytes += len(message.data)
        return entry

    def is_waiting(self, name: str) -> bool:
        """Whether a message of that name waits."""
        return name in self._waiting

    def next(self) -> Entry | None:
        """The first that waits."""
        for entry in self._waiting.values():
            return entry
        return None

    def first_went(self, *, keep: bool) -> Entry:
        """The first that waits was taken by a transport; keep it until it is acknowledged?"""
        name, entry = self._waiting.popitem(last=False)
        if keep:
            self._under_way[name] = entry
        else:
            self._bytes -= len(entry.message.data)
        return entry

    def take(self, key: str | int) -> Entry | None:
        """Take one out, under way or waiting; None where it is not in here."""
        for kept in (self._under_way, self._waiting):
            entry = kept.pop(key, None)
            if entry is not None:
                self._bytes -= len(entry.message.data)
                return entry
        return None

    def connection_lost(self) -> None:
        """What was under way waits again, in its old place."""
        if self._under_way:
            self._under_way.update(self._waiting)
            self._waiting, self._under_way = self._under_way, OrderedDict()

    def oldest(self) -> Entry | None:
        """The one that has been here longest."""
        for entry in self._under_way.values():
            return entry
        return self.next()

    def pop_oldest(self) -> Entry:
        """Take out the one that has been here longest; there must be one."""
        kept = self._under_way or self._waiting
        _, entry = kept.popitem(last=False)
        self._bytes -= len(entry.message.data)
        return entry

    def entries(self) -> Iterator[Entry]:
        """All of them, the oldest first."""
        yield from self._under_way.values()
        yield from self._waiting.values()
