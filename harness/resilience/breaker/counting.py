"""
What counts against a peer, as data.

A refused argument is the caller's mistake and says nothing of the peer's health; a
breaker that counted it would close the door on everybody for one caller's typing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from harness.complaints import refused
from harness.errors import InvalidValue

__all__ = ["KINDS", "Counting", "Verdict"]

Verdict = Literal["success", "failure", "ignored"]
"""How one call counts. "ignored" gives its place back and changes nothing else."""

KINDS: Final[Mapping[str, Verdict]] = {
    # The peer is well: it ran the tool, which failed inside.
    "TOOL_EXECUTION_ERROR": "success",
    "RESULT_GONE": "success",
    # The caller's own doing.
    "VALIDATION_ERROR": "ignored",
    "INVALID_REQUEST": "ignored",
    "UNAUTHORIZED": "ignored",
    "unauthorized": "ignored",
    "tls": "ignored",
    "NOT_FOUND": "ignored",
    "TOOL_NOT_FOUND": "ignored",
    "DUPLICATE": "ignored",
    "CANCELLED": "ignored",
    "cancelled": "ignored",
    "out_of_step": "ignored",
    # It never went to the peer.
    "breaker_open": "ignored",
    # The peer, or the way to it.
    "OVER_CAPACITY": "failure",
    "SERVICE_UNAVAILABLE": "failure",
    "TIMEOUT": "failure",
    "PROVIDER_ERROR": "failure",
    "INTERNAL_ERROR": "failure",
    "PROTOCOL_ERROR": "failure",
    "connection_refused": "failure",
    "not_connected": "failure",
    "connection_lost": "failure",
    "time_limit": "failure",
}
"""How errors count by their kind: the keys of `errors.OUTCOMES`, and `ConnectFailed`'s."""


@dataclass(frozen=True, kw_only=True)
class Counting:
    """
    How the end of a call counts.

    Attributes:
        kinds: By the `kind` an error carries, for instance `errors.CallError.kind`. It is asked
            first, and stands for the whole table: `KINDS | {"MY_CODE": "ignored"}` adds to it.
        ignored: Errors without such a kind that count as nothing: the caller's own mistakes.
        failures: Errors that count as failures. What is in none of the three, cancellation
            for instance, is ignored.
        kind_of: Reads a kind off a result, for those who return errors instead of raising them;
            None where the result is none. Without it every result is a success.

    Raises:
        InvalidValue: If a kind counts as something else than the three.
    """

    kinds: Mapping[str, Verdict] = field(default_factory=lambda: KINDS)
    ignored: tuple[type[BaseException], ...] = (InvalidValue,)
    failures: tuple[type[BaseException], ...] = (Exception,)
    kind_of: Callable[[Any], str | None] | None = None

    def __post_init__(self) -> None:
        allowed = get_args(Verdict)
        wrong = [(k, f'"{v}"') for k, v in self.kinds.items() if v not in allowed]
        if wrong:
            expected = " or ".join(f'"{each}"' for each in allowed)
            raise refused(f"Counting.kinds, each {expected}", wrong)

    def of_error(self, error: BaseException) -> Verdict:
        """How a call counts that ended with this error."""
        kind = getattr(error, "kind", None)
        verdict = self.kinds.get(kind) if isinstance(kind, str) else None
        if verdict is not None:
            return verdict
        if isinstance(error, self.ignored):
            return "ignored"
        return "failure" if isinstance(error, self.failures) else "ignored"

    def of_result(self, result: Any) -> Verdict:
        """How a call counts that returned this."""
        kind = None if self.kind_of is None else self.kind_of(result)
        return "success" if kind is None else self.kinds.get(kind, "failure")
