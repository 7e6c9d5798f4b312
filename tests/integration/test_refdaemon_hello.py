"""The handshake of the reference daemon, and how it turns peers away."""

from __future__ import annotations

import asyncio
import json

import pytest

from harness.clock import clock_id, now
from tests.integration.refdaemon_process import (
    PATIENCE_S,
    TEXT,
    TOKEN,
    UNIT_S,
    Serve,
    on_both_transports,
)

pytestmark = on_both_transports


async def test_hello_is_welcomed(serve: Serve) -> None:
    """
    A good hello gets an id of its own, what the daemon promises, and its clock's name.
    """
    async with serve() as daemon, daemon.connected() as peer:
        ack = await peer.ask(op="hello", token=TOKEN)

    assert ack.pop("session_id")
    assert ack == {
        "op": "hello_ack",
        "ok": True,
        "resumed": False,
        "promises": ["keys", "resume"],
        "clock": clock_id(),
    }


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("abc", True),
        ("vs-code_1", True),
        ("x" * 64, True),
        ("ab", False),
        ("x" * 65, False),
        ("a b c", False),
        ("---", False),
        ("", False),
    ],
)
async def test_session_id_is_taken_if_usable(serve: Serve, given: str, *, taken: bool) -> None:
    """
    A usable session id is kept; for any other the daemon makes one, and welcomes all the same.
    """
    async with serve() as daemon, daemon.connected() as peer:
        ack = await peer.ask(op="hello", token=TOKEN, session_id=given)

    assert ack["ok"]
    assert (ack["session_id"] == given) is taken


async def test_no_token_is_asked_for_where_none_is_set(serve: Serve) -> None:
    """
    A daemon without a token welcomes anybody.
    """
    async with (
        serve(token=None) as daemon,
        daemon.connected() as peer,
    ):
        assert (await peer.ask(op="hello"))["ok"]


@pytest.mark.parametrize(
    ("first", "error", "code"),
    [
        ("junk", "invalid_hello", 4000),
        ("", "invalid_hello", 4000),
        ("[1, 2]", "invalid_hello", 4000),
        ("[" * 5000, "invalid_hello", 4000),
        ('{"op": "hello", "token": 7}', "invalid_hello", 4000),
        ('{"op": "hello", "session_id": []}', "invalid_hello", 4000),
        ("{}", "missing_hello", 4001),
        ('{"op": "ping"}', "missing_hello", 4001),
        ('{"op": "call_tool", "name": 3}', "missing_hello", 4001),
        ('{"op": "sing"}', "missing_hello", 4001),
        ('{"op": "hello"}', "unauthorized", 4003),
        ('{"op": "hello", "token": ""}', "unauthorized", 4003),
        ('{"op": "hello", "token": "sesame"}', "unauthorized", 4003),
    ],
)
async def test_bad_first_frame_is_told_why_and_closed(
    serve: Serve, first: str, error: str, code: int
) -> None:
    """
    A first frame that is no good hello gets one word and the close code that goes with it.
    """
    async with serve() as daemon:
        async with daemon.connected() as peer:
            await peer.connection.send(first)
            ack = await peer.receive()
            found = await peer.close_code()
        async with daemon.peer() as other:
            health = await other.health()

    assert ack == {"op": "hello_ack", "ok": False, "error": error}
    assert found == code
    assert health["counters"]["hellos_refused"] == 1


async def test_calls_behind_a_refused_hello_do_not_run(serve: Serve) -> None:
    """
    What a peer pipelines behind a wrong token is thrown away.
    """
    call = {"op": "call_tool", "request_id": "1", "name": "counter", "arguments": {"name": "n"}}
    async with serve() as daemon:
        async with daemon.raw(hello=False) as peer:
            peer.send(TEXT, b'{"op": "hello", "token": "wrong"}')
            peer.send(TEXT, json.dumps(call).encode())
            code = await peer.close_code()

        assert code == 4003
        assert daemon.effects() == []


async def test_hello_that_never_comes(serve: Serve) -> None:
    """
    A peer that upgrades and says nothing is closed with 4002 when its time is up, not before.
    """
    async with serve("--hello-timeout", str(UNIT_S)) as daemon:
        # Before the connection, with which the daemon's time begins.
        began = now()
        async with daemon.connected() as peer:
            code = await peer.close_code()
            took_s = now() - began

    assert code == 4002
    # A timer may be a millisecond early.
    assert took_s >= UNIT_S - 0.001


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n"])
async def test_half_an_http_request_is_cut_off(serve: Serve, sent: bytes) -> None:
    """
    A peer that never finishes its HTTP request is cut off after the hello's time.
    """
    async with serve("--hello-timeout", str(UNIT_S)) as daemon:
        reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
        writer.write(sent)
        async with asyncio.timeout(PATIENCE_S):
            await reader.read()
        writer.close()


@pytest.mark.parametrize(
    "junk",
    [
        b"\x00\xff" * 500 + b"\r\n\r\n",
        b'{"op": "hello"}\r\n\r\n',
        b"POST / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00" + b"\r\n\r\n",
    ],
)
async def test_junk_instead_of_an_upgrade_is_cut_off(serve: Serve, junk: bytes) -> None:
    """
    Whatever is no upgrade ends at once, and the daemon serves the next peer.
    """
    async with serve() as daemon:
        reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
        writer.write(junk)
        async with asyncio.timeout(PATIENCE_S):
            answer = await reader.read()
        writer.close()
        async with daemon.peer() as other:
            reply = await other.call("1", "echo", text="well")

    assert b" 101 " not in answer
    assert reply["ok"]


async def test_too_many_connections(serve: Serve) -> None:
    """
    Above the limit a connection is closed with 1008; a place that comes free is given again.
    """
    async with (
        serve("--max-connections", "2") as daemon,
        daemon.peer() as first,
    ):
        async with daemon.peer(), daemon.connected() as third:
            assert await third.close_code() == 1008

        health = await first.health_when("connections", 1)
        async with daemon.peer() as fourth:
            assert (await fourth.call("1", "echo", text="in"))["ok"]

    assert health["counters"]["connections_refused"] == 1


async def test_second_hello_is_refused_and_the_session_lives(serve: Serve) -> None:
    """
    A hello on an open session gets an error frame, and calls still work.
    """
    async with serve() as daemon, daemon.peer() as peer:
        reply = await peer.ask(op="hello", token=TOKEN)
        after = await peer.call("1", "echo", text="still here")

    assert (reply["op"], reply["error"]["code"]) == ("error", "INVALID_REQUEST")
    assert after["ok"]


async def test_a_session_has_one_connection_the_newest(serve: Serve) -> None:
    """
    A hello of the same session takes it over: the old connection, which may be half-open, is
    closed with 4004, and it stays one session.
    """
    async with (
        serve() as daemon,
        daemon.peer(session_id="shared") as first,
        daemon.connected() as second,
    ):
        ack = await second.ask(op="hello", token=TOKEN, session_id="shared")
        code = await first.close_code()
        health = await second.health_when("connections", 1)

    assert (ack["ok"], ack["resumed"]) == (True, True)
    assert code == 4004
    assert (health["sessions"], health["counters"]["connections_replaced"]) == (1, 1)
