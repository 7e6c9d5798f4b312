"""
A daemon as a process of this machine.

Ready means a completed hello on its own address. Its port stays reserved while it is
down, so a restarted daemon has its old one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from harness.address import Address
from harness.clock import now
from harness.daemons.base import Daemon, Limits
from harness.environment.household import Household
from harness.environment.limits import (
    NOT_HERE,
    can_limit,
    describe_local,
    full_descriptors,
    put_on,
    words_of,
)
from harness.environment.processes import Program, end_program, note_program, reserve_port
from harness.environment.readiness import daemon_ready
from harness.environment.reaper import carriers
from harness.errors import InvalidValue, ProgramExited
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
        self._limited = False

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
        put_on(self.program.pid, self.daemon.limits)

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
        await self.program.kill()
        note_program(self._recorder, self.program, "ended")

    async def stop(self, *, within_s: float) -> None:
        """Ask them to end, and kill them after that many seconds."""
        self._wanted = False
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
        self._limited = True
        self._limit_all(replace(self.daemon.limits, **tight))  # type: ignore[arg-type]

    async def unlimit(self) -> None:
        """Put its usual limits back, where they were tightened."""
        if self._limited:
            self._limit_all(self.daemon.limits)
        self._limited = False

    def _limit_all(self, limits: Limits) -> None:
        for pid in carriers(self._household.run_id, "daemon"):
            put_on(pid, limits)

    async def limits_hit(self) -> list[str]:
        """The limits that it hit, each in words."""
        if self._program is None:
            return []
        full = full_descriptors(carriers(self._household.run_id, "daemon"))
        said = [line for line in words_of(self.written()) if not full or "descriptors" not in line]
        return full + said

    async def end(self) -> None:
        """End it and give its port back."""
        self._wanted = False
        if self._program is not None:
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
            "limits": describe_local(self.daemon.limits),
        }
