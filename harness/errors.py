"""
Every exception of the harness, and the one table that says what an error proves.

    HarnessError
    ├── InvalidValue        the caller's mistake: found, expected, where, what to do
    │   └── TargetRefused   an address that is not on this machine, without leave
    ├── EnvironmentFailed   the harness could not do its part
    │   ├── TransientFailure  what it stands on failed, and may not the next time
    │   ├── StartTimeout    a program never became ready
    │   ├── ProgramExited   a program ended while it was needed
    │   └── HealFailed      a fault could not be lifted, or was still there afterwards
    ├── NotIsolated         a test left something behind that others would meet
    ├── ProxyError          the proxy's API answered with an error, or not at all
    ├── HistoryDamaged      a record that cannot be read
    ├── BreakerOpen         a breaker lets nothing through to its peer
    ├── ConnectFailed       no session: refused, no hello, wrong token
    ├── CallFailed          the call certainly did not happen
    └── CallUnknown         the call may have happened

`InvalidValue` is the caller's fault, `EnvironmentFailed`, `ProxyError` and
`HistoryDamaged` are the harness's or the machine's, the last four tell of the
daemon or the wire.

This module imports no library: the rooms that use one map its exceptions to the
kinds of `OUTCOMES`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

__all__ = [
    "EXIT_FAILED",
    "EXIT_INVALID",
    "EXIT_UNKNOWN",
    "EXIT_USAGE",
    "EXIT_VALID",
    "OUTCOMES",
    "BreakerOpen",
    "CallError",
    "CallFailed",
    "CallUnknown",
    "ConnectFailed",
    "EnvironmentFailed",
    "HarnessError",
    "HealFailed",
    "HistoryDamaged",
    "InvalidValue",
    "NotIsolated",
    "Outcome",
    "ProgramExited",
    "ProxyError",
    "StartTimeout",
    "TargetRefused",
    "TransientFailure",
    "outcome_of",
]

EXIT_VALID: Final = 0
EXIT_INVALID: Final = 1
EXIT_UNKNOWN: Final = 2
EXIT_FAILED: Final = 3
EXIT_USAGE: Final = 64

Outcome = Literal["ok", "fail", "info"]

OUTCOMES: Final[Mapping[str, Outcome]] = {
    # Executed, and failed inside the tool: an answer like any other.
    "TOOL_EXECUTION_ERROR": "ok",
    # Executed for an earlier request of its key; what it came to is kept no longer.
    "RESULT_GONE": "ok",
    # Refused before execution: it certainly did not happen.
    "VALIDATION_ERROR": "fail",
    "INVALID_REQUEST": "fail",
    "UNAUTHORIZED": "fail",
    "NOT_FOUND": "fail",
    "TOOL_NOT_FOUND": "fail",
    "OVER_CAPACITY": "fail",
    "SERVICE_UNAVAILABLE": "fail",
    "breaker_open": "fail",
    "connection_refused": "fail",
    "not_connected": "fail",
    "out_of_step": "fail",
    # Nobody knows: the call, or its answer, was under way.
    "TIMEOUT": "info",
    "PROVIDER_ERROR": "info",
    "INTERNAL_ERROR": "info",
    "PROTOCOL_ERROR": "info",
    "CANCELLED": "info",
    # A refused repeat says nothing of the first attempt.
    "DUPLICATE": "info",
    "time_limit": "info",
    "connection_lost": "info",
    "cancelled": "info",
}
"""What each error proves. Upper case: codes a daemon sends; lower case: what the client saw."""


def outcome_of(kind: str) -> Outcome:
    """
    What an error of this kind proves about the call.

    A kind that is not in the table proves nothing, so it is "info".
    """
    return OUTCOMES.get(kind, "info")


class HarnessError(Exception):
    """
    The base of all errors here.

    Args:
        headline: One sentence: what was found and what was expected.
        details: Rows of (label, text) that say where and what to do next.

    Attributes:
        logs: What programs had written, by the name of the file, where that is gone with them.
    """

    def __init__(self, headline: str, details: Iterable[tuple[str, str]] = ()) -> None:
        self.logs: Mapping[str, str] = {}
        self.headline = headline
        self.details = tuple(details)
        super().__init__(headline)

    def __str__(self) -> str:
        if not self.details:
            return self.headline
        width = max(len(label) for label, _ in self.details)
        lines = [self.headline]
        for label, text in self.details:
            # A text of several lines stays under its own column.
            first, *rest = text.splitlines() or [""]
            lines.append(f"  {label.ljust(width)}  {first}")
            lines.extend(f"  {' ' * width}  {line}" for line in rest)
        return "\n".join(lines)


class InvalidValue(HarnessError):
    """A value the caller gave cannot be used."""


class TargetRefused(InvalidValue):
    """A target that is not on this machine, without `--allow-remote`."""


class EnvironmentFailed(HarnessError):
    """The harness could not bring up, keep or put back what a test stands on."""


class TransientFailure(EnvironmentFailed):
    """What the harness itself stands on failed in a way that may pass by itself."""


class StartTimeout(EnvironmentFailed):
    """A program did not become ready within its bound."""


class ProgramExited(EnvironmentFailed):
    """A program ended although it was needed."""


class HealFailed(EnvironmentFailed):
    """A fault could not be lifted, or reading back showed that it is still there."""


class NotIsolated(HarnessError):
    """A test left a fault, a connection or a task behind, or changed a daemon others use."""


class ProxyError(HarnessError):
    """
    The proxy's API refused a request, or did not answer it.

    Attributes:
        status: The HTTP status, or None where no answer came.
        text: The server's own words.
    """

    def __init__(
        self,
        headline: str,
        details: Iterable[tuple[str, str]] = (),
        *,
        status: int | None = None,
        text: str = "",
    ) -> None:
        super().__init__(headline, details)
        self.status = status
        self.text = text


class HistoryDamaged(HarnessError):
    """A record of a run cannot be read as one."""


class BreakerOpen(HarnessError):
    """
    Nothing was sent: the breaker in front of a peer is open, or tries it with others just now.

    Attributes:
        name: The breaker's name.
        retry_after_s: Seconds until it lets a call through to try the peer; None where that
            hangs on calls under way.
        kind: "breaker_open", a key of `OUTCOMES`.
    """

    kind: Final = "breaker_open"

    def __init__(self, headline: str, *, name: str, retry_after_s: float | None) -> None:
        super().__init__(headline)
        self.name = name
        self.retry_after_s = retry_after_s


class ConnectFailed(HarnessError):
    """
    No session came about, so no call of it can have happened.

    Attributes:
        kind: "refused", "reset", "closed", "timeout", "rejected" (the upgrade),
            "unauthorized", or the daemon's own error word.
    """

    def __init__(
        self, headline: str, details: Iterable[tuple[str, str]] = (), *, kind: str
    ) -> None:
        super().__init__(headline, details)
        self.kind = kind


class CallError(HarnessError):
    """
    A call that brought no reply.

    Attributes:
        kind: A key of `OUTCOMES`, or another code the daemon sent.
        request_id: Which call.
        elapsed_ms: Milliseconds since its intended start.
    """

    def __init__(
        self,
        headline: str,
        details: Iterable[tuple[str, str]] = (),
        *,
        kind: str,
        request_id: str,
        elapsed_ms: float,
    ) -> None:
        super().__init__(headline, details)
        self.kind = kind
        self.request_id = request_id
        self.elapsed_ms = elapsed_ms


class CallFailed(CallError):
    """The call certainly did not happen."""


class CallUnknown(CallError):
    """The call may have happened: nobody at this end can know."""
