"""What an engine hands on of a container's output, taken apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Final, TypeVar

from harness.environment.containers.order import Said

__all__ = ["stamped", "until_it_breaks", "whole_lines"]

_TO_SECONDS: Final = len("2026-11-23T04:19:56")
_TO_NANOSECONDS: Final = len("2026-11-23T04:19:56.123456789")
_SECOND_NS: Final = 1_000_000_000

T = TypeVar("T")


def until_it_breaks(stream: Iterable[T]) -> Iterator[T]:
    """
    What comes of a stream of the engine's. One that breaks off, or that another thread hung up
    on, has ended, whatever that raises in there; what is behind it is asked afterwards.
    """
    with suppress(Exception):
        yield from stream


def stamped(piece: bytes) -> Said:
    """
    A message of its log: the engine puts the moment before each.

    A line longer than 16 KiB comes as several. What has no stamp is whole, and at 0.
    """
    stamp, _, text = piece.partition(b" ")
    try:
        return Said(_ns(stamp.decode("ascii")), text)
    except ValueError:
        return Said(0, piece)


def _ns(stamp: str) -> int:
    """RFC 3339 with nine digits of a second, which is more than Python's own clock has."""
    zone = stamp[_TO_NANOSECONDS:].replace("Z", "+00:00")
    seconds = datetime.fromisoformat(stamp[:_TO_SECONDS] + zone).timestamp()
    return int(seconds) * _SECOND_NS + int(stamp[_TO_SECONDS + 1 : _TO_NANOSECONDS])


def whole_lines(pieces: Iterable[bytes | str]) -> Iterator[bytes]:
    """Of a container with a terminal, whose output comes without bounds: its lines."""
    rest = b""
    for piece in pieces:
        rest += piece.encode() if isinstance(piece, str) else piece
        *lines, rest = rest.split(b"\n")
        yield from (line + b"\n" for line in lines)
    if rest:
        yield rest
