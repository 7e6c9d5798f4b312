"""The provider behind a daemon in a container of its own, on the daemon's network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from harness.daemons.base import Container, Limits, Provider
from harness.environment.abilities import OF_A_PROGRAM
from harness.environment.container_site import ContainerSite, Told
from harness.environment.household import Household
from harness.environment.networks import Network
from harness.environment.readiness import provider_ready
from harness.history import Recorder

__all__ = ["ContainerProvider"]

_EXECUTIONS: Final = "executions.jsonl"


class ContainerProvider(ContainerSite):
    """
    A provider, a container.

    Args:
        provider: What to start; it says of what image.
        household: Whose it is.
        network: Where it stands; open before `start`, and closed after `end`.
        recorder: Where its starts and ends are noted.
        secrets: What must not stand in its log.
    """

    def __init__(
        self,
        provider: Provider,
        household: Household,
        network: Network,
        *,
        recorder: Recorder | None = None,
        secrets: tuple[str, ...] = (),
    ) -> None:
        super().__init__(
            "provider",
            household,
            network,
            record=_EXECUTIONS,
            table="daemon.provider.container",
            secrets=secrets,
            recorder=recorder,
        )
        self.provider = provider

    @property
    def limits(self) -> Limits:
        """Those that it has where no fault tightens them."""
        return self.provider.limits

    @property
    def _container(self) -> Container:
        assert self.provider.container is not None
        return self.provider.container

    def _told(self, record: str) -> Told:
        return Told(
            command=self.provider.container_command(executions=record),
            variables=self.provider.container_variables(executions=record),
        )

    @property
    def executions_file(self) -> Path:
        """Where the provider's executions go, as seen from outside."""
        return self._record_file

    @property
    def abilities(self) -> Mapping[str, str | None]:
        """Its container is ours; its executions are, where it was told the file."""
        return {**dict.fromkeys(OF_A_PROGRAM), "executions": self._why_no_record("executions")}

    async def _until_ready(self) -> None:
        await provider_ready(self.provider, self.address, self.program, silent=self.silent)

    def describe(self) -> Mapping[str, Any]:
        """Its image, its command and its addresses."""
        return self._described()
