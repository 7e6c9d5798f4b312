"""
What the daemon asks of a WebSocket library, and what it is told by one.

The seam hands over whole messages. Below it: the upgrade, framing, fragments,
UTF-8, the size limit, pongs to the peer's pings and the closing handshake.
Above it: every rule of the protocol, keepalive included, so that it is the same
on all transports.

Rule: nothing here blocks or awaits. `Wire.send` takes the bytes at once; a handler
that is told `crowded` pauses reading until it is told `writable`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

__all__ = [
    "CLOSE_WITHIN_S",
    "HEAD_BYTES",
    "HIGH_WATER",
    "LARGE_BYTES",
    "Cause",
    "Handler",
    "Listen",
    "ListenOptions",
    "Listener",
    "Wire",
    "framed_bytes",
    "library_log",
]

HIGH_WATER: Final = 256 * 1024
"""Bytes of unsent output above which a peer counts as slow, where nobody says otherwise."""

LARGE_BYTES: Final = 64 * 1024
"""Of messages of this length and more a handler is asked whether it wants them."""

HEAD_BYTES: Final = 4096
"""How much it is given of those it does not want: copying the whole would hold everybody up."""

CLOSE_WITHIN_S: Final = 1.0
"""How long a peer has to complete a closing handshake before its connection is aborted."""

Cause = Literal["reset", "eof", "closed"]
"""
How a connection ended: by the peer's RST, by its FIN without a close frame, or after
a close frame (or abort) of either side.
"""


class Wire(Protocol):
    """One open connection, seen from the daemon."""

    @property
    def address(self) -> str:
        """The peer's host."""

    @property
    def received_bytes(self) -> int:
        """Frames that came from the peer, headers and masks included, without HTTP."""

    @property
    def sent_bytes(self) -> int:
        """Frames that were handed over for the peer, counted alike."""

    def send(self, data: bytes) -> None:
        """Send one text message. Dropped without a word once the connection is closing."""

    def send_all(self, messages: Sequence[bytes]) -> None:
        """Send several text messages, with one write where the library allows."""

    def send_binary(self, data: bytes) -> None:
        """The same for a binary message."""

    def ping(self) -> None:
        """Send a ping; `Handler.pong` tells of the answer."""

    def close(self, code: int, reason: str, *, within_s: float) -> None:
        """
        Start the closing handshake, behind what was sent before.

        After `within_s` seconds the connection is aborted, whatever the peer does.
        """

    def abort(self) -> None:
        """End the connection at once; unsent bytes are lost."""

    def buffered(self) -> int:
        """Bytes taken by `send` that the kernel has not taken yet."""

    def pause_reading(self) -> None:
        """Take no more from the peer. What was read already may still be handed over."""

    def resume_reading(self) -> None:
        """Undo `pause_reading`."""


class Handler(Protocol):
    """The daemon's end of one connection. `opened` comes first, `lost` last, each once."""

    def opened(self, wire: Wire) -> None:
        """The upgrade is done."""

    def messages(self, frames: Sequence[bytes | str]) -> None:
        """Whole text messages that one read brought, in order: valid UTF-8; never none."""

    def binary(self, frame: bytes) -> None:
        """A whole binary message."""

    def wants(self, size: int) -> bool:
        """Whether it reads a message of so many bytes."""

    def unwanted(self, head: bytes | str, size: int) -> None:
        """The beginning of one that it does not read; no more of it was looked at."""

    def pong(self) -> None:
        """The peer answered a ping."""

    def crowded(self) -> None:
        """The peer leaves too much untaken; told from within `send`."""

    def writable(self) -> None:
        """After that: it has taken most of it."""

    def closing(self) -> None:
        """Its closing began, whoever began it; maybe told again. What is sent now is dropped."""

    def lost(self, cause: Cause) -> None:
        """The connection is gone."""


class Listener(Protocol):
    """A listening server."""

    @property
    def port(self) -> int:
        """The port it listens on."""

    def stop(self) -> None:
        """Accept no more connections; open ones stay."""


@dataclass(frozen=True, kw_only=True)
class ListenOptions:
    """
    Where to listen, and what to bear from a peer.

    Attributes:
        host: A host name or address of this machine.
        port: 0 lets the system choose.
        max_bytes: The largest message, over all its fragments.
        upgrade_timeout_s: How long a peer may take over its HTTP request.
        high_water_bytes: With more unsent output a peer counts as slow; with less than a quarter
            of that it no longer does.
    """

    host: str
    port: int
    max_bytes: int
    upgrade_timeout_s: float
    high_water_bytes: int = HIGH_WATER


def framed_bytes(payload_bytes: int, *, masked: bool) -> int:
    """How long a frame with that payload is on the wire (RFC 6455, section 5.2)."""
    length_bytes = 0 if payload_bytes < 126 else 2 if payload_bytes < 1 << 16 else 8
    return payload_bytes + 2 + length_bytes + (4 if masked else 0)


Listen = Callable[[Callable[[], Handler], ListenOptions], Awaitable[Listener]]


def library_log() -> logging.Logger:
    """
    A logger for a WebSocket library that cannot reach DEBUG, however logging is set up.

    The libraries log frames and requests there, and so tokens.
    """
    log = logging.getLogger("harness.refdaemon.wire")
    log.setLevel(logging.ERROR)
    return log
