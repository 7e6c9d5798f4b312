"""Leave for one call through a breaker."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from harness.resilience.breaker.counting import Counting, Verdict

__all__ = ["Permit"]


class Permit:
    """
    Leave for one call, had from `Breaker.admit`.

    Entered by `with`, it ends with the block: an error counts as the breaker's counting says,
    cancellation and the like give the place back. Held by hand, it must be ended by `end`. It
    ends once; what comes later changes nothing. One that is never ended is forgotten when the
    breaker's half-open time runs out.
    """

    __slots__ = ("_counting", "_end", "_ended", "_epoch", "_started_s")

    def __init__(
        self,
        end: Callable[[int, Verdict, float | None], None],
        counting: Counting,
        epoch: int,
        started_s: float | None,
    ) -> None:
        self._end = end
        self._counting = counting
        self._epoch = epoch
        self._started_s = started_s
        self._ended = False

    def end(self, verdict: Verdict) -> None:
        """Say how the call ended."""
        if not self._ended:
            self._ended = True
            self._end(self._epoch, verdict, self._started_s)

    def returned(self, result: Any) -> None:
        """The call returned this; it counts as the breaker's counting says."""
        self.end(self._counting.of_result(result))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end("success" if error is None else self._counting.of_error(error))
