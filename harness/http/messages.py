"""What a server is asked and what it says: values without I/O."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qs

__all__ = ["TEXT", "Header", "Options", "Request", "Response", "Stream"]

TEXT: Final = "text/plain; charset=utf-8"

Header = tuple[str, str]
"""A header's name and value."""


@dataclass(frozen=True)
class Request:
    """
    One request, whole.

    Attributes:
        method: As it came; case counts.
        target: Path and query, still quoted.
        headers: By name in lower case; of those that came more than once the values are joined by
            commas. Bytes above 127 are in there as latin-1 has them.
        body: b"" where there is none.
    """

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def path(self) -> str:
        """The target without its query, still quoted."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> Mapping[str, str]:
        """The values of the query by name; of several of one name the last."""
        found = parse_qs(self.target.partition("?")[2], keep_blank_values=True)
        return {name: values[-1] for name, values in found.items()}


@dataclass(frozen=True)
class Response:
    """
    One answer, whole.

    Attributes:
        status: 200 to 599.
        body: What follows the headers; none goes with status 204 and 304.
        content_type: None leaves the header out.
        headers: What else is said; length and connection are the server's own business.
    """

    status: int
    body: bytes = b""
    content_type: str | None = None
    headers: tuple[Header, ...] = ()


@dataclass(frozen=True)
class Stream:
    """
    An answer that comes in pieces, and whose connection ends with it.

    It ends when the chunks do, when the peer leaves (a peer that says it sends no more has left),
    or when a chunk is not taken within the server's write time-out. The generator is closed then.

    Attributes:
        status: 200 to 599.
        content_type: Of all of it.
        chunks: The pieces, none of them empty. Each is written before the next is asked for.
    """

    status: int
    content_type: str
    chunks: AsyncGenerator[bytes, None]


def _plain(status: int, text: str) -> Response:
    return Response(status, f"{text}\n".encode(), TEXT)


def _nothing() -> tuple[Header, ...]:
    return ()


@dataclass(frozen=True, kw_only=True)
class Options:
    """
    The bounds and habits of one server; times in seconds.

    Attributes:
        name: Whose it is, for its log lines.
        idle_timeout_s: How long a connection may bring no request.
        read_timeout_s: From the first byte of a request to its last.
        answer_timeout_s: How long an answer may take to be made; then it is a 503.
        write_timeout_s: How long the peer may take over an answer, or over one chunk of a stream.
        linger_s: How long what is left of a refused request is read and thrown away. Closing on
            unread bytes would send a reset, and the reset would overtake the answer.
        max_body_bytes: A request's body above that is answered 413.
        refuse_browsers: Whether a web page is kept from driving the program through its reader's
            browser: who calls itself Mozilla is answered 403.
        failed: Words an answer that could not be made: status 500 or 503, and a sentence.
        every_answer: Headers that go with each answer, asked for each time.
    """

    name: str = "http"
    idle_timeout_s: float = 60.0
    read_timeout_s: float = 15.0
    answer_timeout_s: float = 25.0
    write_timeout_s: float = 30.0
    linger_s: float = 2.0
    max_body_bytes: int = 1 << 20
    refuse_browsers: bool = False
    failed: Callable[[int, str], Response] = _plain
    every_answer: Callable[[], tuple[Header, ...]] = _nothing
