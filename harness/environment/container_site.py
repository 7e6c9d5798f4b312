"""
A program of a household in a container of its own, to be harmed: a daemon, or a provider.

It keeps its address while it is stopped, and gets it back after it was cut off its network.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from harness.address import Address
from harness.clock import now
from harness.daemons.base import Container, Limits
from harness.environment.boxed import Boxed
from harness.environment.built import image_of
from harness.environment.clean_up import put_away
from harness.environment.containers import Order
from harness.environment.descriptors import limit_descriptors
from harness.environment.engine_events import EngineEvents, Sayings
from harness.environment.household import Household
from harness.environment.images.own import own_image
from harness.environment.limits import BEGINNING, Mark
from harness.environment.listening import elsewhere
from harness.environment.logs import Log
from harness.environment.networks import Network
from harness.environment.processes import note_program, reserve_port
from harness.environment.threads import in_thread
from harness.errors import StartTimeout
from harness.history import Recorder, Silent
from harness.proxy.ports import Reservation

__all__ = ["STOP_S", "ContainerSite", "Told"]

STOP_S: Final = 2.0
"""How long a program that is put away may take to end by itself, in seconds."""

_FOLDER: Final = "/harness"
_EVERYBODY: Final = 0o777


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a container is started with, on top of what its image says."""

    command: Sequence[str] | None
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)


class ContainerSite(ABC):
    """
    Where a container runs.

    Args:
        name: "daemon" or "provider"; its log and its container are called so.
        household: Whose it is.
        network: Where it stands; open before `start`, and closed after `end`.
        record: What the file is called that it writes its effects or executions to.
        table: Where a project says how it runs in a container.
        secrets: What must not stand in its log.
        told_by_engine: Whether what the engine tells of all the household's containers is noted.
        recorder: Where its starts and ends are noted.
    """

    backend: Final = "docker"
    own: Final = True

    def __init__(
        self,
        name: str,
        household: Household,
        network: Network,
        *,
        record: str,
        table: str,
        secrets: tuple[str, ...] = (),
        told_by_engine: bool = False,
        recorder: Recorder | None = None,
    ) -> None:
        self.name = name
        self.network = network
        self._record = record
        self._table = table
        self._secrets = secrets
        self._told_by_engine = told_by_engine
        self._events: EngineEvents | None = None
        self._household = household
        self._recorder: Recorder = Silent() if recorder is None else recorder
        self._box: Boxed | None = None
        self._own_address = ""
        self._reservation: Reservation | None = None
        self._harmed: set[str] = set()
        # What its descriptors are tightened to; None: they are not.
        self._descriptors: int | None = None
        # From when it was ready until somebody ends it.
        self._wanted = False

    @property
    @abstractmethod
    def limits(self) -> Limits:
        """Those that it has where no fault tightens them."""

    @property
    @abstractmethod
    def _container(self) -> Container:
        """Of what it is made."""

    @abstractmethod
    def _told(self, record: str) -> Told:
        """What it is started with; `record` is the file in there that it may write."""

    @abstractmethod
    async def _until_ready(self) -> None:
        """Wait, bounded, until it can be used."""

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
        return Address(self._own_address, self._container.port)

    @property
    def _record_file(self) -> Path:
        """The file that it writes, as seen from outside."""
        folder = Path(self._record).stem
        return (self._household.directory / folder / self._record).resolve()

    @property
    def _inner_record(self) -> str:
        return f"{_FOLDER}/{self._record}"

    def _why_no_record(self, placeholder: str) -> str | None:
        """Why nobody can read what it writes there; None: it can be read."""
        order = self.program.order
        if not _names(self._inner_record, order.command, order.variables):
            return f"the {self.name} was not told {{{placeholder}}}"
        if not self._record_file.exists():
            return "the engine does not show this machine the folder that it writes to"
        return None

    @property
    def trouble(self) -> str | None:
        """How it ended, where nobody asked it to."""
        return self.program.state if self._wanted and not self.program.alive else None

    async def start(self) -> None:
        """Make its container and start it. Whoever is cancelled meanwhile breaks a build off."""
        image = await image_of(self._container, self.network.engine)
        await in_thread(self._start, image)

    def _start(self, image: str) -> None:
        household, network = self._household, self.network
        self._own_address = network.take()
        told = self._told(self._inner_record)
        mounts = {}
        if _names(self._inner_record, told.command, told.variables):
            folder = self._record_file.parent
            folder.mkdir(exist_ok=True)
            # Whoever its image says that it is must be able to write there.
            folder.chmod(_EVERYBODY)
            # Only where it is wanted: the image may have a folder of that name itself.
            mounts[str(folder)] = _FOLDER
        ports: dict[int, tuple[str, int]] = {}
        if network.path != "bridge":
            # Kept while it is down, so that it has it again.
            self._reservation = reserve_port()
            here = self._reservation.address
            ports[self._container.port] = (here.host, here.port)
        order = Order(
            name=f"{network.name}-{self.name}-{self._own_address.rpartition('.')[2]}",
            image=image,
            run_id=household.run_id,
            command=told.command,
            variables=told.variables,
            network=network.name,
            address=self._own_address,
            ports=ports,
            mounts=mounts,
            limits=self.limits,
        )
        household.reaper.contain(household.run_id)
        self._follow_events()
        self._box = self._boxed(order)
        self._box.start()

    def _boxed(self, order: Order) -> Boxed:
        """Its container, and where it is taken down what it writes."""
        log, engine = self._log(f"{self.name}.log"), self.network.engine
        return Boxed(self.name, engine, order, log=log, heard=self._sayings())

    def _log(self, name: str) -> Log:
        """A log of the environment, without secrets."""
        household = self._household
        return Log(household.directory / name, kept=household.kept, secrets=self._secrets)

    def _follow_events(self) -> None:
        """Take down what the engine tells, where anybody wants to know."""
        if self._told_by_engine and not isinstance(self._recorder, Silent):
            run_id = self._household.run_id
            self._events = EngineEvents(self.network.engine, run_id, self._recorder)

    def _sayings(self) -> Sayings | None:
        """Who takes down what it says, where anybody wants to know."""
        return None if isinstance(self._recorder, Silent) else Sayings(self.name, self._recorder)

    async def ready(self) -> None:
        """Wait until it can be used."""
        program = self.program
        try:
            await self._until_ready()
        except StartTimeout as error:
            there, key = await in_thread(program.listeners), f"{self._table}.port"
            listens = elsewhere(there, self.inner_address.port, key=key)
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
        """Start it on its old address where it does not run, and wait until it is ready."""
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
            limits = self.limits
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

    async def ending(self) -> bool:
        """Whether it was killed, exits, or listens no longer, unasked."""
        return self._wanted and (await in_thread(self.program.is_dying) or await self.silent())

    async def mark(self) -> Mark:
        """This moment."""
        return await in_thread(self.program.mark)

    async def limits_hit(self, *, since: Mark = BEGINNING) -> list[str]:
        """The limits that it hit, each in words."""
        if self._box is None or not self._box.started:
            return []
        return await in_thread(self._box.limits_hit, self.limits, since=since)

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
            self._keep_record()
            if self._events is not None:
                there = self._box is not None and self._box.started
                removed = self.program.order.name if there else None
                await in_thread(self._events.close, removed=removed)
        finally:
            if self._own_address:
                self.network.give_back(self._own_address)
            if self._reservation is not None:
                self._reservation.close()

    def _keep_record(self) -> None:
        """Where people look for it, and other backends have it."""
        file = self._record_file
        if file.exists():
            file.replace(self._household.directory / file.name)
        # What else it wrote there stays where it is.
        with suppress(OSError):
            file.parent.rmdir()

    def written(self, *, since: int = 0) -> str:
        """What it wrote to its log from that byte on, without secrets."""
        return self.program.written(since=since)

    def log_bytes(self) -> int:
        """How long that log is."""
        return self.program.log_bytes()

    def _described(self) -> dict[str, Any]:
        """Its image, its command and its addresses."""
        order = self.program.order
        return {
            "container": order.name,
            "image": order.image,
            "image_id": self.program.box.image_id,
            "command": list(order.command or ()),
            "address": str(self.address),
            "network": {"name": self.network.name, "subnet": self.network.subnet},
            "path": self.network.path,
            "limits": asdict(self.limits),
            "set_up_again": self.network.engine.again.told,
        }


def _names(file: str, command: Sequence[str] | None, variables: Mapping[str, str]) -> bool:
    """Whether what a container is started with names a file."""
    return any(file in text for text in (*(command or ()), *variables.values()))
