"""
Connections to the daemon on every ground: made and ended, many at a time, with every close code,
and whatever messages they carry.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from harness.faults.kill import Kill
from harness.faults.stop import Stop
from tests.integration.changing import setting
from tests.integration.metered import Client, Tally, put_away, soon
from tests.integration.proxy_process import eventually
from tests.integration.refdaemon_process import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PATIENCE_S,
    PING,
    TEXT,
    TOKEN,
    masked,
)
from tests.integration.standing import Stand, Standing, on_each_ground

pytestmark = on_each_ground

MIB = 1 << 20
_ENDS = ("closed_by_reset", "closed_by_eof", "closed_orderly")


def call(request_id: str, text: str) -> bytes:
    """A call of echo, as a message."""
    frame = {"op": "call_tool", "request_id": request_id, "name": "echo"}
    return json.dumps({**frame, "arguments": {"text": text}}, ensure_ascii=False).encode()


async def counters(daemon: Standing) -> dict[str, int]:
    """What it counted so far, once whoever waited for it to be ready is gone."""
    found: dict[str, int] = (await daemon.status())["counters"]
    return found


# ---- made and ended


async def test_a_hundred_connections_side_by_side(stand: Stand) -> None:
    """
    Opened at the same time, each with a session of its own; each gets the answers to its own calls,
    by their ids; all end in order.
    """
    async with stand() as daemon, put_away(Tally()) as tally:
        clients = [Client(daemon.port, f"client-{n}", tally) for n in range(100)]
        await asyncio.gather(*(client.connect() for client in clients))
        status = await daemon.status()
        calls = [
            [client.begin("echo", {"text": f"{client.session}/{n}"}) for n in range(5)]
            for client in clients
        ]
        texts = [[(await soon(one))["outputs"][0]["text"] for one in row] for row in calls]
        await asyncio.gather(*(client.close() for client in clients))
        after = await eventually(daemon.status, lambda status: status["connections"] == 0)

    assert (status["connections"], status["sessions"]) == (100, 100)
    assert texts == [[f"client-{n}/{k}" for k in range(5)] for n in range(100)]
    assert after["counters"]["closed_orderly"] >= 100
    assert after["sessions_remembered"] >= 100


@pytest.mark.parametrize(
    ("end", "counted"),
    [("close", "closed_orderly"), ("leave", "closed_by_eof"), ("break_off", "closed_by_eof")],
)
async def test_an_end_of_the_client_reaches_the_daemon(
    stand: Stand, end: str, counted: str
) -> None:
    """
    A close frame, FIN without one, and RST, which proxies make a FIN of.
    """
    async with stand() as daemon, put_away(Tally()) as tally:
        client = Client(daemon.port, "client", tally)
        await client.connect()
        before = await counters(daemon)
        await getattr(client, end)()
        await eventually(daemon.status, lambda status: status["connections"] == 0)
        after = await counters(daemon)

    assert {name: after[name] - before[name] for name in _ENDS} == {
        **dict.fromkeys(_ENDS, 0),
        counted: 1,
    }


async def test_a_daemon_that_is_killed_ends_its_connections_without_a_word(stand: Stand) -> None:
    """
    No close frame comes; the end does.
    """
    async with stand() as daemon, put_away(Tally()) as tally:
        clients = [Client(daemon.port, f"client-{n}", tally) for n in range(5)]
        for client in clients:
            await client.connect()
        async with daemon.here.inject(Kill()):
            for client in clients:
                await soon(client.line.over.wait())

        assert [line.closed for line in tally.lines] == [False] * 5


# ---- close codes


Provoke = Callable[[Standing], Awaitable[int]]


async def _closed(daemon: Standing) -> int:
    async with daemon.raw() as peer:
        peer.send(CLOSE, (1000).to_bytes(2, "big"))
        return await peer.close_code()


async def _stopped(daemon: Standing) -> int:
    async with daemon.peer() as peer, daemon.here.inject(Stop()):
        return await peer.close_code()


async def _first(daemon: Standing, message: bytes) -> int:
    async with daemon.raw(hello=False) as peer:
        peer.send(TEXT, message)
        return await peer.close_code()


async def _wrong_token(daemon: Standing) -> int:
    return await _first(daemon, b'{"op": "hello", "token": "wrong"}')


async def _no_json(daemon: Standing) -> int:
    return await _first(daemon, b"junk")


async def _no_hello(daemon: Standing) -> int:
    return await _first(daemon, b'{"op": "ping"}')


async def _nothing(daemon: Standing) -> int:
    async with daemon.raw(hello=False) as peer:
        return await peer.close_code()


async def _breach(daemon: Standing) -> int:
    async with daemon.raw() as peer:
        peer.send(CONTINUATION, b"of nothing")
        return await peer.close_code()


async def _no_text(daemon: Standing) -> int:
    async with daemon.raw() as peer:
        peer.send(TEXT, b'{"op": "\xff"}')
        return await peer.close_code()


async def _too_large(daemon: Standing) -> int:
    async with daemon.raw() as peer:
        peer.send(TEXT, call("1", "x" * 2000))
        return await peer.close_code()


async def _silent(daemon: Standing) -> int:
    async with daemon.raw() as peer:
        return await peer.close_code()


async def _one_more(daemon: Standing) -> int:
    async with daemon.peer(), daemon.connected() as peer:
        return await peer.close_code()


async def _one_session_more(daemon: Standing) -> int:
    async with daemon.peer(), daemon.connected() as peer:
        answer = await peer.ask(op="hello", token=TOKEN)
        assert answer["error"] == "too_many_sessions"
        return await peer.close_code()


async def _taken_over(daemon: Standing) -> int:
    async with daemon.peer(session_id="one") as peer, daemon.peer(session_id="one"):
        return await peer.close_code()


async def _answering(daemon: Standing) -> int:
    """Its library answers every ping."""
    async with daemon.peer() as peer:
        return await peer.close_code()


CODES: dict[str, tuple[int, tuple[str, ...], Provoke]] = {
    "closed by the peer": (1000, (), _closed),
    "the daemon ends": (1001, (), _stopped),
    "idle": (
        1001,
        setting(connections__idle_s=0.6, connections__ping_interval_s=0.3),
        _answering,
    ),
    "a breach": (1002, (), _breach),
    "no text": (1007, (), _no_text),
    "a connection too many": (1008, ("--max-connections", "1"), _one_more),
    "a session too many": (1008, setting(admission__max_sessions=1), _one_session_more),
    "too large": (1009, ("--max-bytes", "1000"), _too_large),
    "no sign of life": (1011, ("--ping-interval", "0.2", "--ping-timeout", "0.3"), _silent),
    "no JSON": (4000, (), _no_json),
    "no hello": (4001, (), _no_hello),
    "nothing": (4002, ("--hello-timeout", "0.3"), _nothing),
    "a wrong token": (4003, (), _wrong_token),
    "taken over": (4004, (), _taken_over),
}
"""What closes a connection: the code, the daemon's options, and how it is brought about."""


@pytest.mark.parametrize("why", CODES)
async def test_every_close_code_reaches_the_client(stand: Stand, why: str) -> None:
    """
    With its reason, through whatever stands in between, and nothing is wrong in the daemon's log.
    """
    code, options, provoke = CODES[why]
    async with stand(*options) as daemon:
        async with asyncio.timeout(PATIENCE_S * 3):
            assert await provoke(daemon) == code
        assert "Traceback" not in daemon.said


# ---- messages


@asynccontextmanager
async def raw(stand: Stand) -> AsyncIterator[Any]:
    async with stand() as daemon, daemon.raw() as peer:
        yield peer


async def _answer(peer: Any) -> tuple[str, str]:
    """The id and the text of the next answer."""
    opcode, payload = await peer.receive()
    assert opcode == TEXT
    answer = json.loads(payload)
    assert answer["ok"], answer
    return answer["request_id"], answer["outputs"][0]["text"]


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_messages_of_every_size(stand: Stand, opcode: int) -> None:
    """
    As text and as binary; what comes back is what was sent, as text.
    """
    async with raw(stand) as peer:
        for size in (0, 1, 60, 125, 126, 65_535, 65_536, 4 * MIB):
            text = ("äöü€0123" * (size // 8 + 1))[:size]
            peer.send(opcode, call(str(size), text))
            assert await _answer(peer) == (str(size), text)


async def test_a_message_in_many_pieces(stand: Stand) -> None:
    """
    Down to a byte each, with pings in between, which are answered meanwhile.
    """
    message = call("1", "grüß dich" * 20)
    pinged = range(0, len(message) - 1, 100)
    async with raw(stand) as peer:
        for at in range(len(message)):
            last = at == len(message) - 1
            opcode = CONTINUATION if at else TEXT
            peer.send(opcode, message[at : at + 1], fin=last)
            if at in pinged:
                peer.send(PING, str(at).encode())
        pongs = [(await peer.receive())[1] for _ in pinged]
        answer = await _answer(peer)

    assert pongs == [str(at).encode() for at in pinged]
    assert answer == ("1", "grüß dich" * 20)


async def test_pipelined_calls_are_matched_by_their_ids(stand: Stand) -> None:
    """
    A thousand in one write, quick and slow ones: each has one answer, with its own text.
    """
    slow = {"op": "call_tool", "name": "sleep", "arguments": {"ms": 30}}
    async with raw(stand) as peer:
        frames = [masked(TEXT, call(str(n), f"text {n}")) for n in range(1000)]
        for n in range(0, 1000, 200):
            frames[n] = masked(TEXT, json.dumps({**slow, "request_id": str(n)}).encode())
        peer.writer.write(b"".join(frames))
        answers = [await _answer(peer) for _ in range(1000)]

    expected = {str(n): f"text {n}" if n % 200 else "slept 30 ms" for n in range(1000)}
    assert dict(answers) == expected
    # Nobody waited for those that slept.
    assert [int(request_id) for request_id, text in answers if text.startswith("text")] == [
        n for n in range(1000) if n % 200
    ]
