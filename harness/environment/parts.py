"""
What a stack is made of: who runs somewhere, and the proxy server before them.

Rule: a site knows of no proxy, a server of no site; each backend brings its own of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from harness.address import Address
from harness.daemons.base import Daemon, Limits, Provider
from harness.environment.legs import StandIn
from harness.environment.limits import BEGINNING, Mark
from harness.environment.processes import Started
from harness.proxy.control import Control, ProxyState

__all__ = [
    "ANY_PORT",
    "LOOPBACK",
    "DaemonSite",
    "Network",
    "Part",
    "ProviderSite",
    "Server",
    "Site",
]

LOOPBACK: Final = ("127.0.0.1", "127.0.0.1")
"""Where a server of this machine finds who listens here, and is found."""

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

    async def ending(self) -> bool:
        """
        Whether its end has begun, unasked, as far as the kernel tells: it closed its sockets, or
        it was killed. False where it is not ours.
        """

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
    Where a program runs that can be harmed: a daemon, or the provider behind it.

    The orders to its process are refused with `InvalidValue` where it is somebody else's.
    """

    @property
    def address(self) -> Address:
        """Where this machine reaches it, past any proxy."""

    @property
    def inner_address(self) -> Address:
        """Where its own network reaches it; without one, the same."""

    @property
    def limits(self) -> Limits:
        """Those that it has where no fault tightens them."""

    async def pause(self) -> None:
        """Freeze its processes."""

    async def resume(self) -> None:
        """Let them go on, where they are frozen."""

    async def kill(self) -> None:
        """End them at once."""

    async def stop(self, *, within_s: float) -> None:
        """Ask them to end, and kill them after that many seconds."""

    async def revive(self) -> None:
        """Start it on its old address where it does not run, and wait until it is ready."""

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


class DaemonSite(Site, Protocol):
    """
    Where a daemon runs.

    Attributes:
        daemon: Which. Where it has a provider, it must be told where that is before `start`.
    """

    daemon: Daemon

    @property
    def effects_file(self) -> Path | None:
        """Where the daemon's effects go; None where nobody can know."""

    async def connections(self) -> int | None:
        """How many connections it has, as the kernel tells; None where it does not."""

    def stand_in(self) -> StandIn:
        """A tiny server that is reached as the daemon is; or why there is none."""


class ProviderSite(Site, Protocol):
    """
    Where the provider behind a daemon runs.

    Attributes:
        provider: Which.
    """

    provider: Provider

    @property
    def executions_file(self) -> Path:
        """Where the provider's executions go."""


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
    def host_for_daemons(self) -> tuple[str, str]:
        """An address of its own to listen on for daemons, and what these call it."""

    @property
    def tapped(self) -> bool:
        """Whether a relay of ours stands between it and the daemon."""

    @property
    def witness(self) -> Control | None:
        """Who tells what happens to its connections: `Control.events`; None: nobody."""

    async def make(
        self, name: str, *, upstream: Address, listen: Address | None, seed: int | None
    ) -> ProxyState:
        """
        Make a proxy; without an address it listens on a port of loopback, which the system
        chooses.
        """

    async def remove(self, name: str) -> None:
        """Remove it; nothing, where it is gone already."""
