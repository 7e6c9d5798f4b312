"""
The failures of real daemons, as tests: each on the daemon as it is, which must pass, and on one
with the failure's defect, which must fail.

docs/defects.md has the table of them. A test is named after its failure, F1 to F29. What it waits
for comes at once, or its absence is shown by what came after it, so that few of them wait on the
clock, and those that do have room.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
from websockets.exceptions import ConnectionClosed

from harness.address import Address, address_of_url
from harness.clock import fresh_id, now, now_ns
from harness.environment.backends import EMBEDDED, LOCAL
from harness.faults.base import Toxic
from harness.http.client import exchange
from harness.proxy.control import Control
from tests.grounds import ALONE, stands_on
from tests.integration.refdaemon_process import PATIENCE_S, Daemon, Peer, Process, started

__all__ = [
    "LONG_MS",
    "Case",
    "Edge",
    "Monitor",
    "beside",
    "expected",
    "failure",
    "monitor_of",
    "set_to",
    "through",
    "until",
]

T = TypeVar("T")

LONG_MS: Final = 600_000
"""Longer than any test."""

_PICOWS: Final = ("picows",)
_BOTH: Final = (*_PICOWS, "websockets")
_CAUGHT: Final = (AssertionError, pytest.fail.Exception)


@dataclass(frozen=True)
class Case:
    """One run of a test: on which transport, and with which defect, if any."""

    transport: str
    defect: str | None

    def daemon(self, folder: Path, *arguments: str) -> AbstractAsyncContextManager[Process]:
        """The daemon under test, with these options beside the defect."""
        stands_on(LOCAL, ALONE)
        return started(folder, *self.options, *arguments, transport=self.transport)

    @property
    def options(self) -> tuple[str, ...]:
        """What switches the defect on."""
        return () if self.defect is None else ("--defect", self.defect)


def failure(
    defect: str, *, above_transport: bool = False, in_transport: bool = False
) -> pytest.MarkDecorator:
    """
    Run a test on the healthy daemon, on both transports, and on one with a defect, where it must
    fail by what it asserts: a test that breaks in another way catches nothing.

    Args:
        defect: Its name.
        above_transport: Whether no transport has to do with what is tested: one is enough.
        in_transport: Whether the transports have to do with the defect: it is put into both.
    """
    healthy_on = _PICOWS if above_transport else _BOTH
    spoilt_on = _BOTH if in_transport else _PICOWS
    caught = pytest.mark.xfail(strict=True, raises=_CAUGHT, reason=f"defect {defect}")
    cases = [
        *(pytest.param(Case(each, None), id=f"healthy-{each}") for each in healthy_on),
        *(
            pytest.param(Case(each, defect), id=f"{defect}-{each}", marks=caught)
            for each in spoilt_on
        ),
    ]
    return pytest.mark.parametrize("case", cases)


def set_to(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The options that set keys of the configuration."""
    pairs = [("--set", f"{name}={value}") for name, value in values.items()]
    return tuple(word for pair in pairs for word in pair)


@asynccontextmanager
async def expected(what: str, *, within_s: float = PATIENCE_S) -> AsyncIterator[None]:
    """Of what is in it something must come, in time, and before the connection ends."""
    try:
        async with asyncio.timeout(within_s):
            yield
    except TimeoutError:
        pytest.fail(f"{what}: not within {within_s:g} s")
    except (ConnectionClosed, EOFError, ConnectionError) as error:
        pytest.fail(f"{what}: the connection ended before, {error}")


async def until(
    what: str,
    ask: Callable[[], Awaitable[T]],
    good: Callable[[T], object],
    *,
    within_s: float = PATIENCE_S,
) -> T:
    """Ask until the answer is good."""
    deadline = now() + within_s
    while not good(answer := await ask()):
        if now() > deadline:
            pytest.fail(f"{what}: not within {within_s:g} s; last: {answer}")
        # For the others on this machine.
        await asyncio.sleep(0.005)
    return answer


@dataclass(frozen=True)
class Monitor:
    """A daemon's monitor."""

    address: Address

    async def ask(self, path: str) -> tuple[int, Any]:
        """Status and body of an answer."""
        async with expected(path):
            answer = await exchange(self.address, "GET", path, max_bytes=1 << 20)
        return answer.status, json.loads(answer.body)

    async def status(self) -> dict[str, Any]:
        """All there is to know."""
        body: dict[str, Any] = (await self.ask("/status"))[1]
        return body

    async def health(self) -> tuple[int, list[str]]:
        """Its status, and what speaks against the daemon."""
        status, body = await self.ask("/health")
        return status, body["why_not"]


async def monitor_of(daemon: Process) -> Monitor:
    """The monitor of a daemon with `--monitor-port 0`; it says second where that is."""
    assert daemon.process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        line = await daemon.process.stdout.readline()
    return Monitor(address_of_url(json.loads(line)["listening"], schemes=("http",)))


class Edge(Daemon):
    """A daemon as it is seen through a proxy of ours."""

    def __init__(self, daemon: Daemon, control: Control, name: str, url: str) -> None:
        super().__init__(daemon.log, daemon.effects_file, url)
        self.held = daemon.held
        self._control = control
        self._name = name

    @asynccontextmanager
    async def harmed(self, *toxics: Toxic) -> AsyncIterator[None]:
        """With these toxics on all its connections."""
        names = [fresh_id() for _ in toxics]
        for name, toxic in zip(names, toxics, strict=True):
            await self._control.add_toxic(self._name, toxic, name=name)
        yield
        for name in names:
            await self._control.remove_toxic(self._name, name)


@asynccontextmanager
async def through(control: Control, daemon: Daemon) -> AsyncIterator[Edge]:
    """A proxy before the daemon."""
    stands_on(LOCAL, EMBEDDED)
    name = f"edge-{fresh_id()}"
    state = await control.create(name, upstream=f"127.0.0.1:{daemon.port}")
    yield Edge(daemon, control, name, f"ws://{state.listen}")
    await control.delete(name)


async def beside(
    call: Coroutine[Any, Any, dict[str, Any]], *, daemon: Daemon, other: Peer, monitor: Monitor
) -> tuple[dict[str, Any], int]:
    """
    Carry out a call and see meanwhile, again and again, whether the daemon is there for others.

    It is where it answers a ping of another connection, a new hello, and its monitor.

    Returns:
        The call's answer, and how often all three began and ended while its tool ran.
    """
    task = asyncio.create_task(call)
    looks: list[tuple[int, int]] = []
    while not task.done():
        began_ns = now_ns()
        await other.ask(op="ping")
        async with daemon.peer():
            pass
        await monitor.health()
        looks.append((began_ns, now_ns()))
    reply = await task
    first, last = reply["began_ns"], reply["answered_ns"]
    return reply, sum(first <= began <= ended <= last for began, ended in looks)
