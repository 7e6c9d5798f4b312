"""
The names of what one session was sent, so that a repetition is known.

Rule: a name is remembered after the message was sent, never before: one whose sending
failed is no repetition when it is tried again. Nor is one whose connection was lost
before the peer acknowledged it: nobody knows whether it arrived.
"""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["Seen"]


class Seen:
    """
    Names, each with when and on which connection; what is too old, or too many, is forgotten.

    What it costs does not grow with how much it remembers: only the oldest is looked at.
    """

    __slots__ = ("_names",)

    def __init__(self) -> None:
        # The connection's number; None once the peer acknowledged it.
        self._names: OrderedDict[str, tuple[float, int | None]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._names)

    def has(self, name: str, now_s: float, *, connection: int, ttl_s: float) -> bool:
        """Whether that name was sent less than `ttl_s` ago, and may be taken for arrived."""
        sent_s, on = self._names.get(name, (None, None))
        # A time to come: the clock jumped back, and it was sent a moment ago.
        return sent_s is not None and now_s - sent_s < ttl_s and on in (None, connection)

    def add(
        self, name: str, now_s: float, *, connection: int | None, ttl_s: float, limit: int
    ) -> None:
        """That name was sent on that connection; None: it has been acknowledged."""
        names = self._names
        names[name] = (now_s, connection)
        names.move_to_end(name)
        while names and (len(names) > limit or now_s - next(iter(names.values()))[0] >= ttl_s):
            names.popitem(last=False)

    def prove(self, name: str) -> None:
        """The peer has it, whatever becomes of the connection."""
        if name in self._names:
            self._names[name] = (self._names[name][0], None)
