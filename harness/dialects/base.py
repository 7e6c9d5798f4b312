"""
What a client needs of a message language.

A dialect turns requests into frames and frames into what they mean. It sends and
receives nothing itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

__all__ = [
    "Answer",
    "Dialect",
    "Failure",
    "Incoming",
    "Junk",
    "Kind",
    "Progress",
    "Refusal",
    "Welcome",
]

Kind = Literal["call", "tools", "health", "pong", "cancel"]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An error as the daemon words it: a code (`errors.OUTCOMES`), a sentence, details."""

    code: str
    message: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Welcome:
    """
    The daemon took us in.

    Attributes:
        session_id: The session it gave us.
        promises: What it says it guarantees; what it never promised never condemns it.
        clock: The clock its stamps are read from, "" if it does not say.
    """

    session_id: str
    promises: tuple[str, ...] = ()
    clock: str = ""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """The daemon did not take us in. `reason` is its own word, for instance "unauthorized"."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """
    The end of one request.

    Attributes:
        kind: What was asked; None where the daemon's error does not say.
        request_id: Which request; None where the daemon named none.
        value: What was asked for: outputs, tools, a health report.
        failure: The error instead of a value.
        received_ns: When the daemon had read the request, on its own clock; None if unsaid.
        answered_ns: When it was about to answer, on its own clock; None if unsaid.
    """

    kind: Kind | None
    request_id: str | None
    value: Any = None
    failure: Failure | None = None
    received_ns: int | None = None
    answered_ns: int | None = None


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A request is still being worked on."""

    request_id: str
    progress: float
    total: float | None
    message: str


@dataclass(frozen=True, kw_only=True)
class Junk:
    """A frame that means nothing in this language, and why."""

    why: str


Incoming = Welcome | Refusal | Answer | Progress | Junk


class Dialect(Protocol):
    """One message language, seen from the client. Frames are text, encoded as UTF-8."""

    name: str

    def hello(self, *, token: str | None, session_id: str | None) -> bytes:
        """The first frame of a connection."""

    def call(
        self, *, request_id: str, tool: str, arguments: dict[str, Any], key: str | None
    ) -> bytes:
        """Run a tool."""

    def ask(self, kind: Kind, request_id: str) -> bytes:
        """Ask for tools, health or a pong, or cancel the call of that id."""

    def receive(self, frame: bytes | str) -> Incoming:
        """What a frame means. Never raises: what makes no sense is `Junk`."""
