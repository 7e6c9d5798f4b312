"""
Large answers, streams, and peers that read slowly or not at all: on every ground, whole, in order
and bounded.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from harness.clock import now
from harness.faults.bandwidth import Bandwidth
from harness.faults.latency import Latency
from tests.integration.changing import setting
from tests.integration.metered import Client, Tally, outcome_of, put_away
from tests.integration.proxy_process import eventually
from tests.integration.refdaemon_process import TEXT, TOKEN, Peer, RawPeer, masked
from tests.integration.standing import Stand, Standing, on_usual_grounds

pytestmark = on_usual_grounds

KIB, MIB = 1 << 10, 1 << 20
NARROW = Bandwidth(rate_kb_per_s=50, stream="downstream")
"""Keeps the kernel from giving a connection more room: it does where much is read."""
SMALL = 4096
"""A receive buffer that is soon full, in bytes."""


async def streamed(peer: Peer, request_id: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The chunks of a call, and its answer."""
    chunks = []
    while (frame := await peer.receive())["op"] in ("stream_chunk", "progress"):
        assert frame["request_id"] == request_id
        if frame["op"] == "stream_chunk":
            chunks.append(frame)
    return chunks, frame


def assert_whole(chunks: list[dict[str, Any]], *, count: int, size: int) -> None:
    """All of them are there, once, in order, each as long as it should be and of its own number."""
    assert [chunk["index"] for chunk in chunks] == list(range(count))
    for chunk in chunks:
        assert len(chunk["chunk"]) == size
        assert chunk["chunk"].startswith(f"{chunk['index']:08d} "[:size])


# ---- blobs


async def test_blobs_of_every_size(stand: Stand) -> None:
    """
    Around the lengths at which frames change their form, and the largest there may be.
    """
    sizes = (0, 1, 60, 125, 126, 127, 65_000, 65_535, 65_536, 65_537, MIB, 16 * MIB)
    async with stand() as daemon, daemon.peer() as peer:
        for size in sizes:
            answer = await peer.call(str(size), "blob", size_bytes=size)
            text = answer["outputs"][0]["text"]
            assert (len(text), text[:16]) == (size, "0123456789abcdef"[:size])
        refused = await peer.call("more", "blob", size_bytes=16 * MIB + 1)

    assert refused["error"]["code"] == "VALIDATION_ERROR"


# ---- streams


@pytest.mark.parametrize(
    "slow",
    [
        (
            Bandwidth(rate_kb_per_s=400, stream="downstream"),
            Bandwidth(rate_kb_per_s=400, stream="upstream"),
        ),
        (
            Latency(latency_ms=20, jitter_ms=10, stream="downstream"),
            Latency(latency_ms=20, jitter_ms=10, stream="upstream"),
        ),
        (
            Bandwidth(rate_kb_per_s=600, stream="downstream"),
            Latency(latency_ms=10, jitter_ms=10, stream="upstream"),
        ),
    ],
    ids=["narrow", "late", "both"],
)
async def test_a_stream_comes_whole_through_a_slow_link(
    stand: Stand, slow: tuple[Any, ...]
) -> None:
    """
    Numbered, in order, and then the answer; others on the same link have theirs meanwhile.
    """
    count, size = 200, KIB
    arguments = {"chunks": count, "size_bytes": size}
    async with (
        stand() as daemon,
        daemon.peer() as peer,
        daemon.peer() as other,
        daemon.here.inject(slow[0]),
        daemon.here.inject(slow[-1]),
    ):
        began = now()
        await peer.send(op="call_tool", request_id="s", name="stream", arguments=arguments)
        (chunks, answer), reply = await asyncio.gather(
            streamed(peer, "s"), other.call("1", "echo", text="x")
        )
        took_s = now() - began

    assert reply["ok"]
    assert_whole(chunks, count=count, size=size)
    assert answer["outputs"][0]["text"] == f"{count} chunks"
    # The floor proves that the toxic was applied; without it all of it takes some milliseconds.
    narrow = isinstance(slow[0], Bandwidth)
    assert took_s >= (count * size / (slow[0].rate_kb_per_s * 1000) / 2 if narrow else 0.01)


async def test_streams_of_one_session_do_not_mix(stand: Stand) -> None:
    """
    Several at a time, interleaved: each is whole and in order by its own id.
    """
    arguments = {"chunks": 60, "size_bytes": 50, "every_ms": 2}
    call = {"op": "call_tool", "name": "stream", "arguments": arguments}
    calls = [json.dumps({**call, "request_id": name}).encode() for name in "abc"]
    async with stand() as daemon, daemon.raw() as peer:
        # In one write, or the first could be over before the last is sent.
        peer.writer.write(b"".join(masked(TEXT, each) for each in calls))
        frames: list[dict[str, Any]] = []
        while sum(frame["op"] == "call_tool_res" for frame in frames) < 3:
            frames.append(json.loads((await peer.receive())[1]))

    order = [frame["request_id"] for frame in frames if frame["op"] == "stream_chunk"]
    for name in "abc":
        mine = [frame for frame in frames if frame["request_id"] == name]
        assert_whole(mine[:-1], count=60, size=50)
        assert mine[-1]["ok"]
    # They came side by side: none had to wait for another's end.
    assert "a" in order[order.index("c") :]


# ---- slow readers


async def _send(peer: RawPeer, request_id: str, tool: str, **arguments: Any) -> None:
    frame = {"op": "call_tool", "request_id": request_id, "name": tool, "arguments": arguments}
    peer.send(TEXT, json.dumps(frame).encode())


async def _code_or_none(peer: RawPeer) -> int | None:
    """The code of its close frame; None where it was cut off."""
    try:
        return await peer.close_code()
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


async def _unread(daemon: Standing) -> int:
    return int((await daemon.status())["unread_bytes"])


async def test_a_stream_waits_for_who_reads_slowly(stand: Stand) -> None:
    """
    What the daemon holds for it is bounded, however long the stream is; others are served; then it
    goes on where it stopped.
    """
    # More than the kernel holds on the way, which may be three connections long.
    count, size, high = 4000, 64 * KIB, 128 * KIB
    # No progress comes among the chunks.
    options = setting(connections__high_water_bytes=high, server__progress_interval_s=600)
    async with (
        stand(*options) as daemon,
        daemon.raw(receive_bytes=SMALL) as peer,
        daemon.peer() as other,
    ):
        async with daemon.here.inject(NARROW):
            await _send(peer, "s", "stream", chunks=count, size_bytes=size)
            most = await eventually(lambda: _unread(daemon), lambda unread: unread > high)
            for n in range(20):
                assert (await other.call(str(n), "echo", text="x"))["ok"]
                most = max(most, await _unread(daemon))
        chunks = [json.loads((await peer.receive())[1]) for _ in range(300)]

    # A chunk above the mark is the last one for a while.
    assert most <= high + 4 * size
    assert_whole(chunks, count=300, size=size)


async def test_who_never_reads_is_shed_and_loses_nothing_that_counts(stand: Stand) -> None:
    """
    Closed with 1008 after its time; its session has the answers that it could not be sent.
    """
    high = 64 * KIB
    options = setting(
        connections__high_water_bytes=high,
        connections__queue_bytes=64 * MIB,
        idempotency__answers_bytes_per_session=64 * MIB,
        server__slow_reader_s=0.5,
    )
    asked: list[str] = []
    async with stand(*options) as daemon, put_away(Tally()) as tally, daemon.peer() as other:
        async with daemon.raw(hello=False, receive_bytes=SMALL) as peer:
            hello = {"op": "hello", "token": TOKEN, "session_id": "lazy"}
            peer.send(TEXT, json.dumps(hello).encode())
            await peer.receive()
            async with daemon.here.inject(NARROW):
                # The kernel holds a lot on the way: it asks on until the daemon has enough of it.
                while (await other.health())["counters"]["readers_shed"] == 0:
                    asked.append(f"b{len(asked)}")
                    assert len(asked) < 1000
                    await _send(peer, asked[-1], "blob", size_bytes=MIB)
                    assert (await other.call(asked[-1], "echo", text="x"))["ok"]
            events = await daemon.events("reader shed")
            code = await _code_or_none(peer)
        left = await eventually(daemon.status, lambda status: status["connections"] == 1)
        client = Client(daemon.port, "lazy", tally)
        welcome = await client.connect()
        again = [await client.call("blob", {"size_bytes": MIB}, key=name) for name in asked[-5:]]
        effects = [effect.key for effect in daemon.effects() if effect.tool == "blob"]

    # Once above the mark it is slow until it has read down to a quarter of that.
    assert events[0]["unread_bytes"] > high // 4
    # Its close frame stands behind what it never read.
    assert code in (1008, None)
    assert welcome["resumed"]
    # What it could not be sent was sent before anything else.
    assert client.others.qsize() == left["waiting_answers"]
    assert all(answer["ok"] for answer in again)
    # None ran twice; what was not read from it did not run.
    assert len(set(effects)) == len(effects) <= len(asked)
    assert {outcome_of(answer) for answer in again} <= {"executed", "replayed"}
