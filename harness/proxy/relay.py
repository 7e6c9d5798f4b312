"""
Sockets to links and back: one accepted client, one connection upstream.

With no toxic in a chain, bytes go straight from socket to socket in the protocol
callback. Back-pressure is TCP's own: a side is read only while the other side's
buffer and the toxics between them have room.

Like Toxiproxy, a relay keeps no connection half-closed: the end of one direction
is delivered after the bytes before it, then both sockets are closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Any, Protocol, cast

from harness.address import Address
from harness.clock import now
from harness.faults.base import RESET, Piece, Stream
from harness.proxy.link import Link

__all__ = ["Relay", "RelayOwner"]

_DIAL_TIMEOUT_S = 10.0
_LINGER_ZERO = struct.pack("ii", 1, 0)


class RelayOwner(Protocol):
    """Who takes relays on, and is told what becomes of them."""

    def admit(self, relay: Relay) -> Address | None:
        """A client is there: number it, give it its toxics, say where to connect; None: nowhere."""

    def event(
        self,
        kind: str,
        relay: Relay,
        *,
        stream: Stream | None = None,
        toxic: str | None = None,
        size: int | None = None,
        detail: str | None = None,
    ) -> None:
        """Something happened on it."""

    def ended(self, relay: Relay) -> None:
        """Both its sockets are closed."""


class _Side(asyncio.Protocol):
    """One of the two sockets. What it reads goes into `stream`."""

    def __init__(self, relay: Relay, stream: Stream) -> None:
        self.relay = relay
        self.stream: Stream = stream
        self.link = relay.links[stream]
        self.transport: asyncio.Transport | None = None
        self.congested = False
        self.gone = False
        self.silent = False
        self.read_bytes = 0
        # Of these what toxics hold, or have thrown away.
        self.kept_bytes = 0
        # Writes to the other socket; set once both are there.
        self.write_out: Callable[[bytes], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do what asyncio.Transport does and do not derive from it.
        self.transport = transport = cast("asyncio.Transport", transport)
        if self.relay.stopped:
            transport.abort()
        elif self.stream == "upstream":
            self.relay.begin()

    def data_received(self, data: bytes) -> None:
        self.read_bytes += len(data)
        if self.relay.taps:
            self.relay.passed(self.stream, len(data))
        if self.link.straight and self.write_out is not None:
            self.write_out(data)
        else:
            self.kept_bytes += len(data)
            self.link.receive_data(data, now())
            self.relay.pump(self.stream)

    def eof_received(self) -> bool:
        self.relay.source_ended(self, "fin")
        # Stay open for writing: the other direction ends when its own end is delivered.
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        # uvloop's transports raise when written to after this.
        self.relay.source_of(self).write_out = None
        self.relay.source_ended(self, "reset" if isinstance(exc, ConnectionError) else "closed")
        self.relay.side_gone()

    def pause_writing(self) -> None:
        self.congested = True
        self.relay.steer_reading(self.relay.source_of(self))

    def resume_writing(self) -> None:
        self.congested = False
        self.relay.steer_reading(self.relay.source_of(self))

    def is_open(self) -> bool:
        return self.transport is not None and not self.gone and not self.transport.is_closing()


class Relay:
    """
    One proxied connection.

    Attributes:
        number: Counts the connections of its proxy from 1; 0 until its client is there.
        links: The two directions.
        ending: Who began to end it and how, None while nobody did.
        taps: Whether it only looks on: each chunk is told of, and an RST goes on as one.
        stopped: Nothing moves any more; what sockets it has are being closed.
    """

    def __init__(self, owner: RelayOwner) -> None:
        self.number = 0
        self.taps = False
        self.links: dict[Stream, Link] = {"upstream": Link(), "downstream": Link()}
        self.ending: str | None = None
        self.stopped = False
        self.client = _Side(self, "upstream")
        self._daemon = _Side(self, "downstream")
        self._owner = owner
        self._timers: dict[Stream, asyncio.TimerHandle] = {}
        self._dialling: asyncio.Task[None] | None = None
        self._over = False

    def begin(self) -> None:
        """Connect upstream, in a task of its own, so that a slow upstream stalls nobody else."""
        upstream = self._owner.admit(self)
        if upstream is None:
            self._over = True
            self.close("not admitted")
            return
        self._owner.event("opened", self)
        self._dialling = asyncio.get_running_loop().create_task(self._dial(upstream))

    def passed(self, stream: Stream, size: int) -> None:
        """A chunk was read."""
        self._owner.event("passed", self, stream=stream, size=size)

    async def _dial(self, upstream: Address) -> None:
        loop = asyncio.get_running_loop()
        connected = False
        try:
            async with asyncio.timeout(_DIAL_TIMEOUT_S):
                await loop.create_connection(lambda: self._daemon, upstream.host, upstream.port)
            connected = True
        # ValueError: a name that cannot even be asked for.
        except (OSError, ValueError) as error:
            why = str(error) or f"no answer within {_DIAL_TIMEOUT_S:g} s"
            self._owner.event("unreachable", self, detail=f"{upstream}: {why}")
            self.close("upstream unreachable")
            return
        finally:
            if not connected:
                # Cancelled late, uvloop closes a transport whose protocol has seen
                # connection_made, and calls no connection_lost.
                self._daemon.gone = True
                self.side_gone()
        # Either side may have ended already: then its own end is under way in its link.
        for stream in self.links:
            source, destination = self._ends(stream)
            if destination.transport is not None and not destination.gone:
                source.write_out = destination.transport.write
            self.pump(stream)

    def source_of(self, side: _Side) -> _Side:
        """The side whose bytes are written to that one."""
        return self._daemon if side is self.client else self.client

    def _ends(self, stream: Stream) -> tuple[_Side, _Side]:
        """Source and destination of one direction."""
        if stream == "upstream":
            return self.client, self._daemon
        return self._daemon, self.client

    def source_ended(self, side: _Side, how: str) -> None:
        """A socket will give no more bytes."""
        if self.ending is None:
            self.ending = f"{'client' if side is self.client else 'daemon'} {how}"
        if self.taps and how == "reset":
            # What came before it was written on at once: a tap has no toxics.
            self._break()
        if not side.silent:
            side.silent = True
            side.link.receive_eof(now())
            self.pump(side.stream)

    def pump(self, stream: Stream) -> None:
        """Write what is due in one direction, and wake up for the rest."""
        if self.stopped:
            return
        link = self.links[stream]
        source, destination = self._ends(stream)
        if destination.transport is None:
            # Still dialling: what came waits in the link, no more is read, the dial pumps.
            self.steer_reading(source)
            return
        pieces = link.advance(now())
        touches = link.take_touches()
        for toxic, touch in touches:
            self._owner.event(touch.kind, self, stream=stream, toxic=toxic, size=touch.bytes)
            if touch.kind in ("cut", "reset") and self.ending is None:
                self.ending = f"toxic {toxic} {touch.kind}"
        for piece in pieces:
            self._put(destination, piece)
        self.steer_reading(source)
        self._rearm(stream)

    def _put(self, destination: _Side, piece: Piece) -> None:
        if piece is RESET:
            self._break()
        elif destination.is_open():
            assert destination.transport is not None
            if isinstance(piece, bytes):
                self.source_of(destination).kept_bytes -= len(piece)
                destination.transport.write(piece)
            else:
                # Sends what is buffered, then FIN.
                destination.transport.close()

    def steer_reading(self, source: _Side) -> None:
        """Read a side only while there is room for what it gives."""
        if source.silent or not source.is_open():
            return
        assert source.transport is not None
        destination = self.source_of(source)
        roomy = destination.transport is not None and not destination.congested
        if roomy and source.link.wants_more:
            source.transport.resume_reading()
        else:
            source.transport.pause_reading()

    def _rearm(self, stream: Stream) -> None:
        if stream in self._timers:
            self._timers.pop(stream).cancel()
        due = self.links[stream].next_due()
        if due is not None and not self.links[stream].ended and not self.stopped:
            # A timer may fire early (uvloop's by up to a millisecond): pump looks at the time.
            delay = max(0.0, due - now())
            loop = asyncio.get_running_loop()
            self._timers[stream] = loop.call_later(delay, self.pump, stream)

    def close(self, why: str) -> None:
        """Close both sockets now. What the kernel holds is still sent, with FIN behind it."""
        self.ending = self.ending or why
        for side in (self.client, self._daemon):
            if side.transport is not None and not side.gone:
                side.transport.abort()
        self._stop()

    def _break(self) -> None:
        """Reset both connections."""
        for side in (self.client, self._daemon):
            if side.transport is not None and not side.gone:
                reset(side.transport)
        self._stop()

    def _stop(self) -> None:
        self.stopped = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        if self._dialling is not None:
            self._dialling.cancel()

    def side_gone(self) -> None:
        """A socket is closed; when both are, say so once."""
        daemon_gone = self._daemon.gone or self._daemon.transport is None
        if self.client.gone and daemon_gone and not self._over:
            self._over = True
            self._stop()
            self._owner.event("closed", self, detail=self._tale())
            self._owner.ended(self)

    def _tale(self) -> str:
        return f"{self.ending}; {_carried(self.client)} up, {_carried(self._daemon)} down"


def _carried(side: _Side) -> str:
    """What was read from a side, and where that is less, what of it went on."""
    read, kept = side.read_bytes, side.kept_bytes
    return f"{read} bytes ({read - kept} passed on)" if kept else f"{read} bytes"


def reset(transport: asyncio.Transport) -> None:
    """Close a connection with RST. Linger must be set before: abort() alone sends FIN."""
    peer: Any = transport.get_extra_info("socket")
    with contextlib.suppress(OSError):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    transport.abort()
