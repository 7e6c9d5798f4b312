"""No answer, or one that tells of nothing that ran: what is known then, and the error of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.dialects.base import Answer, Kind
from harness.errors import CallFailed, CallUnknown, outcome_of

__all__ = ["Silence", "silence_in"]


@dataclass(frozen=True, kw_only=True)
class Silence:
    """No answer: a kind of `errors.OUTCOMES`, what happened, and what to do where that helps."""

    kind: str
    how: str
    next: str = ""

    @property
    def outcome(self) -> Literal["fail", "info"]:
        """What it proves; with no answer it is never "ok"."""
        return "fail" if outcome_of(self.kind) == "fail" else "info"

    def error(
        self, what: str, *, request_id: str, to: str, elapsed_ms: float
    ) -> CallFailed | CallUnknown:
        """
        The error to raise.

        Args:
            what: What was asked.
            request_id: Its id.
            to: Whom.
            elapsed_ms: Milliseconds since it was to start.
        """
        failed = self.outcome == "fail"
        return (CallFailed if failed else CallUnknown)(
            f"{what}: {self.how} ({self.kind})",
            [
                ("request", f"{request_id} to {to}"),
                ("elapsed", f"{elapsed_ms:.1f} ms"),
                ("means", "it did not happen" if failed else "it may have happened"),
                *([("next", self.next)] if self.next else []),
            ],
            kind=self.kind,
            request_id=request_id,
            elapsed_ms=elapsed_ms,
        )


def silence_in(answer: Answer, asked: Kind) -> Silence | None:
    """What an answer comes to that carries a failure and not what was asked; None if it does."""
    failure = answer.failure
    if failure is None:
        return None
    if asked == "cancel" and answer.kind == "cancel":
        # "No such call was running" is an answer, "what is a cancel?" is none.
        return None
    if asked == "call" and outcome_of(failure.code) == "ok":
        # The tool ran, and failed inside.
        return None
    return Silence(kind=failure.code, how=failure.message)
