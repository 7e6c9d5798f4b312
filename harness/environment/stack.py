"""
A daemon and a proxy server that run somewhere: two choices, independent of each other.

A `Site` is where the daemon runs, a `Server` the proxy server that stands before it.
Each backend brings its own; neither knows of the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

from harness.address import Address
from harness.clock import clock_id
from harness.daemons.base import Daemon
from harness.environment.abilities import abilities_of, reset_abilities
from harness.environment.clean_up import begin, put_away, side_by_side
from harness.environment.household import Household
from harness.environment.legs import Leg, StandIn, try_leg
from harness.environment.limits import BEGINNING, Mark
from harness.environment.own import own_use, refuse_when_full
from harness.environment.probe import ResetPath, probe_reset
from harness.environment.processes import Started
from harness.environment.threads import in_thread
from harness.errors import HarnessError
from harness.history import Recorder, Silent
from harness.proxy.control import Control, ProxyState

__all__ = ["ANY_PORT", "LOOPBACK", "Marks", "Server", "Site", "Stack"]

_INSIDE: Final = "not tried: both stand on the daemon's network, with nothing between them"
_LOOPBACK: Final = "not tried: both are on this machine's loopback, with nothing between them"

LOOPBACK: Final = ("127.0.0.1", "127.0.0.1")
"""Where a server of this machine finds who listens here."""

Marks = tuple[Mark, Mark]
"""A moment of a daemon, and of the proxy server before it."""

ANY_PORT: Final = Address("127.0.0.1", 0)
"""Loopback, on a port that the system chooses."""


class Part(Protocol):
    """What sites and servers have in common."""

    @property
    def backend(self) -> str:
        """Its word in headers and reports: "local", "attached", "embedded", "toxiproxy"."""

    @property
    def program(self) -> Started:
        """Its process or container; `InvalidValue` where somebody else started it."""

    @property
    def own(self) -> bool:
        """Whether it is ours to pause and to end, with all that is on it."""

    @property
    def trouble(self) -> str | None:
        """How it ended, where nobody asked it to."""

    async def start(self) -> None:
        """Set it going where it is not; it need not be ready yet."""

    async def ready(self) -> None:
        """Wait, bounded, until it can be used."""

    async def end(self) -> None:
        """Put away what was started. Nothing, where nothing was."""

    @property
    def abilities(self) -> Mapping[str, str | None]:
        """What can be done with it: None, or why it cannot; see `abilities`."""

    async def mark(self) -> Mark:
        """This moment, for what is asked of it later."""

    async def limits_hit(self, *, since: Mark = BEGINNING) -> list[str]:
        """
        The limits that it hit after that, each in words; never an error, after it has ended
        neither.
        """

    def describe(self) -> Mapping[str, Any]:
        """What environment.json says of it. No secret is in it."""

    def written(self, *, since: int = 0) -> str:
        """What it wrote to its log from that byte on; "" where nobody can know."""

    def log_bytes(self) -> int:
        """How long that log is."""


class Network(Protocol):
    """What containers stand on. Its methods block."""

    def open(self) -> None:
        """Make it."""

    def close(self) -> None:
        """Remove it; nothing, where it was not made."""


class Site(Part, Protocol):
    """
    Where a daemon runs.

    The orders to its process are refused with `InvalidValue` where it is somebody else's.
    """

    daemon: Daemon

    @property
    def address(self) -> Address:
        """Where this machine reaches the daemon, past any proxy."""

    @property
    def inner_address(self) -> Address:
        """Where its own network reaches it; without one, the same."""

    @property
    def effects_file(self) -> Path | None:
        """Where the daemon's effects go; None where nobody can know."""

    async def pause(self) -> None:
        """Freeze its processes."""

    async def resume(self) -> None:
        """Let them go on, where they are frozen."""

    async def kill(self) -> None:
        """End them at once."""

    async def stop(self, *, within_s: float) -> None:
        """Ask them to end, and kill them after that many seconds."""

    async def revive(self) -> None:
        """Start the daemon on its old address where it does not run, and wait for its hello."""

    async def disconnect(self) -> None:
        """Cut it off its network."""

    async def connect(self) -> None:
        """Put it back, with its old address, where it was cut off."""

    async def limit(
        self,
        *,
        memory_bytes: int | None = None,
        cpus: float | None = None,
        descriptors: int | None = None,
    ) -> None:
        """Tighten those of its limits that are given."""

    async def unlimit(self) -> None:
        """Put its usual limits back, where they were tightened."""

    async def silent(self) -> bool:
        """Whether nobody listens for it any more: closing its sockets is how its end begins."""

    async def connections(self) -> int | None:
        """How many connections it has, as the kernel tells; None where it does not."""

    def stand_in(self) -> StandIn:
        """A tiny server that is reached as the daemon is; or why there is none."""


class Server(Part, Protocol):
    """A proxy server."""

    @property
    def control(self) -> Control:
        """Its API."""

    @property
    def inside(self) -> bool:
        """Whether it stands on the daemon's network, and so reaches the daemon's own address."""

    @property
    def host_of_harness(self) -> tuple[str, str]:
        """An address of this machine to listen on, and what the server calls it."""

    @property
    def tapped(self) -> bool:
        """Whether a relay of ours stands between it and the daemon."""

    @property
    def witness(self) -> Control | None:
        """Who tells what happens to its connections: `Control.events`; None: nobody."""

    async def make(
        self, name: str, *, upstream: Address, listen: Address | None, seed: int | None
    ) -> ProxyState:
        """Make a proxy; without an address it listens on a loopback port the system chooses."""

    async def remove(self, name: str) -> None:
        """Remove it; nothing, where it is gone already."""


class Stack:
    """
    A daemon and a proxy server, up while the block lasts.

    Args:
        household: Whose they are.
        site: Where the daemon runs.
        server: What stands before it.
        recorder: Where starts and ends are noted.
        network: Where the daemon stands, opened and closed with the stack; None where there is
            none, or it is others' too.
        lent: Whether others use the server too: it is started where it does not run yet, and
            not ended.

    Attributes:
        tightened: The limits of the daemon that faults in place have tightened, by fault.
    """

    def __init__(
        self,
        household: Household,
        site: Site,
        server: Server,
        *,
        lent: bool = False,
        network: Network | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self.household = household
        self.site = site
        self.server = server
        self.ends_server = server.own and not lent
        self.recorder: Recorder = Silent() if recorder is None else recorder
        self.tightened: dict[object, dict[str, Any]] = {}
        self._network = network
        self._resets: ResetPath | None = None

    @property
    def run_id(self) -> str:
        """Names everything that belongs to it."""
        return self.household.run_id

    @property
    def daemon(self) -> Daemon:
        """Who is tested."""
        return self.site.daemon

    @property
    def control(self) -> Control:
        """The proxy server's API."""
        return self.server.control

    @property
    def resets(self) -> ResetPath | None:
        """What became of resets on the way to a client, once that was probed."""
        return self._resets

    @property
    def abilities(self) -> dict[str, str | None]:
        """What can be done here: None, or why it cannot. Resets are among them once probed."""
        return {
            **self.site.abilities,
            **self.server.abilities,
            **abilities_of(self.daemon),
            **({} if self._resets is None else reset_abilities(self._resets)),
        }

    async def probe(self, known: ResetPath | None = None) -> ResetPath:
        """Look at the path, where it is not known. From then on what cannot be done is refused."""
        self._resets = known or self._resets
        if self._resets is None:
            self._resets = await self.look_at_path()
        return self._resets

    async def look_at_path(self) -> ResetPath:
        """Find out whether a reset gets over each leg of this path; nothing is refused for it."""
        name = f"harness-probe-{self.run_id}"
        found = await probe_reset(self.control, name=name, maker=self.server)
        return replace(found, legs=await self._legs(found))

    async def _legs(self, found: ResetPath) -> tuple[Leg, ...]:
        """From the client to the daemon; and past the server, where that is another way."""
        server = self.server.backend
        legs = [
            Leg(
                begins="client",
                ends=server,
                reset=found.live or found.armed,
                seen=found.reason,
                round_trip_ms=found.round_trip_ms,
            )
        ]
        if self.server.inside:
            legs.append(Leg(begins=server, ends="daemon", reset=None, seen=_INSIDE))
            return *legs, await try_leg("harness", "daemon", self.site.stand_in())
        if self.server.tapped:
            legs.append(Leg(begins=server, ends="tap", reset=None, seen=_LOOPBACK))
        dials = "tap" if self.server.tapped else server
        return *legs, await try_leg(dials, "daemon", self.site.stand_in())

    async def mark(self) -> Marks:
        """This moment of the daemon and of the proxy server."""
        return await self.site.mark(), await self.server.mark()

    async def limits_hit(self, *, since: Marks = (BEGINNING, BEGINNING)) -> list[str]:
        """The limits that the daemon or the proxy server hit after that, each in words."""
        of_daemon, of_server = since
        # Side by side: where no kernel is at hand, an engine takes a second for each.
        found, hit = await asyncio.gather(
            self.site.limits_hit(since=of_daemon), self.server.limits_hit(since=of_server)
        )
        return [*found, *(f"{line} (the proxy server's)" for line in hit)]

    async def __aenter__(self) -> Self:
        """Start both and wait until both answer. Where that fails, nothing is left."""
        refuse_when_full()
        try:
            self.household.open()
            if self._network is not None:
                await in_thread(self._network.open)
            await begin(self.server.start(), self.site.start())
            await self.server.ready()
            await self.site.ready()
        except BaseException as error:
            if isinstance(error, HarnessError) and not self.household.kept:
                # They help; that they cannot be read must keep nothing from being put away.
                with suppress(OSError):
                    error.logs = self.household.logs()
            await self._close(error)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End both, bounded in time, and look that nothing is left."""
        await self._close(error)

    async def _close(self, error: BaseException | None) -> None:
        """Everything that was started is ended; each step, whatever the others did."""
        steps: list[Coroutine[Any, Any, object]] = [self._end_both()]
        if self._network is not None:
            steps.append(in_thread(self._network.close))
        await put_away(error, self.household.close(*steps))

    async def _end_both(self) -> None:
        parts: list[Part] = [self.site, self.server] if self.ends_server else [self.site]
        await put_away(None, *side_by_side(*(part.end() for part in parts)))

    def describe(self) -> dict[str, Any]:
        """What environment.json says of it. No secret is in it."""
        return {
            "backend": self.site.backend,
            "proxy": self.server.backend,
            "run_id": self.run_id,
            "clock": clock_id(),
            "daemon": dict(self.site.describe()),
            "server": dict(self.server.describe()),
            "abilities": self.abilities,
            "path": None if self._resets is None else asdict(self._resets),
            "harness": own_use(),
        }
