"""
A program of a household as a process of this machine, to be harmed: a daemon, or a provider.

Its port stays reserved while it is down, so it has its old one when it is started again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from harness.address import Address
from harness.clock import now
from harness.daemons.base import Limits
from harness.environment import kernel
from harness.environment.household import Household
from harness.environment.limits import (
    BEGINNING,
    NOT_HERE,
    Mark,
    can_limit,
    exhausted,
    put_on,
    with_words,
)
from harness.environment.processes import Program, end_program, note_program, reserve_port
from harness.environment.reaper import carriers
from harness.errors import EnvironmentFailed, InvalidValue, ProgramExited
from harness.history import Recorder, Silent
from harness.proxy.ports import Reservation

__all__ = ["LocalSite"]

_STOP_S: Final = 2.0
_START_ATTEMPTS: Final = 3


class LocalSite(ABC):
    """
    Where a process runs.

    Args:
        name: "daemon" or "provider"; its log and its processes are called so.
        household: Whose it is.
        limits: Those that it has where no fault tightens them.
        recorder: Where its starts and ends are noted.

    Attributes:
        limits: The same.
    """

    backend: Final = "local"
    own: Final = True

    def __init__(
        self, name: str, household: Household, limits: Limits, *, recorder: Recorder | None = None
    ) -> None:
        self.name = name
        self.limits = limits
        self._household = household
        self._recorder: Recorder = Silent() if recorder is None else recorder
        self._reservation: Reservation | None = None
        self._program: Program | None = None
        # From when it was ready until somebody ends it.
        self._wanted = False
        # Those it runs under now, and of its usual ones those that do not hold, with the reason.
        self._limits = limits
        self._lacking: dict[str, str] = {}
        # What it had used up when last it could be seen.
        self._hit: list[str] = []

    @abstractmethod
    def _new_program(self, where: Address, log: Path) -> Program:
        """Its program, to listen there; not yet started."""

    @abstractmethod
    async def _until_ready(self) -> None:
        """Wait, bounded, until it can be used."""

    @property
    def program(self) -> Program:
        """Its process."""
        assert self._program is not None
        return self._program

    @property
    def address(self) -> Address:
        """Its own address."""
        assert self._reservation is not None
        return self._reservation.address

    @property
    def inner_address(self) -> Address:
        """The same: it has no network of its own."""
        return self.address

    def _file(self, name: str) -> Path:
        """A file of the household's that it may write."""
        return (self._household.directory / name).resolve()

    def _is_told(self, file: Path) -> bool:
        """Whether that file stands in what it was started with."""
        texts = [*self.program.command, *self.program.variables.values()]
        return any(str(file) in text for text in texts)

    @property
    def _harms(self) -> dict[str, str | None]:
        """What can be done to it."""
        limits = None if can_limit() else NOT_HERE
        no_container = self._no_container
        return {
            "process": None,
            "docker": no_container,
            "network": no_container,
            "memory_limit": limits,
            "descriptor_limit": limits,
            "cpu_limit": no_container,
        }

    @property
    def _no_container(self) -> str:
        return f"the {self.name} is a process of this machine; the backend docker has containers"

    @property
    def trouble(self) -> str | None:
        """How it ended, where nobody asked it to."""
        return self.program.state if self._wanted and not self.program.alive else None

    async def start(self) -> None:
        """Start it on a port of its own."""
        self._program = self._new()
        self._begin()

    def _begin(self) -> None:
        self.program.start()
        put_on([self.program.pid], self._limits)

    def _new(self) -> Program:
        """Its program on a fresh port, not yet started."""
        if self._reservation is not None:
            self._reservation.close()
        self._reservation = reserve_port()
        return self._new_program(self.address, self._household.directory / f"{self.name}.log")

    async def ready(self) -> None:
        """
        Wait until it is ready; where it ended at once, try another port without keeping it.

        A program that does not set SO_REUSEADDR cannot bind a port we keep.
        """
        for _ in range(_START_ATTEMPTS - 1):
            try:
                await self._be_ready()
            except ProgramExited:
                log = self.program.tail().lower()
                if "address already in use" not in log and "eaddrinuse" not in log:
                    raise
            else:
                return
            self._program = self._new()
            assert self._reservation is not None
            self._reservation.close()
            self._begin()
        await self._be_ready()

    async def _be_ready(self) -> None:
        await self._until_ready()
        self._wanted = True
        # Again: it may have forked before, and some runtimes raise their own limit as they start.
        self._lacking = put_on(self._pids(), self._limits)
        ready_ms = round((now() - self.program.started_at) * 1000, 1)
        note_program(self._recorder, self.program, "started", ready_ms=ready_ms)

    async def pause(self) -> None:
        """Freeze its processes."""
        self.program.freeze()
        note_program(self._recorder, self.program, "paused")

    async def resume(self) -> None:
        """Let them go on, where they are frozen."""
        if self.program.thaw():
            note_program(self._recorder, self.program, "resumed")

    async def kill(self) -> None:
        """End them at once."""
        self._wanted = False
        self._look()
        await self.program.kill()
        note_program(self._recorder, self.program, "ended")

    async def stop(self, *, within_s: float) -> None:
        """Ask them to end, and kill them after that many seconds."""
        self._wanted = False
        self._look()
        await self.program.stop(within_s=within_s)
        note_program(self._recorder, self.program, "ended")

    async def revive(self) -> None:
        """Start it on its old port where it does not run, and wait until it is ready."""
        if not self.program.alive:
            self._begin()
            await self._be_ready()

    async def disconnect(self) -> None:
        """
        Refused.

        Raises:
            InvalidValue: Always: it has no network of its own.
        """
        raise InvalidValue(f"the {self.name} cannot be cut off its network: {self._no_container}")

    async def connect(self) -> None:  # noqa: B027 - there is nothing to do
        """It was never cut off."""

    async def limit(
        self,
        *,
        memory_bytes: int | None = None,
        cpus: float | None = None,
        descriptors: int | None = None,
    ) -> None:
        """Tighten those of its limits that are given."""
        given = {"memory_bytes": memory_bytes, "cpus": cpus, "descriptors": descriptors}
        tight = {name: value for name, value in given.items() if value is not None}
        self._limits = replace(self._limits, **tight)  # type: ignore[arg-type]
        lacking = put_on(self._pids(), self._limits)
        if refused := [(name, lacking[name]) for name in tight if name in lacking]:
            raise EnvironmentFailed(f"the {self.name} cannot be limited so", refused)

    async def unlimit(self) -> None:
        """Put its usual limits back, where they were tightened."""
        if self._limits != self.limits:
            self._look()
            self._limits = self.limits
            put_on(self._pids(), self._limits)

    def _pids(self) -> list[int]:
        """Its processes, also one that hides its environment variables."""
        found = carriers(self._household.run_id, self.name)
        if self.program.exit_code is None and self.program.pid not in found:
            found.append(self.program.pid)
        return found

    def _look(self) -> None:
        """Remember what it has used up, before that is not to be seen any more."""
        self._hit += [line for line in self._exhausted() if line not in self._hit]

    def _exhausted(self) -> list[str]:
        why = "" if self._limits == self.limits else ", under a fault"
        return [line + why for line in exhausted(self._pids(), self._limits)]

    async def silent(self) -> bool:
        """Whether nobody listens for it any more, as far as the kernel tells."""
        return kernel.is_readable() and not kernel.listens(self.address.port)

    async def ending(self) -> bool:
        """Whether it was killed, exits, or listens no longer, unasked."""
        return self._wanted and (self.program.is_dying() or await self.silent())

    async def mark(self) -> Mark:
        """This moment."""
        return Mark(self.log_bytes())

    async def limits_hit(self, *, since: Mark = BEGINNING) -> list[str]:
        """The limits that it hit, each in words."""
        if self._program is None or not self.program.started:
            return []
        found = [*self._hit, *(line for line in self._exhausted() if line not in self._hit)]
        with suppress(OSError):
            return with_words(found, self.written(since=since.log_bytes))
        return found

    async def end(self) -> None:
        """End it and give its port back."""
        self._wanted = False
        if self._program is not None and self.program.started:
            self._look()
            await end_program(self._program, self._recorder, within_s=_STOP_S)
        if self._reservation is not None:
            self._reservation.close()

    def written(self, *, since: int = 0) -> str:
        """What it wrote to its log from that byte on, without secrets."""
        return self.program.written(since=since)

    def log_bytes(self) -> int:
        """How long that log is."""
        return self.program.log_bytes()
