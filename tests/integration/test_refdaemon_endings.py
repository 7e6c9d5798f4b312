"""How connections of the reference daemon end, and slow peers among quick ones."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from harness.clock import now
from tests.integration.refdaemon_process import (
    CLOSE,
    PATIENCE_S,
    PING,
    PONG,
    TEXT,
    UNIT_S,
    RawPeer,
    Serve,
    masked,
    on_both_transports,
    started,
)

pytestmark = on_both_transports

# Padded: the fewer of them a kernel holds, the fewer answers are to be read, each of them longer.
_LISTING = masked(TEXT, json.dumps({"op": "list_tools", "padding": "x" * 200}).encode())


def _big_echo(n: int) -> bytes:
    call = {"op": "call_tool", "request_id": str(n), "name": "echo"}
    return masked(TEXT, json.dumps({**call, "arguments": {"text": "x" * 100_000}}).encode())


async def _until_stuck(peer: RawPeer, chunk: bytes, most_bytes: int) -> int:
    """Send until the daemon takes no more for a while; how much was sent."""
    peer.writer.transport.set_write_buffer_limits(high=0)
    sent = 0
    while sent < most_bytes:
        peer.writer.write(chunk)
        sent += len(chunk)
        try:
            async with asyncio.timeout(UNIT_S * 2):
                await peer.writer.drain()
        except TimeoutError:
            break
    return sent


async def test_fin_and_close_are_counted_apart(serve: Serve) -> None:
    """
    A peer's FIN without a word and its close frame are two different ends.
    """
    async with serve() as daemon, daemon.peer() as other:
        before = (await other.health())["counters"]
        for n in (1, 2):
            async with daemon.raw() as peer:
                peer.writer.write_eof()
                await other.health_when("closed_by_eof", n)
        for n in (1, 2, 3):
            async with daemon.raw() as peer:
                peer.send(CLOSE, b"\x03\xe8")
                await peer.close_code()
            await other.health_when("closed_orderly", before["closed_orderly"] + n)
        health = await other.health()

    ends = ("closed_by_reset", "closed_by_eof", "closed_orderly", "connections_opened")
    assert [health["counters"][key] - before[key] for key in ends] == [0, 2, 3, 5]
    assert (health["connections"], health["sessions"]) == (1, 1)


async def test_a_reset_is_counted_apart(tmp_path: Path, transport: str) -> None:
    """
    An RST is another end; met directly, for a Toxiproxy makes a FIN of its client's RST.
    """
    async with (
        started(tmp_path, transport=transport) as daemon,
        daemon.peer() as other,
        daemon.raw() as peer,
    ):
        peer.reset()
        health = await other.health_when("closed_by_reset", 1)

    ends = ("closed_by_reset", "closed_by_eof", "closed_orderly", "connections_opened")
    assert [health["counters"][key] for key in ends] == [1, 0, 0, 2]


async def test_peer_that_stops_answering_pings(serve: Serve, tmp_path: Path) -> None:
    """
    A peer that owes a pong is closed with 1011 when its time is up, and so counted.
    """
    async with serve("--ping-interval", str(UNIT_S), "--ping-timeout", str(UNIT_S)) as daemon:
        # Before its hello, from which the daemon counts.
        began = now()
        async with daemon.raw() as peer:
            opcode, _ = await peer.receive()
            code = await peer.close_code()
            took = now() - began
        # Only now: one that is held up would owe a pong itself.
        async with daemon.peer() as other:
            counters = (await other.health())["counters"]

    assert opcode == PING
    assert code == 1011
    # Two timers, each a millisecond early at most.
    assert took >= 2 * UNIT_S - 0.002
    assert counters["pings_missed"] == 1


async def test_peer_that_answers_pings_stays(serve: Serve) -> None:
    """
    As long as pongs come back, a silent peer is kept, over many intervals.
    """
    keepalive = ("--ping-interval", str(UNIT_S / 5), "--ping-timeout", str(UNIT_S * 4))
    async with (
        serve(*keepalive) as daemon,
        daemon.raw() as peer,
    ):
        # Longer than interval and time-out together.
        for _ in range(30):
            opcode, payload = await peer.receive()
            assert opcode == PING
            peer.send(PONG, payload)
        peer.send(TEXT, b'{"op": "ping", "request_id": "7"}')
        opcode, payload = await peer.receive()
        while opcode == PING:
            opcode, payload = await peer.receive()

    assert json.loads(payload)["op"] == "pong"


async def test_pings_go_on_beside_a_slow_call(serve: Serve) -> None:
    """
    A call longer than interval and time-out together does not cost its connection.
    """
    keepalive = ("--ping-interval", str(UNIT_S), "--ping-timeout", str(UNIT_S * 4))
    async with (
        serve(*keepalive) as daemon,
        daemon.peer() as peer,
    ):
        reply = await peer.call("1", "sleep", ms=int(UNIT_S * 8000))

    assert reply["ok"]


async def test_peer_that_reads_nothing_is_not_read_from(tmp_path: Path, transport: str) -> None:
    """
    A peer that never reads its answers is soon not read from, so what it can make the daemon
    hold is bounded; others are served meanwhile; when it reads again, it gets everything.
    """
    async with (
        started(tmp_path, transport=transport) as daemon,
        daemon.peer() as other,
        daemon.raw(receive_bytes=4096) as peer,
    ):
        sent = await _until_stuck(peer, _LISTING * 1000, 40_000_000)
        reply = await other.call("1", "echo", text="quick")
        resident = _resident_bytes(daemon.process.pid)
        peer.send(TEXT, b'{"op": "ping", "request_id": "last"}')
        listings = 0
        while True:
            _, payload = await peer.receive()
            if payload.startswith(b'{"op":"pong"'):
                break
            listings += 1

    assert reply["ok"]
    assert sent < 40_000_000
    assert resident < 150_000_000
    assert listings == sent // len(_LISTING)


async def test_stalled_peer_is_cut_off_by_keepalive(serve: Serve) -> None:
    """
    A peer that reads nothing cannot be closed by a handshake: it is cut off soon after its
    pong is overdue.
    """
    # The other one owes pongs, too, and may be held up.
    keepalive = ("--ping-interval", str(UNIT_S), "--ping-timeout", str(UNIT_S * 4))
    async with (
        serve(*keepalive) as daemon,
        daemon.peer() as other,
        daemon.raw(receive_bytes=4096) as peer,
    ):
        peer.writer.write(b"".join(_big_echo(n) for n in range(80)))
        await other.health_when("connections", 2)
        began = now()
        await other.health_when("connections", 1)

    # Interval, time-out, and one second for the close frame.
    assert now() - began < 5 * UNIT_S + 1 + 2


async def test_stalled_peer_does_not_keep_the_daemon_alive(tmp_path: Path, transport: str) -> None:
    """
    A daemon that is asked to end waits about a second for a peer that reads nothing.
    """
    async with (
        started(tmp_path, transport=transport) as daemon,
        daemon.raw(receive_bytes=4096) as peer,
    ):
        await _until_stuck(peer, _big_echo(1), 40_000_000)
        began = now()
        code = await daemon.stop()

    assert code == 0
    assert now() - began < 4


@pytest.mark.parametrize("answers", [True, False], ids=["answered", "unanswered"])
async def test_close_handshake_is_bounded(serve: Serve, *, answers: bool) -> None:
    """
    A peer that answers the daemon's close frame sees the end at once, one that does not after
    about a second.
    """
    async with serve() as daemon, daemon.raw(hello=False) as peer:
        peer.send(TEXT, b"junk")
        assert await peer.close_code() == 4000
        began = now()
        if answers:
            peer.send(CLOSE, b"\x0f\xa0")
        async with asyncio.timeout(PATIENCE_S):
            try:
                await peer.reader.read()
            except ConnectionResetError:
                pass
        took = now() - began

    assert took < 0.5 if answers else 0.5 < took < 3


async def test_connections_leave_nothing_behind(tmp_path: Path, transport: str) -> None:
    """
    After peers came and went in every manner, descriptors, sessions and calls are as before.
    """
    async with started(tmp_path, transport=transport) as daemon, daemon.peer() as other:
        await other.health()
        before = _descriptors(daemon.process.pid)
        for n in range(30):
            async with daemon.raw(hello=n % 2 == 0) as peer:
                if n % 3 == 0:
                    peer.send(TEXT, b'{"op": "list_tools"}')
                if n % 5 == 0:
                    peer.reset()
        health = await other.health_when("connections", 1)
        async with asyncio.timeout(PATIENCE_S):
            # The last socket is closed a turn of the loop after its connection is lost.
            while _descriptors(daemon.process.pid) != before:
                health = await other.health()

    assert (health["sessions"], health["running_calls"]) == (1, 0)
    assert health["counters"]["connections_opened"] == 31


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
