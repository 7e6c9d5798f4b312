"""
A daemon as a process of this machine.

Ready means a completed hello on its own address.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.address import Address
from harness.daemons.base import Daemon
from harness.environment import kernel
from harness.environment.household import Household
from harness.environment.legs import StandIn, here
from harness.environment.limits import describe_local
from harness.environment.local_site import LocalSite
from harness.environment.processes import Program
from harness.environment.readiness import daemon_ready
from harness.history import Recorder

__all__ = ["LocalDaemon"]


class LocalDaemon(LocalSite):
    """
    A daemon, a process.

    Args:
        daemon: Whom to start.
        household: Whose it is.
        recorder: Where its starts and ends are noted.
    """

    def __init__(
        self, daemon: Daemon, household: Household, *, recorder: Recorder | None = None
    ) -> None:
        super().__init__("daemon", household, daemon.limits, recorder=recorder)
        self.daemon = daemon

    @property
    def effects_file(self) -> Path:
        """Where the daemon's effects go."""
        return self._file("effects.jsonl")

    @property
    def abilities(self) -> Mapping[str, str | None]:
        """Its process is ours; its effects are, where it was told the file."""
        told = self._is_told(self.effects_file)
        return {**self._harms, "effects": None if told else "the daemon was not told {effects}"}

    def _new_program(self, where: Address, log: Path) -> Program:
        daemon, household = self.daemon, self._household
        host, port, effects = where.host, where.port, str(self.effects_file)
        return Program(
            self.name,
            daemon.command(host=host, port=port, effects=effects),
            variables=daemon.variables(host=host, port=port, effects=effects),
            run_id=household.run_id,
            log=log,
            directory=daemon.directory,
            kept=household.kept,
            secrets=() if daemon.token is None else (daemon.token,),
        )

    async def _until_ready(self) -> None:
        await daemon_ready(self.daemon, self.address, self.program)

    async def connections(self) -> int | None:
        """How many connections it has, as the kernel tells; None where it does not."""
        return kernel.connections(self.address.port) if kernel.is_readable() else None

    def stand_in(self) -> StandIn:
        """A server of this process: there is nothing between processes of one machine."""
        return here()

    def describe(self) -> Mapping[str, Any]:
        """Its command and its address."""
        return {
            "type": self.daemon.type,
            "dialect": self.daemon.dialect.name,
            "command": self.program.command,
            "address": str(self.address),
            "promises": list(self.daemon.promises),
            "limits": describe_local(self.limits, self._lacking),
        }
