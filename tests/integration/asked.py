"""
A daemon that asks a provider, its callers, and what is seen of the questions by others than it: by
the provider, and by the proxy before that.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import pytest

from harness.address import address_of_url
from harness.clock import fresh_id
from harness.daemons.reference import Reference, own_provider
from harness.environment.backends import DOCKER, EMBEDDED, LOCAL, TOXIPROXY
from harness.environment.base import Environment
from harness.environment.hops import HopName
from harness.http.client import exchange
from harness.records import ProxyEvent
from tests.integration.metered import Client, Tally, put_away
from tests.integration.proxy_process import eventually
from tests.integration.refdaemon_process import PATIENCE_S
from tests.integration.standing import ADMIN, Stand, Standing

__all__ = [
    "Callers",
    "Provider",
    "asking",
    "callers",
    "on_each_backend",
    "options",
    "reconfigured",
    "told_on",
]

on_each_backend = pytest.mark.parametrize(
    ("backend", "proxy", "transport"),
    [(LOCAL, EMBEDDED, "picows"), (DOCKER, TOXIPROXY, "picows")],
    indirect=["backend", "proxy"],
    scope="session",
)
"""Processes behind our proxy, containers behind the real one: for tests that take `stand`."""

_ANSWER_BYTES: Final = 1 << 20


def options(values: Mapping[str, Any]) -> tuple[str, ...]:
    """A daemon's command line for these keys of its configuration."""
    return tuple(word for key, value in values.items() for word in ("--set", f"{key}={value}"))


async def reconfigured(daemon: Standing, values: Mapping[str, Any]) -> None:
    """Change these keys while it runs."""
    answer = await daemon.ask("PUT", "/config", dict(values), token=ADMIN)
    assert answer.status == 200, answer.body
    assert json.loads(answer.body)["pending"] == {}


class Provider:
    """
    The provider behind a daemon, as it is seen from elsewhere.

    Args:
        here: Where both are.
    """

    def __init__(self, here: Environment) -> None:
        self._here = here
        # Asked for at once: its container may be away for a while.
        self._address = address_of_url(here.provider_url, schemes=("http",))

    async def health(self) -> dict[str, Any]:
        """What it says of itself, past the proxy."""
        async with asyncio.timeout(PATIENCE_S):
            answer = await exchange(self._address, "GET", "/health", max_bytes=_ANSWER_BYTES)
        report: dict[str, Any] = json.loads(answer.body)
        return report

    async def requests(self) -> int:
        """How many questions reached it, since it was started."""
        return int((await self.health())["requests"])

    async def runs(self, count: int) -> None:
        """Wait until it works on so many questions."""
        await eventually(self.health, lambda report: report["running"] == count)

    async def dialled(self) -> int:
        """How many connections to it the proxy told of, so far."""
        return len(await told_on(self._here, "provider", "opened"))

    def executions(self) -> list[str | None]:
        """The keys of all it carried out, in order."""
        return [execution.key for execution in self._here.executions()]


async def told_on(here: Environment, hop: HopName, *kinds: str) -> list[ProxyEvent]:
    """What the proxy on a hop told so far, of these kinds."""
    await here.collect()
    proxy = here.name
    if hop == "provider":
        assert here.stack.behind is not None
        proxy = here.stack.behind.hop.proxy
    return [event for event in here.events if event.proxy == proxy and event.kind in kinds]


@asynccontextmanager
async def asking(
    stand: Stand, values: Mapping[str, Any]
) -> AsyncIterator[tuple[Standing, Provider]]:
    """A daemon with a provider behind it; some keys of its configuration."""
    daemon = partial(Reference, provider=own_provider())
    async with stand(*options(values), daemon=daemon) as there:  # type: ignore[arg-type]
        yield there, Provider(there.here)


@dataclass(frozen=True)
class Callers:
    """
    Connected clients.

    Attributes:
        all: Each in a session of its own.
        tally: What they counted, together.
    """

    all: list[Client]
    tally: Tally

    @property
    def first(self) -> Client:
        """One of them."""
        return self.all[0]


@asynccontextmanager
async def callers(daemon: Standing, count: int = 1) -> AsyncIterator[Callers]:
    """So many clients, through the proxy."""
    async with put_away(Tally()) as tally:
        made = [Client(daemon.port, f"caller-{fresh_id()}", tally) for _ in range(count)]
        for client in made:
            await client.connect()
        yield Callers(made, tally)
