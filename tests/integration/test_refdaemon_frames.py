"""What the reference daemon makes of frames: good, bad, large, in pieces."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from harness.clock import Draws
from tests.integration.refdaemon_process import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PATIENCE_S,
    PING,
    PONG,
    TEXT,
    RawPeer,
    Serve,
    masked,
    on_both_transports,
)

pytestmark = on_both_transports


def echo(text: str, request_id: str = "1") -> bytes:
    call = {"op": "call_tool", "request_id": request_id, "name": "echo"}
    return json.dumps({**call, "arguments": {"text": text}}).encode()


async def test_binary_frame_is_a_frame(serve: Serve) -> None:
    """
    JSON in a binary frame is answered like JSON in a text frame, in a text frame.
    """
    async with serve() as daemon, daemon.raw() as peer:
        peer.send(BINARY, echo("grüß"))
        opcode, payload = await peer.receive()

    assert opcode == TEXT
    assert json.loads(payload)["outputs"] == [{"type": "text", "text": "grüß"}]


@pytest.mark.parametrize(
    ("frame", "op", "code", "request_id"),
    [
        ("junk", "error", "VALIDATION_ERROR", None),
        ("", "error", "VALIDATION_ERROR", None),
        ('["op", "ping"]', "error", "VALIDATION_ERROR", None),
        ("[" * 100_000, "error", "VALIDATION_ERROR", None),
        ("{}", "error", "INVALID_REQUEST", None),
        ('{"op": "sing", "request_id": "7"}', "error", "INVALID_REQUEST", "7"),
        ('{"op": "sing", "request_id": 7}', "error", "INVALID_REQUEST", None),
        ('{"op": 3, "request_id": "7"}', "error", "INVALID_REQUEST", "7"),
        ('{"op": "ping", "request_id": 7}', "error", "VALIDATION_ERROR", None),
        ('{"op": "list_tools", "request_id": []}', "error", "VALIDATION_ERROR", None),
        ('{"op": "health", "request_id": {}}', "error", "VALIDATION_ERROR", None),
        ('{"op": "cancel"}', "error", "VALIDATION_ERROR", None),
        ('{"op": "call_tool", "request_id": "7"}', "call_tool_res", "VALIDATION_ERROR", "7"),
        ('{"op": "call_tool", "name": "echo"}', "call_tool_res", "VALIDATION_ERROR", None),
        (
            '{"op": "call_tool", "request_id": "7", "name": "echo", "arguments": []}',
            "call_tool_res",
            "VALIDATION_ERROR",
            "7",
        ),
    ],
)
async def test_bad_frame_is_answered_and_the_connection_lives(
    serve: Serve, frame: str, op: str, code: str, request_id: str | None
) -> None:
    """
    A frame that makes no sense is answered with what could be read of it; the next one works.
    """
    async with serve() as daemon, daemon.peer() as peer:
        await peer.connection.send(frame)
        reply = await peer.receive()
        after = await peer.call("1", "echo", text="still here")
        health = await peer.health()

    assert (reply["op"], reply["error"]["code"]) == (op, code)
    assert reply["request_id"] == request_id
    assert after["ok"]
    assert reply["error"]["message"]
    assert reply["error"]["details"] == {}
    # Whose arguments alone are wrong is a call all the same.
    counters = health["counters"]
    assert counters["frames_refused"] + counters["calls_refused"] == 1
    assert daemon.log.read_text().count("ERROR") == 0


async def test_fragments_are_joined(serve: Serve) -> None:
    """
    A message in pieces is one message, even where a piece ends inside a character or is
    empty, and a ping between two pieces is answered.
    """
    whole = echo("grüß", "ü").replace(b"\\u00fc", "ü".encode())
    cut = whole.index("ü".encode()) + 1
    async with serve() as daemon, daemon.raw() as peer:
        peer.send(TEXT, whole[:cut], fin=False)
        peer.send(PING, b"between")
        pong = await peer.receive()
        peer.send(CONTINUATION, b"", fin=False)
        peer.send(CONTINUATION, whole[cut:])
        _, payload = await peer.receive()

    assert pong == (PONG, b"between")
    assert json.loads(payload)["request_id"] == "ü"


async def test_message_of_just_the_limit_passes(serve: Serve) -> None:
    """
    --max-bytes is the largest message that is still taken, in one frame and in fragments.
    """
    message = echo("x")
    message = echo("x" * (1001 - len(message)))
    assert len(message) == 1000
    async with (
        serve("--max-bytes", "1000") as daemon,
        daemon.raw() as peer,
    ):
        peer.send(TEXT, message)
        first = await peer.receive()
        peer.send(TEXT, message[:500], fin=False)
        peer.send(CONTINUATION, message[500:])
        second = await peer.receive()

    assert b'"ok":true' in first[1]
    assert b'"ok":true' in second[1]


def _too_large(peer: RawPeer) -> None:
    peer.send(TEXT, echo("x" * 1000))


def _too_large_in_fragments(peer: RawPeer) -> None:
    peer.send(TEXT, b"x" * 600, fin=False)
    peer.send(CONTINUATION, b"x" * 600, fin=False)


def _far_too_large(peer: RawPeer) -> None:
    # Its header alone: what is announced must not be waited for.
    peer.writer.write(masked(BINARY, b"x" * 100_000)[:20])


def _not_utf8(peer: RawPeer) -> None:
    # Valid JSON, were it read leniently: the bad byte is in a member nobody reads.
    peer.send(TEXT, b'{"op": "ping", "other": "\xff"}')


def _not_utf8_in_fragments(peer: RawPeer) -> None:
    peer.send(TEXT, b'{"op": "ping", "other": "\xc3', fin=False)
    peer.send(CONTINUATION, b'"}')


def _continuation_of_nothing(peer: RawPeer) -> None:
    peer.send(CONTINUATION, b"x")


def _message_inside_a_message(peer: RawPeer) -> None:
    peer.send(TEXT, b"{", fin=False)
    peer.send(TEXT, b"}")


def _reserved_bit(peer: RawPeer) -> None:
    peer.send(TEXT, echo("x"), first_bits=0x40)


def _unmasked(peer: RawPeer) -> None:
    peer.writer.write(b"\x81\x02{}")


def _unknown_opcode(peer: RawPeer) -> None:
    peer.send(3, b"x")


def _long_ping(peer: RawPeer) -> None:
    peer.send(PING, b"x" * 126)


@pytest.mark.parametrize(
    ("misbehave", "code"),
    [
        (_too_large, 1009),
        (_too_large_in_fragments, 1009),
        (_far_too_large, 1009),
        (_not_utf8, 1007),
        (_not_utf8_in_fragments, 1007),
        (_continuation_of_nothing, 1002),
        (_message_inside_a_message, 1002),
        (_reserved_bit, 1002),
        (_unmasked, 1002),
        (_unknown_opcode, 1002),
        (_long_ping, 1002),
    ],
)
async def test_breach_of_the_websocket_protocol_is_closed(
    serve: Serve, misbehave: object, code: int
) -> None:
    """
    What RFC 6455 forbids, and a message above the limit, closes the connection with its code.
    """
    assert callable(misbehave)
    async with (
        serve("--max-bytes", "1000") as daemon,
        daemon.peer() as other,
    ):
        async with daemon.raw() as peer:
            misbehave(peer)
            found = await peer.close_code()
        await other.health_when("connections", 1)

    assert found == code


@pytest.mark.parametrize(
    ("sent", "answered"), [(b"", {1000, 0}), (b"\x03\xe8bye", {1000}), (b"\x0f\xa1", {4001})]
)
async def test_close_frame_is_answered(serve: Serve, sent: bytes, answered: set[int]) -> None:
    """
    A peer's close frame gets its code back, and then the end of the connection.
    """
    async with serve() as daemon, daemon.raw() as peer:
        peer.send(CLOSE, sent)
        opcode, payload = await peer.receive()
        async with asyncio.timeout(PATIENCE_S):
            rest = await peer.reader.read()

    assert opcode == CLOSE
    # To a close frame without a code, one without or 1000 are both right.
    assert int.from_bytes(payload[:2], "big") in answered
    assert rest == b""


async def test_many_frames_in_one_write(serve: Serve) -> None:
    """
    Frames that arrive together are all answered, in their order, whatever their size.
    """
    sizes = [1, 200, 70_000, 3, 0, 130, 5]
    async with serve() as daemon, daemon.raw() as peer:
        frames = [masked(TEXT, echo("x" * size, str(n))) for n, size in enumerate(sizes)]
        peer.writer.write(b"".join(frames) + masked(PING, b"!") + masked(TEXT, echo("", "last")))
        replies: list[dict[str, Any]] = []
        while len(replies) < len(sizes) + 1:
            opcode, payload = await peer.receive()
            if opcode == TEXT:
                replies.append(json.loads(payload))

    assert [reply["request_id"] for reply in replies] == [*map(str, range(len(sizes))), "last"]
    assert [len(reply["outputs"][0]["text"]) for reply in replies] == [*sizes, 0]


async def test_random_bytes_harm_only_their_sender(serve: Serve) -> None:
    """
    Peers that send frames with flipped bytes are closed or answered; others are served on time.
    """
    draws = Draws(seed=20, path="frames")
    async with serve() as daemon, daemon.peer() as other:
        before = (await other.health())["counters"]
        for n in range(60):
            frame = bytearray(masked(TEXT, echo("x" * 40)))
            for k in range(1 + n % 4):
                frame[int(draws.at((n, k)) * len(frame))] ^= 1 << (n + k) % 8
            async with daemon.raw() as peer:
                peer.writer.write(bytes(frame) * 3)
                await peer.writer.drain()
                assert (await other.call(str(n), "echo", text="well"))["ok"]
        health = await other.health_when("connections", 1)

    # Whoever waited for the daemon to be ready was there before.
    more = {key: n - before[key] for key, n in health["counters"].items()}
    closed = ("closed_by_reset", "closed_by_eof", "closed_orderly")
    assert sum(more[key] for key in closed) == more["connections_opened"] == 60
    assert "Traceback" not in daemon.log.read_text()
