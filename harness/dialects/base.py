"""
What a client needs of a message language.

A dialect turns requests into frames and frames into what they mean. It sends and
receives nothing itself. The least there is to one: a name, `call` and `receive`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.errors import InvalidValue

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
        resumed: Whether it remembers that session; None if it does not say.
    """

    session_id: str
    promises: tuple[str, ...] = ()
    clock: str = ""
    resumed: bool | None = None


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
        value: What was asked for: outputs (text, bytes, or objects with a `text`), tools, a
            health report.
        failure: The error instead of a value.
        received_ns: When the daemon had read the request, on its own clock; None if unsaid.
        began_ns: When the tool began to work, on its own clock; None if unsaid.
        answered_ns: When it was about to answer, on its own clock; None if unsaid.
        replayed: Whether it says that the tool ran for an earlier request of the same key.
    """

    kind: Kind | None
    request_id: str | None
    value: Any = None
    failure: Failure | None = None
    received_ns: int | None = None
    began_ns: int | None = None
    answered_ns: int | None = None
    replayed: bool = False


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


class Dialect(ABC):
    """
    One message language, seen from the client.

    Attributes:
        name: What errors call it.
        questions: What `ask` can ask.
        one_at_a_time: Whether answers name no request. Then one request at a time is under
            way, and an answer without an id is its.
    """

    questions: frozenset[Kind] = frozenset()
    one_at_a_time: bool = False

    def __eq__(self, other: object) -> bool:
        """The same language, whoever made it: tests share the daemons that are equal."""
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(type(self))

    @property
    @abstractmethod
    def name(self) -> str:
        """What errors call it; a class attribute will do."""

    def hello(self, *, token: str | None, session_id: str | None) -> bytes | None:
        """
        The first frame of a connection, answered with a `Welcome` or a `Refusal`.

        None where there is no hello: whose upgrade is answered, is taken in.
        """
        return None

    @abstractmethod
    def call(
        self, *, request_id: str, tool: str | bytes, arguments: dict[str, Any], key: str | None
    ) -> bytes | str:
        """
        Run a tool. The frame goes out as text; where `tool` is bytes, as binary.

        Raises:
            InvalidValue: If this language cannot say it.
            TypeError, ValueError: If the arguments cannot be encoded.
        """

    def ask(self, kind: Kind, request_id: str) -> bytes:
        """
        Ask for tools, health or a pong, or cancel the call of that id.

        Raises:
            InvalidValue: If this language has no such question.
        """
        raise InvalidValue(
            f'dialect "{self.name}" has no such question: {kind}',
            [
                ("has", ", ".join(sorted(self.questions)) or "calls alone"),
                ("next", "ask the daemon in its own words, with a call"),
            ],
        )

    @abstractmethod
    def receive(self, frame: bytes | str) -> Incoming:
        """What a frame means. Never raises: what makes no sense is `Junk`."""

    def fingerprint(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """
        What of a health report must be the same before and after a test that shared the daemon.

        Empty where nothing can be told.
        """
        return {}
