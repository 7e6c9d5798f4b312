"""The provider behind a daemon as a process of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.address import Address
from harness.daemons.base import Provider
from harness.environment.household import Household
from harness.environment.limits import describe_local
from harness.environment.local_site import LocalSite
from harness.environment.processes import Program
from harness.environment.readiness import provider_ready
from harness.history import Recorder

__all__ = ["LocalProvider"]


class LocalProvider(LocalSite):
    """
    A provider, a process.

    Args:
        provider: What to start.
        household: Whose it is.
        recorder: Where its starts and ends are noted.
        secrets: What must not stand in its log.
    """

    def __init__(
        self,
        provider: Provider,
        household: Household,
        *,
        recorder: Recorder | None = None,
        secrets: tuple[str, ...] = (),
    ) -> None:
        super().__init__("provider", household, provider.limits, recorder=recorder)
        self.provider = provider
        self._secrets = secrets

    @property
    def executions_file(self) -> Path:
        """Where the provider's executions go."""
        return self._file("executions.jsonl")

    @property
    def abilities(self) -> Mapping[str, str | None]:
        """Its process is ours; its executions are, where it was told the file."""
        told = self._is_told(self.executions_file)
        why = None if told else "the provider was not told {executions}"
        return {**self._harms, "executions": why}

    def _new_program(self, where: Address, log: Path) -> Program:
        provider, household = self.provider, self._household
        host, port, executions = where.host, where.port, str(self.executions_file)
        return Program(
            self.name,
            provider.command(host=host, port=port, executions=executions),
            variables=provider.variables(host=host, port=port, executions=executions),
            run_id=household.run_id,
            log=log,
            directory=provider.directory,
            kept=household.kept,
            secrets=self._secrets,
        )

    async def _until_ready(self) -> None:
        await provider_ready(self.provider, self.address, self.program, silent=self.silent)

    def describe(self) -> Mapping[str, Any]:
        """Its command and its address."""
        return {
            "command": self.program.command,
            "address": str(self.address),
            "limits": describe_local(self.limits, self._lacking),
        }
