"""
The daemon's metrics after a known workload, through resets and reconnects: equal exactly to what
its clients counted in calls and the proxy in connections and bytes (`exact`).
"""

from __future__ import annotations

import pytest

from tests.integration.exact import CHECKS, assert_exact, worked
from tests.integration.metered import Client, Tally, put_away
from tests.integration.planted import MISTAKES, Mistake
from tests.integration.proxy_process import eventually
from tests.integration.scraped import Page
from tests.integration.standing import Stand, Standing, here_alone, on_each_ground
from tests.integration.workload import OPTIONS

_LONG_MS = 600_000
_PAGE_BYTES = 4096


@on_each_ground
async def test_metrics_are_what_clients_and_proxy_counted(stand: Stand) -> None:
    """
    Calls of every outcome, by clients that reset, leave, are reset, and come back.
    """
    async with stand(*OPTIONS) as daemon:
        assert_exact(await worked(daemon, clients=8))


@here_alone
@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
async def test_a_daemon_that_miscounts_by_one_is_found(stand: Stand, mistake: Mistake) -> None:
    """
    By the comparison that it concerns, and by no other.
    """
    async with stand(*OPTIONS, daemon=mistake.daemon()) as daemon:
        seen = await worked(daemon, clients=8)

    for name, check in CHECKS.items():
        if name != mistake.found_in:
            check(seen)
    with pytest.raises(AssertionError):
        CHECKS[mistake.found_in](seen)


def near(found: float, truth: float) -> bool:
    """Within 5 %."""
    return abs(found - truth) <= truth / 20


async def gauges(daemon: Standing) -> Page:
    """What the page shows now."""
    return Page.read((await daemon.ask("GET", "/metrics")).body.decode())


@on_each_ground
async def test_gauges_show_what_there_is(stand: Stand) -> None:
    """
    Connections, sessions and running calls, while clients come, work, and are gone.
    """
    # Whose calls never end need not be waited for.
    many = ("--set", "admission.max_inflight_per_session=10", "--set", "server.drain_s=0")
    async with stand(*many) as daemon, put_away(Tally()) as tally:
        clients = [Client(daemon.port, f"worker-{n}", tally) for n in range(40)]
        for client in clients:
            await client.connect()
            for _ in range(5):
                client.begin("sleep", {"ms": _LONG_MS})
            # Its answer says that what came before it was read.
            await client.ask({"op": "ping", "request_id": "p"})
        full = await gauges(daemon)
        for client in clients[:20]:
            await client.break_off()
        half = await eventually(
            lambda: gauges(daemon), lambda page: page.value("connections_open") <= 20
        )
        for client in clients[20:]:
            for number in range(1, 5):
                await client.ask({"op": "cancel", "request_id": f"{client.session}-{number}"})
        fewer = await gauges(daemon)

    for page, there, running in ((full, 40, 200), (half, 20, 200), (fewer, 20, 120)):
        assert near(page.value("connections_open"), there)
        assert near(page.value("connections_active"), there)
        assert near(page.value("clients_live"), there)
        assert near(page.value("calls_running"), running)
        assert near(page.value("sessions_remembered"), 40)
