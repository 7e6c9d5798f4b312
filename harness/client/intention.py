"""One call, over all its attempts: what is known of it."""

from __future__ import annotations

from typing import Final

from harness.clock import now_ns
from harness.errors import (
    BreakerOpen,
    CallError,
    CallFailed,
    CallUnknown,
    ConnectFailed,
    HarnessError,
)
from harness.resilience.backoff import Backoff

__all__ = ["Intention"]

# What an attempt's own error says of itself, and the whole call says otherwise.
_OF_ONE_ATTEMPT: Final = frozenset({"request", "elapsed", "means", "attempts"})


class Intention:
    """
    One call.

    Args:
        key: Its idempotency key.
        may_run_twice: Whether the caller said so.
        backoff: Its waits between attempts on a connection that stays.

    Attributes:
        start_ns: When it was meant to start.
        attempt: The present attempt, from 1.
        unknown: The last attempt of which nobody knows.
        repeatable: Whether one like the last does no harm.
        waits: Whether the next attempt has to wait.
        memory: The daemon's memory that its attempts were sent to; None while none was.
    """

    def __init__(self, *, key: str, may_run_twice: bool, backoff: Backoff) -> None:
        self.key = key
        self.backoff = backoff
        self.start_ns = now_ns()
        self.attempt = 0
        self.unknown: CallUnknown | None = None
        self.repeatable = may_run_twice
        self.waits = False
        self.memory: int | None = None
        self._may_run_twice = may_run_twice

    @property
    def elapsed_ms(self) -> float:
        """Milliseconds since it was meant to start."""
        return (now_ns() - self.start_ns) / 1e6

    def may_be_sent(self, *, promised: bool, memory: int) -> bool:
        """
        Whether it does no harm to send it now.

        Args:
            promised: Whether the daemon promised to run each key once.
            memory: Which memory it has now; in another one the key of an earlier attempt is new.
        """
        remembered = self.unknown is None or memory == self.memory
        self.repeatable = (promised and remembered) or self._may_run_twice
        if self.unknown is not None and not self.repeatable:
            return False
        self.memory = memory
        return True

    def given_up(self, error: HarnessError) -> CallFailed | CallUnknown:
        """The error that says what is known of it after its last attempt."""
        unknown = self.unknown is not None
        alike = isinstance(error, CallUnknown if unknown else CallFailed)
        if alike and self.attempt == 1:
            assert isinstance(error, CallFailed | CallUnknown)
            return error
        if self.unknown is not None:
            kind, request_id = self.unknown.kind, self.unknown.request_id
        elif isinstance(error, CallError):
            kind, request_id = error.kind, error.request_id
        else:
            kind, request_id = _kind_of(error), self.key
        more = [row for row in error.details if row[0] not in _OF_ONE_ATTEMPT]
        return (CallUnknown if unknown else CallFailed)(
            error.headline,
            [
                ("attempts", f"{self.attempt}, of key {self.key}"),
                ("elapsed", f"{self.elapsed_ms:.1f} ms"),
                ("means", "it may have happened" if unknown else "it did not happen"),
                *more,
            ],
            kind=kind,
            request_id=request_id,
            elapsed_ms=self.elapsed_ms,
        )


def _kind_of(error: HarnessError) -> str:
    """The kind of a call that never left, by what kept it."""
    if isinstance(error, BreakerOpen):
        return error.kind
    refused = isinstance(error, ConnectFailed) and error.kind == "refused"
    return "connection_refused" if refused else "not_connected"
