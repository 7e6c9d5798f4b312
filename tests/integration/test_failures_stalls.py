"""Failures in which others wait: for a slow call, for a dead dependency, for a word."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from tests.integration.failures import (
    Case,
    beside,
    failure,
    monitor_of,
    set_to,
)
from tests.integration.refdaemon_process import TEXT


@failure("blocking-tool")
async def test_f01_a_slow_call_stalls_nobody_else(case: Case, tmp_path: Path):
    """
    While it runs a ping of another connection, a new hello and the monitor are answered.
    """
    async with (
        case.daemon(tmp_path, "--monitor-port", "0") as daemon,
        daemon.peer() as caller,
        daemon.peer() as other,
    ):
        monitor = await monitor_of(daemon)
        call = caller.call("1", "sleep", ms=700)
        reply, looks = await beside(call, daemon=daemon, other=other, monitor=monitor)

    assert reply["ok"]
    assert looks > 0


@failure("silent-work")
async def test_f04_work_that_takes_long_is_told_of(case: Case, tmp_path: Path):
    """
    A client that hangs up after some silence never meets it.
    """
    often = set_to({"server.progress_interval_s": 0.05})
    async with case.daemon(tmp_path, *often) as daemon, daemon.peer() as peer:
        frame = await peer.call("1", "sleep", ms=500)
        told = 0
        while frame["op"] == "progress":
            told += 1
            frame = await peer.receive()

    assert frame["ok"]
    assert told >= 3


@failure("serial-connection")
async def test_f14_nothing_waits_behind_a_slow_call(case: Case, tmp_path: Path):
    """
    A ping of the same connection is answered beside it, and so is a call for which there is no
    place: it does not wait for one.
    """
    one = set_to({"admission.max_inflight_per_session": 1})
    async with case.daemon(tmp_path, *one) as daemon, daemon.peer() as peer:
        for request_id in ("slow", "too many"):
            await peer.send(
                op="call_tool", request_id=request_id, name="sleep", arguments={"ms": 400}
            )
        await peer.send(op="ping", request_id="ping")
        frames = [await peer.receive() for _ in range(3)]

    assert [frame["request_id"] for frame in frames] == ["too many", "ping", "slow"]
    assert frames[0]["error"]["code"] == "OVER_CAPACITY"


@failure("blocking-connect", above_transport=True)
async def test_f19_a_dead_dependency_stalls_nobody(case: Case, tmp_path: Path):
    """
    A provider that accepts and is silent costs the one who needs it its time, and others nothing.
    """
    with socket.create_server(("127.0.0.1", 0)) as dead:
        url = f"http://127.0.0.1:{dead.getsockname()[1]}"
        async with (
            case.daemon(tmp_path, "--monitor-port", "0", "--provider", url) as daemon,
            daemon.peer() as caller,
            daemon.peer() as other,
        ):
            monitor = await monitor_of(daemon)
            call = caller.ask(
                op="call_tool",
                request_id="1",
                name="chat",
                arguments={"prompt": "why?"},
                timeout_ms=700,
            )
            reply, looks = await beside(call, daemon=daemon, other=other, monitor=monitor)

    assert not reply["ok"]
    assert looks > 0


@failure("log-flood")
async def test_f27_a_lost_connection_is_no_flood_in_the_log(case: Case, tmp_path: Path):
    """
    Two hundred answers that can no longer be sent are no two hundred lines.
    """
    many = 200
    most = set_to({"admission.max_inflight_per_session": many})
    call = {"op": "call_tool", "name": "sleep", "arguments": {"ms": 1500}}
    async with (
        case.daemon(tmp_path, *most) as daemon,
        daemon.peer() as other,
        daemon.raw() as lost,
    ):
        for n in range(many):
            lost.send(TEXT, json.dumps({**call, "request_id": str(n)}).encode())
        lost.send(TEXT, b'{"op": "ping"}')
        while b'"pong"' not in (await lost.receive())[1]:
            pass
        before = _lines(daemon.log)
        lost.reset()
        await other.health_when("calls_executed", many)

    assert _lines(daemon.log) - before < 20


def _lines(log: Path) -> int:
    return len(log.read_text().splitlines())
