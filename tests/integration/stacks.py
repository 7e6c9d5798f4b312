"""Environments for tests, and daemons that behave badly."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from harness.daemons.base import Daemon
from harness.daemons.reference import Reference
from harness.environment.backends import DOCKER, Choice, engine, stack_of
from harness.environment.base import Environment
from harness.environment.processes import Program
from harness.environment.reaper import carriers
from harness.environment.stack import Stack
from harness.faults.armed_reset import ArmedReset
from harness.history import History
from harness.run.record import HistoryWriter, load_history
from tests.grounds import stands_on
from tests.integration.peers import prove_effects, prove_peers


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


_USUAL = Choice()


class Place(Environment):
    """An environment of one's own with its record in a directory."""

    def __init__(
        self, directory: Path, daemon: Daemon | None = None, choice: Choice = _USUAL
    ) -> None:
        daemon = Reference() if daemon is None else daemon
        secrets = () if daemon.token is None else (daemon.token,)
        self.directory = directory
        self._choice = choice
        self.writer = HistoryWriter(directory / "history.jsonl", secrets=secrets)
        stack = stack_of(daemon, choice=choice, directory=directory, recorder=self.writer, seed=7)
        super().__init__(stack, owns=True, seed=7)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        stands_on(self._choice.backend, self._choice.proxy)
        try:
            await asyncio.to_thread(prove_peers, self)
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            prove_effects(self)
        finally:
            try:
                await super().__aexit__(kind, error, trace)
            finally:
                self.writer.close()

    def history(self) -> History:
        """The record so far."""
        return load_history(self.directory / "history.jsonl")


def remains(stack: Stack) -> list[str]:
    """What is left of a stack on this machine, and in its engine where it had one."""
    left = [f"process {pid}" for pid in carriers(stack.run_id)]
    if stack.site.backend == DOCKER:
        left += engine().left.remains(stack.run_id)
    return left


async def end_server(stack: Stack) -> None:
    """Kill the proxy server, as somebody else would."""
    program = stack.server.program
    if isinstance(program, Program):
        await program.kill()
    else:
        await asyncio.to_thread(program.kill)


@asynccontextmanager
async def armed(here: Environment) -> AsyncIterator[None]:
    """Connections that open inside can be reset later, where the proxy at hand needs telling."""
    await here.stack.probe()
    assert here.abilities["rst"] is None, here.abilities["rst"]
    if here.abilities["live_rst"] is None:
        yield
        return
    async with here.inject(ArmedReset()):
        yield
