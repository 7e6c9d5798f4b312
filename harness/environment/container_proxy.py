"""The real Toxiproxy, in a container."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict
from itertools import count
from typing import Any, ClassVar, Final

import msgspec

from harness.address import Address
from harness.clock import now
from harness.daemons.base import Limits
from harness.environment.boxed import Boxed
from harness.environment.containers import Engine, Order
from harness.environment.engine_events import Sayings
from harness.environment.household import Household
from harness.environment.images import TOXIPROXY_IMAGE as IMAGE
from harness.environment.images import TOXIPROXY_VERSION as VERSION
from harness.environment.limits import BEGINNING, Mark
from harness.environment.logs import Log
from harness.environment.making import make_proxy, remove_proxy
from harness.environment.networks import Network
from harness.environment.parts import ANY_PORT, LOOPBACK
from harness.environment.processes import note_program, reserve_port
from harness.environment.readiness import answers
from harness.environment.threads import in_thread
from harness.errors import EnvironmentFailed, ProgramExited, ProxyError, StartTimeout
from harness.history import Recorder, Silent
from harness.proxy.control import Control, ProxyState
from harness.proxy.ports import Reservation

__all__ = ["IMAGE", "VERSION", "ContainerProxy"]

_START_TIMEOUT_S: Final = 10.0
_API_PORT: Final = 8474
# Few: each costs the engine a process or two, and the container's start some time.
_PORTS: Final = range(8666, 8674)
# Its default tells of each step inside.
_LOG: Final = {"LOG_LEVEL": "debug"}
# It has two for each connection.
_LIMITS: Final = Limits(memory_bytes=1 << 30, cpus=2.0, processes=512, descriptors=16384)
_SILENT: Final = "the real Toxiproxy tells nothing of its connections"
_UNSEEDED: Final = "the real Toxiproxy cannot be seeded"


class ContainerProxy:
    """
    Toxiproxy on the host's network: its listeners are on loopback, on ports that the system
    chose, and it reaches daemons of this machine and containers alike.

    Where this machine is not where the engine's networks are, it stands on the daemon's
    network instead, with a few ports published on loopback.

    Args:
        connect: Finds the engine.
        household: Whose it is.
        port: The port of its API; 0 lets the system choose.
        network: Where the daemons behind it stand, if they are containers.
        recorder: Where its start and end are noted.
    """

    backend: Final = "toxiproxy"
    own: Final = True
    witness: Final = None
    tapped: Final = False
    abilities: ClassVar[Mapping[str, str | None]] = {"events": _SILENT, "seed": _UNSEEDED}

    def __init__(
        self,
        connect: Callable[[], Engine],
        household: Household,
        *,
        port: int = 0,
        network: Network | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self._connect = connect
        self._port = port
        self._network = network
        self._household = household
        self._recorder: Recorder = Silent() if recorder is None else recorder
        self._box: Boxed | None = None
        self._reservation: Reservation | None = None
        self._own_address = ""
        # What is published where it stands inside: a port in there, and the one kept here.
        self._ports: dict[int, Reservation] = {}
        self._used: dict[str, int] = {}
        self._version = ""

    @property
    def program(self) -> Boxed:
        """Its container."""
        assert self._box is not None
        return self._box

    @property
    def inside(self) -> bool:
        """Whether it stands on the daemon's network."""
        return self._network is not None and self._network.path == "published"

    @property
    def host_of_harness(self) -> tuple[str, str]:
        """An address of this machine to listen on, and what it is called in there."""
        if not self.inside or self._network is None:
            return LOOPBACK
        return self._network.host_of_here

    @property
    def host_for_daemons(self) -> tuple[str, str]:
        """
        On the daemon's network its own address; on the host's that which the host has on it,
        wherever the engine's networks are.
        """
        if self._network is None:
            return LOOPBACK
        where = self._own_address if self.inside else self._network.gateway
        return where, where

    @property
    def control(self) -> Control:
        """Its API."""
        assert self._reservation is not None
        return Control(f"http://{self._reservation.address}")

    @property
    def trouble(self) -> str | None:
        """How it ended, where nobody asked it to."""
        return self.program.state if self._version and not self.program.alive else None

    async def ending(self) -> bool:
        """Whether it was killed, or exits, as far as the kernel tells."""
        return await in_thread(self.program.is_dying)

    async def start(self) -> None:
        """Start it, where it does not run yet."""
        if self._box is None:
            await in_thread(self._start)

    def _start(self) -> None:
        household = self._household
        self._reservation = reserve_port(self._port)
        where = self._reservation.address
        if self.inside:
            self._start_inside()
            return
        order = Order(
            name=self._name,
            image=IMAGE,
            run_id=household.run_id,
            command=["-host", where.host, "-port", str(where.port)],
            variables=_LOG,
            network="host",
            limits=_LIMITS,
        )
        self._begin(order)

    def _start_inside(self) -> None:
        network, where = self._network, self._reservation
        assert network is not None and where is not None
        self._own_address = network.take()
        self._ports = {inside: reserve_port() for inside in _PORTS}
        published = {inside: kept.address for inside, kept in self._ports.items()}
        published[_API_PORT] = where.address
        order = Order(
            name=self._name,
            image=IMAGE,
            run_id=self._household.run_id,
            # Its own network, and nobody else's.
            command=["-host", "0.0.0.0", "-port", str(_API_PORT)],
            variables=_LOG,
            network=network.name,
            address=self._own_address,
            ports={inside: (here.host, here.port) for inside, here in published.items()},
            limits=_LIMITS,
        )
        self._begin(order)

    @property
    def _name(self) -> str:
        return f"harness-{self._household.run_id}-toxiproxy"

    def _begin(self, order: Order) -> None:
        household = self._household
        household.reaper.contain(household.run_id)
        log = Log(household.directory / "proxy.log", kept=household.kept)
        engine = self._connect()
        silent = isinstance(self._recorder, Silent)
        heard = None if silent else Sayings("proxy", self._recorder)
        self._box = Boxed("proxy", engine, order, log=log, heard=heard)
        self._box.start()

    async def ready(self) -> None:
        """
        Wait until it answers.

        Raises:
            EnvironmentFailed: If it does not, or is another version.
        """
        if self._version:
            return
        again, began = self._connect().again, now()
        for number in count(1):
            try:
                await self._answers()
                break
            except (StartTimeout, ProgramExited) as error:
                # Of ours, in an image that is known to work: what keeps it is none of its own.
                pause_s = again.pause_s("the real Toxiproxy", number, error, since=began)
            await in_thread(self.program.remove)
            await asyncio.sleep(pause_s)
            await in_thread(self._begin, self.program.order)
        said = await self.control.version()
        if said != VERSION:
            raise EnvironmentFailed(
                f"{IMAGE} says that it is Toxiproxy {said}; expected {VERSION}",
                [("next", "`harness images --remove`, then `harness images` makes it anew")],
            )
        self._version = said
        note_program(self._recorder, self.program, "started")

    async def _answers(self) -> None:
        async def ask(_: float) -> str | None:
            try:
                await self.control.version()
            except ProxyError as error:
                return error.headline
            return None

        await answers(ask, self.program, where=self.control.url, within_s=_START_TIMEOUT_S)

    async def make(
        self, name: str, *, upstream: Address, listen: Address | None, seed: int | None
    ) -> ProxyState:
        """
        Make a proxy; without an address it listens on a loopback port the system chooses.

        Raises:
            EnvironmentFailed: If it cannot be made, or all that is published is in use.
        """
        for_daemons = listen is not None and listen.host == self._own_address
        if not self.inside or for_daemons:
            return await make_proxy(
                self.control, name, upstream=upstream, listen=listen or ANY_PORT, seed=seed
            )
        free = [port for port in self._ports if port not in self._used.values()]
        if listen is not None or not free:
            why = "cannot be told where to listen" if listen else f"has all {len(_PORTS)} in use"
            raise EnvironmentFailed(f"a Toxiproxy with published ports {why}")
        inner = Address("0.0.0.0", free[0])
        self._used[name] = free[0]
        try:
            state = await make_proxy(self.control, name, upstream=upstream, listen=inner, seed=seed)
        except BaseException:
            del self._used[name]
            raise
        return msgspec.structs.replace(state, listen=str(self._ports[free[0]].address))

    async def remove(self, name: str) -> None:
        """Remove it; nothing, where it is gone already."""
        await remove_proxy(self.control, name)
        self._used.pop(name, None)

    async def end(self) -> None:
        """End it and give its port back."""
        self._version = ""
        try:
            if self._box is not None and self._box.started:
                await in_thread(self._box.remove)
                note_program(self._recorder, self._box, "ended")
        finally:
            for kept in (self._reservation, *self._ports.values()):
                if kept is not None:
                    kept.close()
            if self._network is not None and self._own_address:
                self._network.give_back(self._own_address)

    async def mark(self) -> Mark:
        """This moment."""
        return await in_thread(self.program.mark)

    async def limits_hit(self, *, since: Mark = BEGINNING) -> list[str]:
        """The limits that it hit, each in words."""
        if self._box is None or not self._box.started:
            return []
        return await in_thread(self._box.limits_hit, _LIMITS, since=since)

    def written(self, *, since: int = 0) -> str:
        """What it wrote to its log from that byte on."""
        return self.program.written(since=since)

    def log_bytes(self) -> int:
        """How long that log is."""
        return self.program.log_bytes()

    def describe(self) -> Mapping[str, Any]:
        """Its image, its version and where it is."""
        return {
            "container": self.program.order.name,
            "image": IMAGE,
            "image_id": self.program.box.image_id,
            "version": self._version,
            "api": self.control.url,
            "limits": asdict(_LIMITS),
            "set_up_again": self._connect().again.told,
        }
