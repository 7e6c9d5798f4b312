"""One breaker for each peer, so that a dead one blocks nobody else."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from threading import Lock
from typing import Final

from harness.errors import InvalidValue
from harness.resilience.breaker.automaton import Breaker, Observer
from harness.resilience.breaker.counting import Counting
from harness.resilience.breaker.values import BreakerReport, BreakerSettings

__all__ = ["Breakers"]

_COUNTING: Final = Counting()


class Breakers:
    """
    The breakers of many peers, made when they are first asked for.

    At most `limit` are kept. For a new one the closed breaker goes that was asked for longest
    ago; only where none is closed, the one that is not. Whoever holds a breaker that went can
    go on with it; the peer's next caller gets a fresh one.

    Args:
        clock: Seconds that only go forward.
        settings: What every one of them goes by.
        counting: What counts as failure.
        observers: Told of each change of state of any of them.
        limit: The most that are kept.

    Raises:
        InvalidValue: If the limit is less than 1.

    Attributes:
        forgotten: How many went for a new one.
        forgotten_open: How many of these were not closed: what was known of their peers is lost.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        settings: BreakerSettings = BreakerSettings(),  # noqa: B008 (frozen)
        counting: Counting = _COUNTING,
        observers: tuple[Observer, ...] = (),
        limit: int = 10_000,
    ) -> None:
        if limit < 1:
            raise InvalidValue(f"a limit of {limit} breakers; expected 1 or more")
        self._clock = clock
        self._settings = settings
        self._counting = counting
        self._observers = observers
        self._limit = limit
        self._lock = Lock()
        self._kept: OrderedDict[str, Breaker] = OrderedDict()
        self.forgotten = 0
        self.forgotten_open = 0

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, peer: object) -> bool:
        return peer in self._kept

    def __iter__(self) -> Iterator[Breaker]:
        return iter(list(self._kept.values()))

    def of(self, peer: str) -> Breaker:
        """The breaker of a peer: a session, an address, whatever names it for good."""
        with self._lock:
            breaker = self._kept.get(peer)
            if breaker is not None:
                self._kept.move_to_end(peer)
                return breaker
            if len(self._kept) >= self._limit:
                self._forget_one()
            breaker = Breaker(
                peer,
                clock=self._clock,
                settings=self._settings,
                counting=self._counting,
                observers=self._observers,
            )
            self._kept[peer] = breaker
            return breaker

    def _forget_one(self) -> None:
        closed = (peer for peer, each in self._kept.items() if each.is_closed)
        peer = next(closed, None)
        if peer is None:
            peer = next(iter(self._kept))
            self.forgotten_open += 1
        del self._kept[peer]
        self.forgotten += 1

    def forget(self, peer: str) -> None:
        """Keep a peer's breaker no longer: it is gone for good."""
        with self._lock:
            self._kept.pop(peer, None)

    def adopt(self, settings: BreakerSettings) -> None:
        """All of them, and those to come, go by other settings from now on."""
        with self._lock:
            self._settings = settings
            kept = list(self._kept.values())
        for breaker in kept:
            breaker.adopt(settings)

    def reset(self) -> None:
        """Close them all."""
        for breaker in self:
            breaker.reset()

    def report(self) -> dict[str, BreakerReport]:
        """What there is to know of each, by peer."""
        return {breaker.name: breaker.report() for breaker in self}
