"""What breakers did, by name and in all. The states are the breakers' own."""

from __future__ import annotations

from collections import OrderedDict

from harness.resilience.breaker import State, Transition
from harness.resilience.snapshot import BreakerCounts, BreakerView

__all__ = ["BreakersSeen"]


class _Counts:
    """Counts of one breaker, or of all."""

    __slots__ = ("closes", "half_opens", "opens", "refusals", "state")

    def __init__(self) -> None:
        self.state: State = "closed"
        self.opens = self.half_opens = self.closes = self.refusals = 0

    def changed(self, event: Transition) -> None:
        self.state = event.after
        # A closed breaker can be reset: nothing closed by that.
        if event.before != event.after:
            self.opens += event.after == "open"
            self.half_opens += event.after == "half_open"
            self.closes += event.after == "closed"


class BreakersSeen:
    """
    The breakers that were told of, and their counts.

    Args:
        limit: How many are remembered; the one goes first that was told of longest ago.

    Attributes:
        limit: The same.
    """

    def __init__(self, *, limit: int) -> None:
        self.limit = limit
        self._counts: OrderedDict[str, _Counts] = OrderedDict()
        self._all = _Counts()

    def changed(self, event: Transition) -> None:
        """A breaker changed its state."""
        self._of(event.name).changed(event)
        self._all.changed(event)

    def refused(self, name: str) -> None:
        """A breaker refused a call."""
        self._of(name).refusals += 1
        self._all.refusals += 1

    def forgotten(self, name: str) -> None:
        """A breaker is there no longer; totals keep what it counted."""
        self._counts.pop(name, None)

    def _of(self, name: str) -> _Counts:
        counts = self._counts.setdefault(name, _Counts())
        self._counts.move_to_end(name)
        self.make_room()
        return counts

    def make_room(self) -> None:
        """Forget those told of longest ago, until there are no more than the limit."""
        while len(self._counts) > self.limit:
            self._counts.popitem(last=False)

    def views(self) -> dict[str, BreakerView]:
        """Each that is remembered, by name."""
        # A list at once: another thread may be telling of one more.
        return {
            name: BreakerView(
                state=counts.state,
                opens=counts.opens,
                half_opens=counts.half_opens,
                closes=counts.closes,
                refusals=counts.refusals,
            )
            for name, counts in list(self._counts.items())
        }

    def totals(self) -> BreakerCounts:
        """Of all there ever were."""
        return BreakerCounts(
            opens=self._all.opens,
            half_opens=self._all.half_opens,
            closes=self._all.closes,
            refusals=self._all.refusals,
        )
