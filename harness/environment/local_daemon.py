"""
A daemon as a process of this machine.

Ready means a completed hello on its own address. Its port stays reserved while it is
down, so a restarted daemon has its old one.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from harness.address import Address
from harness.clock import now
from harness.daemons.base import Daemon
from harness.environment import kernel
from harness.environment.household import Household
from harness.environment.legs import StandIn, here
from harness.environment.limits import (
    BEGINNING,
    NOT_HERE,
    Mark,
    can_limit,
    describe_local,
    exhausted,
    put_on,
    with_words,
)
from harness.environment.processes import Program, end_program, note_program, reserve_port
from harness.environment.readiness import daemon_ready
from harness.environment.reaper import carriers
from harness.errors import EnvironmentFailed, InvalidValue, ProgramExited
from harness.history import Recorder, Silent
from harness.proxy.ports import Reservation

__all__ = ["LocalDaemon"]

_DAEMON_STOP_S: Final = 2.0
_START_ATTEMPTS: Final = 3
_NO_CONTAINER: Final = "the daemon is a process of this machine; the backend docker has containers"


class LocalDaemon:
    """
    A daemon, a process.

    Args:
        daemon: Whom to start.
        household: Whose it is.
        recorder: Where its starts and ends are noted.
    """

    backend: Final = "local"
    own: Final = True

    def __init__(
        self, daemon: Daemon, household: Household, *, recorder: Recorder | None = None
    ) -> None:
        self.daemon = daemon
        self._household = household
        self._recorder: Recorder = Silent() if recorder is None else recorder
        self._reservation: Reservation | None = None
        self._program: Program | None = None
        # From its hello until somebody ends it.
        self._wanted = False
        # Those it runs under now, and of its usual ones those that do not hold, with the reason.
        self._limits = daemon.limits
        self._lacking: dict[str, str] = {}
        # What it had used up when last it could be seen.
        self._hit: list[str] = []

    @property
    def program(self) -> Program:
        """Its process."""
        assert self._program is not None
        return self._program

    @property
    def address(self) -> Address:
        """The daemon's own address."""
        assert self._reservation is not None
        return self._reservation.address

    @property
    def inner_address(self) -> Address:
        """The same: it has no network of its own."""
        return self.address

    @property
    def effects_file(self) -> Path:
        """Where the daemon's effects go."""
        return (self._household.directory / "effects.jsonl").resolve()

    @property
    def abilities(self) -> Mapping[str, str | None]:
        """Its process is ours; its effects are, where it was told the file."""
        texts = [*self.program.command, *self.program.variables.values()]
        told = any(str(self.effects_file) in text for text in texts)
        limits = None if can_limit() else NOT_HERE
        return {
            "process": None,
            "docker": _NO_CONTAINER,
            "network": _NO_CONTAINER,
            "memory_limit": limits,
            "descriptor_limit": limits,
            "cpu_limit": _NO_CONTAINER,
            "effects": None if told else "the daemon was not told {effects}",
        }

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
        host, port = self.address.host, self.address.port
        effects = str(self.effects_file)
        daemon = self.daemon
        return Program(
            "daemon",
            daemon.command(host=host, port=port, effects=effects),
            variables=daemon.variables(host=host, port=port, effects=effects),
            run_id=self._household.run_id,
            log=self._household.directory / "daemon.log",
            directory=daemon.directory,
            kept=self._household.kept,
            secrets=() if daemon.token is None else (daemon.token,),
        )

    async def ready(self) -> None:
        """
        Wait for its hello; where it ended at once, try another port without keeping it.

        A daemon that does not set SO_REUSEADDR cannot bind a port we keep.
        """
        for _ in range(_START_ATTEMPTS - 1):
            try:
                await self._hello()
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
        await self._hello()

    async def _hello(self) -> None:
        program = self.program
        await daemon_ready(self.daemon, self.address, program)
        self._wanted = True
        # Again: it may have forked before, and some runtimes raise their own limit as they start.
        self._lacking = put_on(self._pids(), self._limits)
        ready_ms = round((now() - program.started_at) * 1000, 1)
        note_program(self._recorder, program, "started", ready_ms=ready_ms)

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
        """Start the daemon on its old port where it does not run, and wait for its hello."""
        if not self.program.alive:
            self._begin()
            await self._hello()

    async def disconnect(self) -> None:
        """
        Refused.

        Raises:
            InvalidValue: Always: it has no network of its own.
        """
        raise InvalidValue(f"the daemon cannot be cut off its network: {_NO_CONTAINER}")

    async def connect(self) -> None:
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
            raise EnvironmentFailed("the daemon cannot be limited so", refused)

    async def unlimit(self) -> None:
        """Put its usual limits back, where they were tightened."""
        if self._limits != self.daemon.limits:
            self._look()
            self._limits = self.daemon.limits
            put_on(self._pids(), self._limits)

    def _pids(self) -> list[int]:
        """Its processes, also one that hides its environment variables."""
        found = carriers(self._household.run_id, "daemon")
        if self.program.exit_code is None and self.program.pid not in found:
            found.append(self.program.pid)
        return found

    def _look(self) -> None:
        """Remember what it has used up, before that is not to be seen any more."""
        self._hit += [line for line in self._exhausted() if line not in self._hit]

    def _exhausted(self) -> list[str]:
        why = "" if self._limits == self.daemon.limits else ", under a fault"
        return [line + why for line in exhausted(self._pids(), self._limits)]

    async def silent(self) -> bool:
        """Whether nobody listens for it any more, as far as the kernel tells."""
        return kernel.is_readable() and not kernel.listens(self.address.port)

    async def connections(self) -> int | None:
        """How many connections it has, as the kernel tells; None where it does not."""
        return kernel.connections(self.address.port) if kernel.is_readable() else None

    def stand_in(self) -> StandIn:
        """A server of this process: there is nothing between processes of one machine."""
        return here()

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
            await end_program(self._program, self._recorder, within_s=_DAEMON_STOP_S)
        if self._reservation is not None:
            self._reservation.close()

    def written(self, *, since: int = 0) -> str:
        """What it wrote to its log from that byte on, without its token."""
        return self.program.written(since=since)

    def log_bytes(self) -> int:
        """How long that log is."""
        return self.program.log_bytes()

    def describe(self) -> Mapping[str, Any]:
        """Its command and its address."""
        return {
            "type": self.daemon.type,
            "dialect": self.daemon.dialect.name,
            "command": self.program.command,
            "address": str(self.address),
            "promises": list(self.daemon.promises),
            "limits": describe_local(self.daemon.limits, self._lacking),
        }
