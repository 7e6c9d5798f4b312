"""
A daemon in a container of its own.

Ready means a completed hello on its own address. It keeps that address while it is stopped,
and gets it back after it was cut off its network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from harness.address import Address
from harness.clock import now
from harness.daemons.base import Daemon
from harness.environment.abilities import OF_THE_DAEMON
from harness.environment.boxed import Boxed
from harness.environment.built import image_of
from harness.environment.clean_up import put_away
from harness.environment.containers import Order
from harness.environment.descriptors import limit_descriptors
from harness.environment.engine_events import EngineEvents, Sayings
from harness.environment.household import Household
from harness.environment.images.own import own_image
from harness.environment.legs import StandIn
from harness.environment.limits import BEGINNING, Mark
from harness.environment.listening import elsewhere
from harness.environment.logs import Log
from harness.environment.networks import Network
from harness.environment.processes import note_program, reserve_port
from harness.environment.readiness import daemon_ready
from harness.environment.standing_in import in_container
from harness.environment.threads import in_thread
from harness.errors import StartTimeout
from harness.history import Recorder, Silent
from harness.proxy.ports import Reservation

__all__ = ["STOP_S", "ContainerDaemon"]

STOP_S: Final = 2.0
"""How long a daemon that is put away may take to end by itself, in seconds."""

_EFFECTS: Final = "/harness/effects.jsonl"
_EVERYBODY: Final = 0o777


class ContainerDaemon:
    """
    A daemon, a container.

    Args:
        daemon: Whom to start; it says of what image.
        household: Whose it is.
        network: Where it stands; open before `start`, and closed after `end`.
        recorder: Where its starts and ends are noted.
    """

    backend: Final = "docker"
    own: Final = True

    def __init__(
        self,
        daemon: Daemon,
        household: Household,
        network: Network,
        *,
        recorder: Recorder | None = None,
    ) -> None:
        # Whatever address it has there, it is ours to harm.
        self.daemon = replace(daemon, allow_remote=True)
        self.network = network
        self._household = household
        self._recorder: Recorder = Silent() if recorder is None else recorder
        self._box: Boxed | None = None
        self._events: EngineEvents | None = None
        self._own_address = ""
        self._reservation: Reservation | None = None
        self._harmed: set[str] = set()
        # What its descriptors are tightened to; None: they are not.
        self._descriptors: int | None = None
        # From its hello until somebody ends it.
        self._wanted = False

    @property
    def program(self) -> Boxed:
        """Its container."""
        assert self._box is not None
        return self._box

    @property
    def address(self) -> Address:
        """Where this machine reaches it, past any proxy."""
        if self._reservation is not None:
            return self._reservation.address
        return self.inner_address

    @property
    def inner_address(self) -> Address:
        """Its own address, on its network."""
        assert self.daemon.container is not None
        return Address(self._own_address, self.daemon.container.port)

    @property
    def effects_file(self) -> Path:
        """Where the daemon's effects go, as seen from outside."""
        return (self._household.directory / "effects" / Path(_EFFECTS).name).resolve()

    @property
    def abilities(self) -> Mapping[str, str | None]:
        """Its container is ours; its effects are, where it was told the file."""
        order = self.program.order
        told = _told_effects(order.command, order.variables)
        shared = self.effects_file.exists()
        effects = None if told and shared else "the daemon was not told {effects}"
        if told and not shared:
            effects = "the engine does not show this machine the folder that it writes to"
        return {**dict.fromkeys(OF_THE_DAEMON), "effects": effects}

    @property
    def trouble(self) -> str | None:
        """How it ended, where nobody asked it to."""
        return self.program.state if self._wanted and not self.program.alive else None

    async def start(self) -> None:
        """Make its container and start it. Whoever is cancelled meanwhile breaks a build off."""
        assert self.daemon.container is not None
        image = await image_of(self.daemon.container, self.network.engine)
        await in_thread(self._start, image)

    def _start(self, image: str) -> None:
        daemon, household, network = self.daemon, self._household, self.network
        container = daemon.container
        assert container is not None
        self._own_address = network.take()
        command = daemon.container_command(effects=_EFFECTS)
        variables = daemon.container_variables(effects=_EFFECTS)
        mounts = {}
        if _told_effects(command, variables):
            folder = self.effects_file.parent
            folder.mkdir(exist_ok=True)
            # Whoever its image says that it is must be able to write there.
            folder.chmod(_EVERYBODY)
            # Only where it is wanted: the image may have a folder of that name itself.
            mounts[str(folder)] = str(Path(_EFFECTS).parent)
        ports: dict[int, tuple[str, int]] = {}
        if network.path != "bridge":
            # Kept while it is down, so that it has it again.
            self._reservation = reserve_port()
            ports[container.port] = (self._reservation.address.host, self._reservation.address.port)
        order = Order(
            name=f"{network.name}-daemon-{self._own_address.rpartition('.')[2]}",
            image=image,
            run_id=household.run_id,
            command=command,
            variables=variables,
            network=network.name,
            address=self._own_address,
            ports=ports,
            mounts=mounts,
            limits=daemon.limits,
        )
        household.reaper.contain(household.run_id)
        self._follow_events()
        self._box = self._boxed(order)
        self._box.start()

    def _boxed(self, order: Order) -> Boxed:
        """Its container, and where it is taken down what it writes."""
        log, engine = self._log("daemon.log"), self.network.engine
        return Boxed("daemon", engine, order, log=log, heard=self._sayings())

    def _log(self, name: str) -> Log:
        """A log of the environment, without the daemon's token."""
        household, token = self._household, self.daemon.token
        secrets = () if token is None else (token,)
        return Log(household.directory / name, kept=household.kept, secrets=secrets)

    def _follow_events(self) -> None:
        """Take down what the engine tells, where anybody wants to know."""
        if not isinstance(self._recorder, Silent):
            run_id = self._household.run_id
            self._events = EngineEvents(self.network.engine, run_id, self._recorder)

    def _sayings(self) -> Sayings | None:
        """Who takes down what it says, where anybody wants to know."""
        return None if isinstance(self._recorder, Silent) else Sayings("daemon", self._recorder)

    async def ready(self) -> None:
        """Wait for its hello."""
        program = self.program
        try:
            await daemon_ready(self.daemon, self.address, program)
        except StartTimeout as error:
            listens = elsewhere(await in_thread(program.listeners), self.inner_address.port)
            if not listens:
                raise
            # What is to be done stands there: not to look into its log.
            rows = [row for row in error.details if row[0] != "next"]
            raise StartTimeout(error.headline, [("listens", listens), *rows]) from None
        self._wanted = True
        ready_ms = round((now() - program.started_at) * 1000, 1)
        note_program(self._recorder, program, "started", ready_ms=ready_ms)

    async def pause(self) -> None:
        """Freeze its processes."""
        # Noted first: whoever is cancelled meanwhile has it paused all the same.
        self._harmed.add("paused")
        await in_thread(self.program.freeze)
        note_program(self._recorder, self.program, "paused")

    async def resume(self) -> None:
        """Let them go on, where they are frozen."""
        if "paused" in self._harmed and await in_thread(self.program.thaw):
            note_program(self._recorder, self.program, "resumed")
        self._harmed.discard("paused")

    async def kill(self) -> None:
        """End them at once."""
        self._wanted = False
        await in_thread(self.program.kill)
        self._harmed.discard("paused")
        note_program(self._recorder, self.program, "ended")

    async def stop(self, *, within_s: float) -> None:
        """Ask them to end, and kill them after that many seconds."""
        self._wanted = False
        await in_thread(self.program.stop, within_s=within_s)
        self._harmed.discard("paused")
        note_program(self._recorder, self.program, "ended")

    async def revive(self) -> None:
        """Start the daemon on its old address where it does not run, and wait for its hello."""
        if not self.program.alive:
            await in_thread(self.program.start)
            await self.ready()
            if self._descriptors is not None:
                # Those of its processes alone are not its container's.
                await in_thread(self._limit_descriptors, self._descriptors)

    async def disconnect(self) -> None:
        """Cut it off its network."""
        self._harmed.add("disconnected")
        await in_thread(self._leave)
        note_program(self._recorder, self.program, "disconnected")

    async def connect(self) -> None:
        """Put it back, with its old address, where it was cut off."""
        if "disconnected" in self._harmed:
            await in_thread(self._join)
            note_program(self._recorder, self.program, "connected")
        self._harmed.discard("disconnected")

    def _leave(self) -> None:
        self.program.box.leave(self.network.name)

    def _join(self) -> None:
        self.program.box.join(self.network.name, address=self._own_address)

    async def limit(
        self,
        *,
        memory_bytes: int | None = None,
        cpus: float | None = None,
        descriptors: int | None = None,
    ) -> None:
        """Tighten those of its limits that are given."""
        self._harmed.add("limited")
        if memory_bytes is not None or cpus is not None:
            await in_thread(self.program.box.limit, memory_bytes=memory_bytes, cpus=cpus)
        if descriptors is not None:
            self._descriptors = descriptors
            await in_thread(self._limit_descriptors, descriptors)

    async def unlimit(self) -> None:
        """Put its usual limits back, where they were tightened."""
        if "limited" in self._harmed:
            limits = self.daemon.limits
            await in_thread(
                self.program.box.limit,
                memory_bytes=limits.memory_bytes or 0,
                cpus=limits.cpus or 0,
            )
            # One that does not run gets those back when it is started.
            if self._descriptors is not None and self.program.alive:
                await in_thread(self._limit_descriptors, limits.descriptors)
        self._descriptors = None
        self._harmed.discard("limited")

    def _limit_descriptors(self, most: int | None) -> None:
        limit_descriptors(self.network.engine, self.program, most, image=own_image())

    async def silent(self) -> bool:
        """Whether nobody listens in its container any more, as far as the kernel tells."""
        return await in_thread(self.program.silent_on, self.inner_address.port)

    async def connections(self) -> int | None:
        """How many connections it has, as the kernel tells; None where it does not."""
        return await in_thread(self.program.connections_on, self.inner_address.port)

    def stand_in(self) -> StandIn:
        """A container on its network, published where it is."""
        return in_container(self.network, self._household)

    async def mark(self) -> Mark:
        """This moment."""
        return await in_thread(self.program.mark)

    async def limits_hit(self, *, since: Mark = BEGINNING) -> list[str]:
        """The limits that it hit, each in words."""
        if self._box is None or not self._box.started:
            return []
        return await in_thread(self._box.limits_hit, self.daemon.limits, since=since)

    async def end(self) -> None:
        """End it and give its address back."""
        early = self._wanted and not self.program.alive
        self._wanted = False
        await put_away(None, self._remove(early=early), self._let_go())

    async def _remove(self, *, early: bool) -> None:
        if self._box is not None and self._box.started:
            await in_thread(self._box.remove, within_s=STOP_S)
            note_program(self._recorder, self._box, "ended", early=early)

    async def _let_go(self) -> None:
        try:
            self._keep_effects()
            if self._events is not None:
                there = self._box is not None and self._box.started
                removed = self.program.order.name if there else None
                await in_thread(self._events.close, removed=removed)
        finally:
            if self._own_address:
                self.network.give_back(self._own_address)
            if self._reservation is not None:
                self._reservation.close()

    def _keep_effects(self) -> None:
        """Where people look for them, and other backends have them."""
        if self.effects_file.exists():
            self.effects_file.replace(self._household.directory / self.effects_file.name)
        # What else it wrote there stays where it is.
        with suppress(OSError):
            self.effects_file.parent.rmdir()

    def written(self, *, since: int = 0) -> str:
        """What it wrote to its log from that byte on, without its token."""
        return self.program.written(since=since)

    def log_bytes(self) -> int:
        """How long that log is."""
        return self.program.log_bytes()

    def describe(self) -> Mapping[str, Any]:
        """Its image, its command and its addresses."""
        order = self.program.order
        return {
            "type": self.daemon.type,
            "dialect": self.daemon.dialect.name,
            "container": order.name,
            "image": order.image,
            "image_id": self.program.box.image_id,
            "command": list(order.command or ()),
            "address": str(self.address),
            "network": {"name": self.network.name, "subnet": self.network.subnet},
            "path": self.network.path,
            "promises": list(self.daemon.promises),
            "limits": asdict(self.daemon.limits),
            "set_up_again": self.network.engine.again.told,
        }


def _told_effects(command: Sequence[str] | None, variables: Mapping[str, str]) -> bool:
    """Whether a daemon is told the file that its effects go to."""
    return any(_EFFECTS in text for text in (*(command or ()), *variables.values()))
