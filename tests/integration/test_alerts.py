"""Alerts of a daemon: each raised by something that is really the matter, and cleared after it."""

from __future__ import annotations

import asyncio

import pytest

from harness.faults.descriptor_limit import DescriptorLimit
from harness.faults.down import Down
from harness.faults.latency import Latency
from tests.integration.alerting import alerting, left, working
from tests.integration.asked import callers, on_each_backend, reconfigured
from tests.integration.metered import soon
from tests.integration.standing import Stand
from tests.integration.tripping import chat, end_of

pytestmark = [on_each_backend, pytest.mark.timeout(120)]

UP_AND_DOWN = [("raised", "warn"), ("changed", "critical"), ("changed", "warn"), ("cleared", None)]
MIB = 1 << 20


async def test_slow_calls(stand: Stand) -> None:
    """
    A provider that is late is told of as long as it is, however few calls end meanwhile.
    """
    # One call is never over, and need not be waited for.
    values = {"server.drain_s": 0}
    async with (
        alerting(stand, "p95_ms", values, warn=500, critical=1_500) as alert,
        callers(alert.daemon) as clients,
    ):
        inject = alert.daemon.here.inject
        # Where no call ends and none runs, nothing is slow: the alert would be over.
        clients.first.begin("sleep", {"ms": 600_000})
        async with working(lambda: chat(clients.first)):
            async with inject(Latency(latency_ms=800), hop="provider"):
                raised = await alert.comes("raised", "warn")
                # On the other way: Toxiproxy lets go of what it holds on the one that is changed.
                further = Latency(stream="upstream", latency_ms=1_200)
                async with inject(further, hop="provider"):
                    changed = await alert.comes("changed", "critical")
                    # Between the ends of two calls there are many readings.
                    await chat(clients.first)
                await alert.comes("changed", "warn")
            await alert.comes("cleared", None)
        told = await alert.told()

    assert raised["reading"] >= 800
    assert changed["reading"] >= 2_000
    assert told == UP_AND_DOWN


async def test_failing_calls(stand: Stand) -> None:
    """
    A provider that is away fails those calls that need it: first every other, then all.
    """
    values = {"retry.attempts": 1, "breaker.failures": 1_000_000, "alerts.interval_s": 0.5}
    async with (
        alerting(stand, "error_rate", values, warn=0.2, critical=0.95) as alert,
        callers(alert.daemon, 16) as clients,
    ):

        async def failing() -> None:
            answers = await asyncio.gather(*(chat(client) for client in clients.all[:8]))
            assert {end_of(answer) for answer in answers} == {"PROVIDER_ERROR"}

        async def mixed() -> None:
            echoes = (client.call("echo", {"text": "hi"}) for client in clients.all[8:])
            await asyncio.gather(failing(), *echoes)

        async with alert.daemon.here.inject(Down(), hop="provider"):
            async with working(mixed):
                raised = await alert.comes("raised", "warn")
            async with working(failing):
                changed = await alert.comes("changed", "critical")
            executions = alert.provider.executions()
        async with working(lambda: chat(clients.first)):
            await alert.comes("cleared", None)

    assert executions == []
    assert 0.2 <= raised["reading"] < 0.95
    assert changed["reading"] >= 0.95


@pytest.mark.parametrize("level", ["warn", "critical"])
async def test_an_open_breaker(stand: Stand, level: str) -> None:
    """
    That before a provider which is away; until it is back and was asked.
    """
    values = {"retry.attempts": 1, "breaker.failures": 3, "breaker.open_s": 0.5}
    async with (
        alerting(stand, "open_breakers", values, **{level: 1}) as alert,
        callers(alert.daemon) as clients,
    ):
        async with working(lambda: chat(clients.first)):
            async with alert.daemon.here.inject(Down(), hop="provider"):
                raised = await alert.comes("raised", level)
                # What reached it before may be unread.
                await alert.provider.runs(0)
                executed = alert.provider.executions()
                refused = [await chat(clients.first) for _ in range(3)]
                more = alert.provider.executions()[len(executed) :]
            await alert.comes("cleared", None)
        told = await alert.told()

    assert raised["reading"] == 1
    assert told == [("raised", level), ("cleared", None)]
    assert "executed" not in map(end_of, refused)
    assert more == []


@pytest.mark.parametrize(
    "room",
    [
        {"connections.queue_messages": 10},
        {"connections.queue_messages": 1_000, "connections.queue_bytes": 2_200},
    ],
    ids=["messages", "bytes"],
)
async def test_a_full_queue(stand: Stand, room: dict[str, int]) -> None:
    """
    A session is gone while its calls run: their answers wait for it, few and then many.
    """
    values = {"admission.max_inflight_per_session": 20, **room}
    async with (
        alerting(stand, "queue_fill", values, warn=0.45, critical=0.75) as alert,
        callers(alert.daemon) as clients,
    ):
        client = clients.first
        ends = [client.begin("sleep", {"ms": 500}) for _ in range(6)]
        ends += [client.begin("sleep", {"ms": 2_500}) for _ in range(4)]
        await client.ask({"op": "ping", "request_id": "p"})
        await client.break_off()
        await alert.comes("raised", "warn")
        changed = await alert.comes("changed", "critical")
        await client.connect()
        answers = await soon(asyncio.gather(*ends))
        await alert.comes("cleared", None)
        told = await alert.told()

    assert changed["reading"] >= 0.75
    assert all(answer["ok"] for answer in answers)
    assert told == [UP_AND_DOWN[0], UP_AND_DOWN[1], UP_AND_DOWN[3]]


async def test_memory(stand: Stand) -> None:
    """
    Large answers are kept for their keys, until their session is forgotten.
    """
    values = {
        "idempotency.answers_bytes": 1 << 30,
        "idempotency.answers_bytes_per_session": 1 << 30,
        "connections.session_ttl_s": 1,
    }
    async with (
        alerting(stand, "memory_bytes", values) as alert,
        callers(alert.daemon) as clients,
    ):
        daemon, client = alert.daemon, clients.first
        # What it takes once is not given back.
        await client.call("blob", {"size_bytes": 4 * MIB})
        used = (await daemon.status())["process"]["memory_bytes"]
        levels = {"warn": used + 60 * MIB, "critical": used + 120 * MIB}
        await reconfigured(
            daemon, {f"alerts.{level}_memory_bytes": at for level, at in levels.items()}
        )

        async def kept(megabytes: int) -> None:
            for _ in range(megabytes // 4):
                await client.call("blob", {"size_bytes": 4 * MIB})

        await kept(80)
        await alert.comes("raised", "warn")
        await kept(80)
        await alert.comes("changed", "critical")
        await client.close()
        await alert.comes("cleared", None)
        status = await daemon.status()

    assert status["keys"]["bytes"] == 0


async def test_descriptors(stand: Stand) -> None:
    """
    It may have fewer, and then has more connections; until it may have as many as before.
    """
    async with (
        alerting(stand, "descriptors_fill", {}, warn=0.7, critical=0.9) as alert,
        callers(alert.daemon, 30) as clients,
    ):
        daemon = alert.daemon
        used = (await daemon.status())["process"]["descriptors"]
        limit = used * 4 // 3
        async with daemon.here.inject(DescriptorLimit(descriptors=limit)):
            await alert.comes("raised", "warn")
            async with callers(daemon, limit - used - 4) as more:
                changed = await alert.comes("changed", "critical")
                await left(more.all)
            await alert.comes("changed", "warn")
        await alert.comes("cleared", None)
        told = await alert.told()
        answer = await clients.first.call("echo", {"text": "hi"})

    assert changed["reading"] >= 0.9
    assert told == UP_AND_DOWN
    assert answer["ok"]


async def test_connections(stand: Stand) -> None:
    """
    Of twenty that there may be, twelve, then eighteen, and fewer again.
    """
    values = {"admission.max_connections": 20, "admission.max_connections_per_address": 20}
    async with (
        alerting(stand, "connections_fill", values, warn=0.6, critical=0.9) as alert,
        callers(alert.daemon, 12) as clients,
    ):
        daemon = alert.daemon
        await alert.comes("raised", "warn")
        async with callers(daemon, 6) as more:
            changed = await alert.comes("changed", "critical")
            await left(more.all)
        await alert.comes("changed", "warn")
        await left(clients.all[:6])
        cleared = await alert.comes("cleared", None)
        told = await alert.told()

    assert (changed["reading"], cleared["reading"] < 0.54) == (0.9, True)
    assert told == UP_AND_DOWN


async def test_a_reading_that_sways_raises_one_alert(stand: Stand) -> None:
    """
    Connections come and go about the threshold; below a tenth of it less, it is over.
    """
    values = {"admission.max_connections": 20, "admission.max_connections_per_address": 20}
    async with (
        alerting(stand, "connections_fill", values, warn=0.55) as alert,
        callers(alert.daemon, 10) as clients,
    ):
        for _ in range(5):
            async with callers(alert.daemon, 2) as more:
                await alert.reads(0.6)
                await left(more.all)
            await alert.reads(0.5)
        await left(clients.all[:1])
        await alert.comes("cleared", None)
        told = await alert.told()

    assert told == [("raised", "warn"), ("cleared", None)]
