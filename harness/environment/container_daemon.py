"""
A daemon in a container of its own.

Ready means a completed hello on its own address.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from harness.daemons.base import Container, Daemon, Limits
from harness.environment.abilities import OF_THE_DAEMON
from harness.environment.container_site import ContainerSite, Told
from harness.environment.household import Household
from harness.environment.legs import StandIn
from harness.environment.networks import Network
from harness.environment.readiness import daemon_ready
from harness.environment.standing_in import in_container
from harness.environment.threads import in_thread
from harness.history import Recorder

__all__ = ["ContainerDaemon"]

_EFFECTS: Final = "effects.jsonl"


class ContainerDaemon(ContainerSite):
    """
    A daemon, a container.

    Args:
        daemon: Whom to start; it says of what image.
        household: Whose it is.
        network: Where it stands; open before `start`, and closed after `end`.
        recorder: Where its starts and ends are noted.
    """

    def __init__(
        self,
        daemon: Daemon,
        household: Household,
        network: Network,
        *,
        recorder: Recorder | None = None,
    ) -> None:
        super().__init__(
            "daemon",
            household,
            network,
            record=_EFFECTS,
            table="daemon.container",
            secrets=() if daemon.token is None else (daemon.token,),
            told_by_engine=True,
            recorder=recorder,
        )
        # Whatever address it has there, it is ours to harm.
        self.daemon = replace(daemon, allow_remote=True)

    @property
    def limits(self) -> Limits:
        """Those that it has where no fault tightens them."""
        return self.daemon.limits

    @property
    def _container(self) -> Container:
        assert self.daemon.container is not None
        return self.daemon.container

    def _told(self, record: str) -> Told:
        return Told(
            command=self.daemon.container_command(effects=record),
            variables=self.daemon.container_variables(effects=record),
        )

    @property
    def effects_file(self) -> Path:
        """Where the daemon's effects go, as seen from outside."""
        return self._record_file

    @property
    def abilities(self) -> Mapping[str, str | None]:
        """Its container is ours; its effects are, where it was told the file."""
        return {**dict.fromkeys(OF_THE_DAEMON), "effects": self._why_no_record("effects")}

    async def _until_ready(self) -> None:
        await daemon_ready(self.daemon, self.address, self.program)

    async def connections(self) -> int | None:
        """How many connections it has, as the kernel tells; None where it does not."""
        return await in_thread(self.program.connections_on, self.inner_address.port)

    def stand_in(self) -> StandIn:
        """A container on its network, published where it is."""
        return in_container(self.network, self._household)

    def describe(self) -> Mapping[str, Any]:
        """Its image, its command and its addresses."""
        return {
            "type": self.daemon.type,
            "dialect": self.daemon.dialect.name,
            "promises": list(self.daemon.promises),
            **self._described(),
        }
