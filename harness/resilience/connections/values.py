"""What is sent, what became of it, and what a connection must be able to do."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import msgspec

from harness.resilience.settings import Settings, key

__all__ = [
    "GOING_AWAY",
    "ConnectionSettings",
    "Delivery",
    "End",
    "Farewell",
    "Message",
    "Transport",
    "digest_of",
]

GOING_AWAY: Final = 1001
"""The close code of a daemon that goes away, or of a peer that is sent away for being idle."""

End = Literal["acknowledged", "sent", "dropped", "expired", "left", "poison"]
"""
How a critical message ended: the peer has it; a transport took it, where nobody acknowledges;
it made room for a younger one; it waited for too long; its session was given up; or every
transport failed over it.
"""


class Transport(Protocol):
    """
    One open connection.

    Nothing here awaits or blocks. The daemon's transports (picows, `websockets`) are such, and so
    is any object of a test.
    """

    def send(self, data: bytes, /) -> None:
        """Take one message. What it raises says nothing of whether the message left."""

    def send_all(self, messages: Sequence[bytes], /) -> None:
        """Take several at once."""

    def ping(self) -> None:
        """Ask for a sign of life; the answer comes back by `Connections.heard`."""

    def close(self, code: int, reason: str, *, within_s: float) -> None:
        """Close behind what was sent, and abort after so many seconds."""

    def abort(self) -> None:
        """End at once; unsent bytes are lost."""

    def buffered(self) -> int:
        """Bytes taken and not yet handed to the system."""


class Message(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """
    What is to be sent.

    Attributes:
        data: The bytes.
        id: Its name within its session. Messages of one name are one message: a repetition is
            answered and not sent. Names are the caller's: two messages that look alike
            may both be meant. None: it is nobody's repetition.
        critical: Whether it is worth keeping while the peer is away.
    """

    data: bytes
    id: str | None = None
    critical: bool = False


def digest_of(data: bytes) -> str:
    """
    A name for those whose messages are what they say: the SHA-256 of the bytes, in hex.

    Not for replies: two clients' `hello_ack` look alike, and both wait for theirs.
    """
    return hashlib.sha256(data).hexdigest()


class Delivery(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """
    What became of a message as far as can be said at once.

    Attributes:
        outcome: "sent": a transport took it. "queued": it is kept, and sent when the peer is
            back. "refused": it is not kept.
        why: Why not sent, in words.
        repeated: Whether it is a repetition of one that has that outcome.
        may_have_left: Whether a transport had it and failed: a refused message of which nobody
            can say that the peer did not get it.
    """

    outcome: Literal["sent", "queued", "refused"]
    why: str = ""
    repeated: bool = False
    may_have_left: bool = False


@dataclass(frozen=True, kw_only=True)
class Farewell:
    """
    What a shutdown came to.

    Attributes:
        sessions: How many there were.
        closed: How many of them had a connection that was closed with 1001.
        left: Critical messages that were never acknowledged, or never sent: by session.
    """

    sessions: int
    closed: int
    left: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class ConnectionSettings(Settings):
    """What is kept for peers that come and go, and when a silent one is gone."""

    keep: Literal["until_acknowledged", "until_sent"] = key(
        "until_acknowledged",
        live=False,
        about="how long a critical message is kept: until the peer says that it has it, or until"
        " a transport took it",
        advice='"until_sent" for peers that acknowledge nothing; what was under way when a'
        " connection broke is lost then",
    )
    max_sessions: int = key(
        1_000,
        low=1,
        high=10_000_000,
        about="sessions remembered, those without a connection included; for a new one, the one"
        " longest without goes",
    )
    session_ttl_s: float = key(
        300.0,
        low=0,
        high=604_800,
        about="how long a session without a connection is remembered",
        advice="longer than the longest wait of a reconnecting client",
    )
    queue_messages: int = key(
        1_000,
        low=1,
        high=10_000_000,
        about="critical messages kept for one session; the oldest makes room",
        variable="EXAI_QUEUE_MESSAGES",
    )
    queue_bytes: int = key(
        4_194_304, low=1, high=2**40, about="their bytes, for one session; the oldest make room"
    )
    message_ttl_s: float = key(
        300.0,
        above=0,
        high=604_800,
        about="a critical message that was kept for so long is sent no more",
        variable="EXAI_MESSAGE_TTL_S",
    )
    max_tries: int = key(
        5,
        low=1,
        high=1_000,
        about="a message over which so many transports failed is given up: it may be what breaks"
        " them",
    )
    repeat_ttl_s: float = key(
        300.0,
        low=0,
        high=604_800,
        about="how long a message's name is remembered after it was sent, to know a repetition",
        variable="EXAI_DEDUP_TTL_S",
    )
    repeat_names: int = key(
        10_000, low=0, high=10_000_000, about="how many such names are remembered for one session"
    )
    ping_interval_s: float = key(
        30.0,
        above=0,
        high=86_400,
        about="a peer of whom nothing came for so long is pinged",
        variable="EXAI_WS_PING_INTERVAL",
        advice="shorter than what the shortest-tempered proxy on the way allows a silent"
        " connection, often 60 s",
    )
    ping_timeout_s: float = key(
        10.0,
        above=0,
        high=86_400,
        about="a peer of whom nothing came for so long after a ping is gone",
        variable="EXAI_WS_PING_TIMEOUT",
        advice="a half-open connection holds its place for both times together",
    )
    idle_s: float | None = key(
        None,
        above=0,
        high=604_800,
        about="a peer that sent no message for so long is closed, however well it answers pings",
        advice='"none" where clients may be quiet',
    )
    high_water_bytes: int = key(
        262_144,
        low=0,
        high=2**40,
        live=False,
        about="with more unsent bytes a peer counts as slow, and gets only what is critical, later",
    )
    shutdown_s: float = key(
        30.0, above=0, high=3_600, about="how long a shutdown may take, the closing included"
    )

    def contradictions(self) -> Iterable[tuple[tuple[str, ...], str]]:
        if self.idle_s is not None and self.idle_s < self.ping_interval_s:
            yield (
                ("idle_s", "ping_interval_s"),
                f"{self.idle_s:g} is less than ping_interval_s, {self.ping_interval_s:g}: a peer"
                " would be closed before it was ever asked whether it is there",
            )
