"""
Proxies as they are configured, and the relays that run under them.

What a proxy is told to do is kept apart from the chains of its live connections:
each connection gets the pipes its own draws allow.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from harness.address import Address
from harness.clock import Draws, now
from harness.faults.base import STREAMS, Stream, Toxic
from harness.proxy.events import EventLog
from harness.proxy.ports import Reservation, resolved
from harness.proxy.relay import Relay

__all__ = ["NamedToxic", "Own", "Proxy"]

# A bound on what takes a turn of the loop.
_CLOSING_S = 1.0


@dataclass(frozen=True)
class NamedToxic:
    """A toxic as it stands on a proxy. Names are unique over both streams."""

    name: str
    toxic: Toxic


@dataclass(frozen=True)
class Own:
    """
    What only our proxies can be told when they are made.

    Attributes:
        seed: What jitter and toxicity are drawn from; None: the server's seed.
        tap: Whether it only looks on: each chunk is told of, and an RST goes on as one, where
            Toxiproxy makes it a FIN.
    """

    seed: int | None = None
    tap: bool = False


_NOTHING: Final = Own()


class Proxy:
    """
    One listener, one upstream, toxics in order, and the connections through it.

    Attributes:
        name: Its name in the API.
        listen: Where it listens; once it has listened, with the port it was given.
        upstream: Where it connects to.
        enabled: Whether it accepts.
        toxics: The toxics in the order they were added.
        own: What only a proxy of ours can be told.
    """

    def __init__(
        self,
        name: str,
        listen: Address,
        upstream: Address,
        *,
        events: EventLog,
        seed: int,
        own: Own = _NOTHING,
    ) -> None:
        self.name = name
        self.listen = listen
        self.upstream = upstream
        self.enabled = False
        self.toxics: list[NamedToxic] = []
        self.own = own
        self._events = events
        self._seed = seed if own.seed is None else own.seed
        self._accepted = 0
        self._relays: set[Relay] = set()
        self._without_relays = asyncio.Event()
        self._without_relays.set()
        self._reservation: Reservation | None = None
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """
        Listen. Nothing happens where it does already.

        Raises:
            OSError: If the address cannot be listened on; the proxy is then disabled.
        """
        if self._server is not None:
            return
        loop = asyncio.get_running_loop()
        try:
            if self._reservation is None:
                self.listen = await resolved(self.listen)
                self._reservation = Reservation(self.listen.host, self.listen.port)
                self.listen = self._reservation.address
            # From here on a connection may come, before the server is in our hands.
            self.enabled = True
            self._server = await loop.create_server(
                lambda: Relay(self).client, self.listen.host, self.listen.port, backlog=1024
            )
        finally:
            if self._server is None:
                self.enabled = False
                self._release()
        self._events.add("enabled", proxy=self.name, detail=f"{self.listen} to {self.upstream}")

    async def stop(self, why: str = "proxy disabled") -> None:
        """
        Refuse new connections and close the live ones. The port is kept.

        Returns when their sockets are closed, a turn of the loop later: whoever were told before
        that, and sent at once, would be reset, as the kernel does where bytes are unread.
        """
        if self._server is not None:
            self._server.close()
            self._server = None
            self._events.add("disabled", proxy=self.name)
        self.enabled = False
        for relay in list(self._relays):
            relay.close(why)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSING_S):
                await self._without_relays.wait()

    async def close(self) -> None:
        """Stop, and give the port back."""
        await self.stop("proxy removed")
        self._release()

    async def move(self, listen: Address, upstream: Address) -> None:
        """Stop, and listen or connect elsewhere from the next start on. Toxics stay."""
        await self.stop("proxy changed")
        if listen != self.listen:
            self._release()
        self.listen, self.upstream = listen, upstream

    def _release(self) -> None:
        if self._reservation is not None:
            self._reservation.close()
            self._reservation = None

    def find(self, toxic: str) -> NamedToxic | None:
        """The toxic of that name."""
        return next((entry for entry in self.toxics if entry.name == toxic), None)

    def listed(self) -> list[NamedToxic]:
        """The toxics as the API lists them: upstream ones first."""
        return [e for stream in STREAMS for e in self.toxics if e.toxic.stream == stream]

    def add(self, entry: NamedToxic) -> None:
        """Put a toxic at the end of its stream's chain, on live connections too."""
        self.toxics.append(entry)
        self._note("added", entry)
        self._on_relays(entry, lambda relay: self._apply(relay, entry))

    def change(self, entry: NamedToxic) -> None:
        """Give the toxic of that name other attributes, on live connections too."""
        place = next(i for i, old in enumerate(self.toxics) if old.name == entry.name)
        self.toxics[place] = entry
        self._note("changed", entry)

        def change(relay: Relay) -> None:
            link = relay.links[entry.toxic.stream]
            stands = entry.name in link.names()
            if stands and self._hits(relay, entry):
                link.change(entry.name, entry.toxic, now())
            elif stands:
                link.remove(entry.name, now())
            else:
                self._apply(relay, entry)

        self._on_relays(entry, change)

    def remove(self, entry: NamedToxic) -> None:
        """Take a toxic away, from live connections too."""
        self.toxics.remove(entry)
        self._note("removed", entry)

        def remove(relay: Relay) -> None:
            link = relay.links[entry.toxic.stream]
            if entry.name in link.names():
                link.remove(entry.name, now())

        self._on_relays(entry, remove)

    def _on_relays(self, entry: NamedToxic, change: Callable[[Relay], None]) -> None:
        for relay in list(self._relays):
            change(relay)
            relay.pump(entry.toxic.stream)

    def _apply(self, relay: Relay, entry: NamedToxic) -> None:
        """Put a toxic on one connection, where its draw says so, in the proxy's order."""
        if not self._hits(relay, entry):
            return
        link = relay.links[entry.toxic.stream]
        order = [e.name for e in self.toxics]
        before = set(order[: order.index(entry.name)])
        index = sum(name in before for name in link.names())
        link.add(entry.name, entry.toxic.pipe(self._draws(relay, entry), now()), index=index)

    def _hits(self, relay: Relay, entry: NamedToxic) -> bool:
        return self._draws(relay, entry).at("toxicity") < entry.toxic.toxicity

    def _draws(self, relay: Relay, entry: NamedToxic) -> Draws:
        where = f"{self.name}|{entry.name}|{relay.number}|{entry.toxic.stream}"
        return Draws(self._seed, where)

    def admit(self, relay: Relay) -> Address | None:
        """Number a new connection and put the toxics on it. None: it came too late."""
        if not self.enabled:
            return None
        self._accepted += 1
        relay.number = self._accepted
        relay.taps = self.own.tap
        self._relays.add(relay)
        self._without_relays.clear()
        for entry in self.toxics:
            self._apply(relay, entry)
        return self.upstream

    def _note(self, kind: str, entry: NamedToxic) -> None:
        toxic = entry.toxic
        values = ", ".join(f"{name} {value}" for name, value in toxic.attributes().items())
        self._events.add(
            kind,
            proxy=self.name,
            stream=toxic.stream,
            toxic=entry.name,
            detail=f"{toxic.type} {values}, toxicity {toxic.toxicity:g}",
        )

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
        """Something happened on a connection."""
        self._events.add(
            kind,
            proxy=self.name,
            connection=relay.number,
            stream=stream,
            toxic=toxic,
            size=size,
            detail=detail,
        )

    def ended(self, relay: Relay) -> None:
        """A connection is no more."""
        self._relays.discard(relay)
        if not self._relays:
            self._without_relays.set()
