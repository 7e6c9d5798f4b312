"""Environments for tests, and daemons that behave badly."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import ClassVar

from harness.daemons.base import Daemon
from harness.daemons.reference import Reference
from harness.environment.local import LocalEnvironment
from harness.history import History
from harness.run.record import HistoryWriter, load_history


@dataclass(frozen=True, kw_only=True)
class Scripted(Daemon):
    """A daemon that is a line of shell, with {port} filled in."""

    type: ClassVar[str] = "scripted"

    script: str

    def command(self, *, host: str, port: int, effects: str) -> list[str]:
        reference = " ".join(Reference().command(host=host, port=port, effects=effects))
        text = self.script.replace("{port}", str(port)).replace("{reference}", reference)
        return ["sh", "-c", text.replace("{python}", sys.executable)]


FORKING = "setsid sh -c 'sleep 611 & exec sleep 612' & exec {reference}"
"""The reference daemon, and a grandchild in a session of its own that nobody reaps."""


class Place(LocalEnvironment):
    """A local environment with its record in a directory."""

    def __init__(self, directory: Path, daemon: Daemon | None = None) -> None:
        daemon = Reference() if daemon is None else daemon
        secrets = () if daemon.token is None else (daemon.token,)
        self.directory = directory
        self.writer = HistoryWriter(directory / "history.jsonl", secrets=secrets)
        super().__init__(daemon, directory=directory, recorder=self.writer, seed=7)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await super().__aexit__(kind, error, trace)
        finally:
            self.writer.close()

    def history(self) -> History:
        """The record so far."""
        return load_history(self.directory / "history.jsonl")
