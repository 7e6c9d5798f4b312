"""
What changes hands at a bad moment: a place, a connection in a stream, an answer at a closing, a
session's name. On every ground.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from harness.clock import now
from tests.integration.changing import setting
from tests.integration.proxy_process import eventually
from tests.integration.refdaemon_process import PATIENCE_S, TEXT, TOKEN, Peer, RawPeer, masked
from tests.integration.standing import Stand, Standing, on_usual_grounds

pytestmark = on_usual_grounds

KIB, MIB = 1 << 10, 1 << 20
LONG_MS = 600_000
SMALL = 4096
"""A receive buffer that is soon full, in bytes."""


def call(request_id: str, tool: str, **arguments: Any) -> bytes:
    """A request, as it stands in a frame."""
    frame = {"op": "call_tool", "request_id": request_id, "name": tool, "arguments": arguments}
    return json.dumps(frame).encode()


async def welcomed(peer: RawPeer, session: str) -> None:
    """Say hello by that name."""
    hello = {"op": "hello", "token": TOKEN, "session_id": session}
    peer.send(TEXT, json.dumps(hello).encode())
    assert json.loads((await peer.receive())[1])["ok"]


async def next_of(peer: Peer) -> dict[str, Any]:
    """The next frame that is no progress."""
    while (frame := await peer.receive())["op"] == "progress":
        pass
    return frame


async def shed(daemon: Standing, peer: RawPeer) -> None:
    """Ask for more than the kernel holds on the way, without reading it, until that is enough."""
    asked = 0
    while (await daemon.status())["counters"]["readers_shed"] == 0:
        assert asked < 1000
        peer.send(TEXT, call(f"b{asked}", "blob", size_bytes=MIB))
        asked += 1


async def read_to_its_end(peer: RawPeer) -> None:
    """All that was sent, until it is closed or, where that took too long, cut off."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        await peer.close_code()


async def test_a_place_is_free_before_its_holder_has_the_end_of_its_call(stand: Stand) -> None:
    """
    Cancelled, its only place is had by the call that came with the cancel.
    """
    cancel = json.dumps({"op": "cancel", "request_id": "a"}).encode()
    requests = [call("a", "sleep", ms=LONG_MS), cancel, call("b", "sleep", ms=1)]
    async with (
        stand(*setting(admission__max_inflight_per_session=1)) as daemon,
        daemon.raw() as peer,
    ):
        peer.writer.write(b"".join(masked(TEXT, request) for request in requests))
        replies = [json.loads((await peer.receive())[1]) for _ in range(3)]

    assert replies[0]["error"]["code"] == "CANCELLED"
    assert [reply["ok"] for reply in replies[1:]] == [True, True]


async def test_a_stream_goes_on_by_the_connection_that_takes_its_session_over(
    stand: Stand,
) -> None:
    """
    It waited for one that did not read, and waits no longer once that was replaced.
    """
    high = 128 * KIB
    options = setting(
        connections__high_water_bytes=high, server__progress_interval_s=600, server__drain_s=0
    )
    async with stand(*options) as daemon, daemon.raw(hello=False, receive_bytes=SMALL) as before:
        await welcomed(before, "one")
        before.send(TEXT, call("s", "stream", chunks=100_000, size_bytes=64 * KIB))
        await eventually(daemon.status, lambda status: status["unread_bytes"] > high)
        async with daemon.raw(hello=False) as after:
            await welcomed(after, "one")
            frame = json.loads((await after.receive())[1])

    assert (frame["op"], frame["request_id"]) == ("stream_chunk", "s")


async def test_what_is_kept_for_who_was_shed_does_not_leave_by_the_closing_connection(
    stand: Stand,
) -> None:
    """
    It begins to read while it is closed: an answer that waits, waits for its session's return.
    """
    options = setting(
        connections__high_water_bytes=64 * KIB,
        server__slow_reader_s=0.5,
        server__close_timeout_s=10,
    )
    async with stand(*options) as daemon:
        async with daemon.raw(hello=False, receive_bytes=SMALL) as peer:
            await welcomed(peer, "lazy")
            peer.send(TEXT, call("s", "sleep", ms=4000))
            await shed(daemon, peer)
            await eventually(daemon.status, lambda status: status["waiting_answers"] == 1)
            await read_to_its_end(peer)
        async with daemon.peer(session_id="lazy") as back:
            answer = await next_of(back)

    assert (answer["request_id"], answer["ok"]) == ("s", True)


async def test_an_answer_that_comes_in_a_closing_waits_for_its_session(stand: Stand) -> None:
    """
    Its peer broke the protocol, and leaves the close frame unanswered while its call ends.
    """
    async with stand() as daemon:
        async with daemon.raw(hello=False) as peer:
            await welcomed(peer, "rude")
            peer.send(TEXT, call("s", "sleep", ms=300))
            peer.send(TEXT, b"{}", first_bits=0x40)
            code = await peer.close_code()
            await eventually(daemon.status, lambda status: status["waiting_answers"] == 1)
        async with daemon.peer(session_id="rude") as back:
            answer = await next_of(back)

    assert code == 1002
    assert (answer["request_id"], answer["ok"]) == ("s", True)


async def test_a_closing_lasts_as_long_as_it_may(stand: Stand) -> None:
    """
    Who is replaced and does not answer the close frame is cut off then, and not before.
    """
    async with (
        stand(*setting(server__close_timeout_s=2)) as daemon,
        daemon.raw(hello=False) as before,
    ):
        await welcomed(before, "one")
        began = now()
        async with daemon.peer(session_id="one"):
            code = await before.close_code()
            async with asyncio.timeout(PATIENCE_S):
                rest = await before.reader.read()

    assert (code, rest) == (4004, b"")
    assert now() - began >= 2


async def test_a_forgotten_sessions_answer_is_not_its_namesakes(stand: Stand) -> None:
    """
    A session is forgotten while its call runs; who has its name now never hears of it.
    """
    async with stand(*setting(connections__session_ttl_s=0.5)) as daemon:
        async with daemon.peer(session_id="one") as first:
            await first.send(op="call_tool", request_id="1", name="sleep", arguments={"ms": 2500})
            await first.health_when("running_calls", 1)
        await eventually(daemon.status, lambda status: status["sessions_remembered"] == 0)
        async with daemon.peer(session_id="one") as second:
            await eventually(
                daemon.status, lambda status: status["counters"]["calls_executed"] == 1
            )
            reply = await second.call("1", "echo", text="mine")
            counters = (await daemon.status())["counters"]

    assert reply["outputs"][0]["text"] == "mine"
    assert counters["replies_left"] == 1
