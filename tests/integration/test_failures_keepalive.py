"""Failures of connections that are slow, half-open, or not read: met through a proxy of ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from harness.faults.bandwidth import Bandwidth
from harness.faults.latency import Latency
from harness.faults.reset_peer import ResetPeer
from harness.faults.timeout import Timeout
from harness.proxy.control import Control
from tests.integration.failures import Case, expected, failure, set_to, through, until
from tests.integration.proxy_process import proxy_process
from tests.integration.refdaemon_process import PING, PONG, TEXT

_PING = json.dumps({"op": "ping"}).encode()


@pytest.fixture(scope="module")
def control() -> Iterator[Control]:
    """A proxy server that the tests of this module share."""
    with proxy_process() as server:
        yield server.control


@failure("pong-ignored-while-busy")
async def test_f02_long_work_does_not_cost_its_connection(
    case: Case, tmp_path: Path, control: Control
):
    """
    A call that takes longer than ping interval and time-out together is answered on its
    connection, over a network that delays the pongs.
    """
    keepalive = set_to({"connections.ping_interval_s": 0.1, "connections.ping_timeout_s": 0.8})
    async with (
        case.daemon(tmp_path, *keepalive) as daemon,
        through(control, daemon) as edge,
        edge.peer() as peer,
        edge.harmed(Latency(latency_ms=50, stream="upstream")),
        expected("the answer"),
    ):
        reply = await peer.call("1", "sleep", ms=1200)

    assert reply["ok"]


@failure("impatient-ping")
async def test_f03_a_slow_network_is_no_dead_peer(case: Case, tmp_path: Path, control: Control):
    """
    Whose pongs take long, and not longer than they may, is asked again and again, and never cut.
    """
    keepalive = set_to({"connections.ping_interval_s": 0.1, "connections.ping_timeout_s": 2.0})
    slow = (
        Latency(latency_ms=200, jitter_ms=20, stream="upstream"),
        Latency(latency_ms=200, jitter_ms=20, stream="downstream"),
    )
    async with (
        case.daemon(tmp_path, *keepalive) as daemon,
        through(control, daemon) as edge,
        edge.raw() as peer,
        edge.harmed(*slow),
    ):
        for n in range(3):
            async with expected(f"ping {n}"):
                opcode, payload = await peer.receive()
            assert opcode == PING
            peer.send(PONG, payload)


@failure("kept-slot", in_transport=True)
async def test_f15_a_reset_gives_the_place_back(case: Case, tmp_path: Path, control: Control):
    """
    As many connections as one address may have can be made again after all were reset.
    """
    limit = set_to({"admission.max_connections_per_address": 4})
    async with (
        case.daemon(tmp_path, *limit) as daemon,
        daemon.peer() as other,
        through(control, daemon) as edge,
    ):
        async with edge.raw() as first, edge.raw() as second, edge.raw() as third:
            async with edge.connected() as late:
                refused = await late.close_code()
            async with edge.harmed(ResetPeer(stream="upstream")):
                for peer in (first, second, third):
                    peer.send(TEXT, _PING)
                await other.health_when("closed_by_reset", 3)
        async with AsyncExitStack() as places:
            for n in range(3):
                async with expected(f"place {n}"):
                    await places.enter_async_context(edge.peer())

    assert refused == 1008


@failure("no-keepalive")
async def test_f16_a_half_open_peer_loses_its_place(case: Case, tmp_path: Path, control: Control):
    """
    Nothing comes of it and nothing reaches it, and nobody says so: after ping interval and
    time-out its place is another's.
    """
    limits = set_to(
        {
            "connections.ping_interval_s": 0.2,
            "connections.ping_timeout_s": 0.2,
            "server.close_timeout_s": 0.1,
            "admission.max_connections_per_address": 2,
        }
    )
    async with (
        case.daemon(tmp_path, *limits) as daemon,
        daemon.peer() as other,
        through(control, daemon) as edge,
        edge.raw(),
        edge.harmed(Timeout(stream="upstream"), Timeout(stream="downstream")),
    ):
        await until(
            "the half-open peer is gone",
            other.health,
            lambda seen: seen["connections"] == 1,
            within_s=2.5,
        )
        async with daemon.peer() as another:
            assert (await another.ask(op="ping"))["op"] == "pong"


@failure("unbounded-reader", in_transport=True)
async def test_f17_a_peer_that_does_not_read_is_given_up(
    case: Case, tmp_path: Path, control: Control
):
    """
    It is not read from while it leaves its answers, and after a while it is closed; it is served
    neither all it asked for, nor at others' cost.
    """
    many = 60
    patience = set_to({"server.slow_reader_s": 0.3, "server.close_timeout_s": 0.1})
    call = {"op": "call_tool", "name": "blob", "arguments": {"size_bytes": 1_000_000}}
    async with (
        case.daemon(tmp_path, *patience) as daemon,
        daemon.peer() as other,
        through(control, daemon) as edge,
        edge.raw() as peer,
        edge.harmed(Bandwidth(rate_kb_per_s=1, stream="downstream")),
    ):
        for n in range(many):
            peer.send(TEXT, json.dumps({**call, "request_id": str(n)}).encode())
        seen = await until(
            "it is given up, or served",
            other.health,
            lambda seen: (
                seen["counters"]["readers_shed"] or seen["counters"]["calls_executed"] == many
            ),
        )
        assert seen["counters"]["readers_shed"] == 1
        assert seen["counters"]["calls_executed"] < many
        await other.health_when("connections", 1)
