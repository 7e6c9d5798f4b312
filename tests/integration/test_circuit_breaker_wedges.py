"""
Attempts to wedge the breaker before a daemon's provider while it is half-open: whatever becomes of
the probes and of those who asked, it closes when the provider is well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from harness.faults.kill import Kill
from harness.faults.latency import Latency
from harness.faults.pause import Pause
from tests.integration.asked import (
    Callers,
    Provider,
    asking,
    callers,
    on_each_backend,
    reconfigured,
)
from tests.integration.metered import soon
from tests.integration.proxy_process import eventually
from tests.integration.standing import Stand, Standing
from tests.integration.tripping import (
    OPEN_S,
    PROBES,
    VALUES,
    asks,
    chat,
    closes,
    end_of,
    first_of,
    half_open,
    opened,
)

pytestmark = [on_each_backend, pytest.mark.timeout(120)]

CALLERS = 50
LONG_MS = 50_000
HALF_OPEN_S = 1.0

Wedge = Callable[[Standing, Provider, Callers], Awaitable[None]]


async def probing(
    provider: Provider, clients: Callers, *, delay_ms: int = LONG_MS
) -> list[asyncio.Future[dict[str, Any]]]:
    """All ask at once; the provider works on as many as may probe, the others were refused."""
    ends = [asks(client, delay_ms=delay_ms) for client in clients.all]
    await provider.runs(PROBES)
    await soon(first_of(ends, CALLERS - PROBES))
    return ends


async def cancelled(daemon: Standing, provider: Provider, clients: Callers) -> None:
    """All change their minds, those who probe among them."""
    ends = await probing(provider, clients)
    for client in clients.all:
        await client.ask({"op": "cancel", "request_id": client.last_id})
    found = [end_of(answer) for answer in await soon(asyncio.gather(*ends))]
    assert (found.count("CANCELLED"), found.count("SERVICE_UNAVAILABLE")) == (
        PROBES,
        CALLERS - PROBES,
    )


async def reset(daemon: Standing, provider: Provider, clients: Callers) -> None:
    """The connections of all break, for good; what was asked goes on, and is nobody's."""
    await probing(provider, clients, delay_ms=1_500)
    for client in clients.all:
        await client.break_off()


async def timed_out(daemon: Standing, provider: Provider, clients: Callers) -> None:
    """The provider is late, and those who probe wait no longer."""
    async with daemon.here.inject(Latency(latency_ms=5_000), hop="provider"):
        ends = [asks(client, timeout_ms=200) for client in clients.all]
        found = [end_of(answer) for answer in await soon(asyncio.gather(*ends))]
    # A place that was given back may be taken by another one at once.
    assert found.count("TIMEOUT") >= PROBES
    assert set(found) == {"TIMEOUT", "SERVICE_UNAVAILABLE"}


async def killed(daemon: Standing, provider: Provider, clients: Callers) -> None:
    """The provider dies over what it is asked; those who ask it then get nothing either."""
    ends = await probing(provider, clients)
    # It opens when the provider dies, which may be long before all that a kill takes is done.
    await reconfigured(daemon, {"breaker.open_s": 60})
    async with daemon.here.inject(Kill(), hop="provider"):
        found = [end_of(answer) for answer in await soon(asyncio.gather(*ends))]
        assert found.count("PROVIDER_ERROR") == PROBES
        assert end_of(await chat(clients.first)) == "SERVICE_UNAVAILABLE"
    await reconfigured(daemon, {"breaker.open_s": OPEN_S})


async def frozen(daemon: Standing, provider: Provider, clients: Callers) -> None:
    """The provider freezes over what it is asked, and its time runs out."""
    await reconfigured(daemon, {"provider.attempt_timeout_s": 1})
    async with daemon.here.inject(Pause(), hop="provider"):
        ends = [asks(client) for client in clients.all]
        found = [end_of(answer) for answer in await soon(asyncio.gather(*ends))]
    assert found.count("TIMEOUT") == PROBES


async def hanging(daemon: Standing, provider: Provider, clients: Callers) -> None:
    """Those who probe get no answer for as long as it may be half-open."""
    await probing(provider, clients)


WEDGES: list[Wedge] = [cancelled, reset, timed_out, killed, frozen, hanging]


@pytest.mark.parametrize("wedge", WEDGES, ids=lambda wedge: wedge.__name__)
async def test_it_closes_whatever_becomes_of_its_probes(stand: Stand, wedge: Wedge) -> None:
    """
    Fifty callers at once come to grief over a half-open breaker; the next one gets through in time.
    """
    half_open_s = HALF_OPEN_S if wedge is hanging else 60
    async with (
        asking(stand, {**VALUES, "breaker.half_open_s": half_open_s}) as (daemon, provider),
        callers(daemon, CALLERS) as clients,
        callers(daemon) as others,
    ):
        await opened(daemon, others.first)
        await half_open(daemon)
        await wedge(daemon, provider, clients)
        await closes(others.first, within_s=OPEN_S + HALF_OPEN_S)
        # One of those whose connection broke may be asking still.
        in_use = PROBES if wedge is hanging else 0
        status = await eventually(
            daemon.status, lambda status: status["permits"]["in_use"] == in_use
        )
        health = await provider.health()

    assert status["breakers"]["provider"]["state"] == "closed"
    assert health["ok"]


async def test_fifty_callers_who_go_on_asking_all_get_through(stand: Stand) -> None:
    """
    From open to closed, at once: each is served as soon as the breaker lets it, and none starves.
    """
    async with asking(stand, VALUES) as (daemon, provider), callers(daemon, CALLERS) as clients:
        await opened(daemon, clients.first)
        passed = await asyncio.gather(*(closes(client) for client in clients.all))
        requests = await provider.requests()
        changes = await daemon.events("breaker changed")

    assert requests == sum(map(len, passed))
    assert [each["after"] for each in changes] == ["open", "half_open", "closed"]
