"""Failures of the daemon as a program: its start, its end, its health, and junk at its door."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from tests.integration.failures import LONG_MS, Case, expected, failure, monitor_of, set_to, until
from tests.integration.refdaemon_process import PATIENCE_S, Process, environment, masked

# JSON, and no request.
_SHAPES = (
    *(
        "[]",
        '[{"op": "ping"}]',
        "null",
        "7",
        '"text"',
        "{}",
        '{"op": []}',
        '{"op": {"op": "ping"}}',
    ),
    '{"op": "call_tool", "request_id": [], "name": {}}',
    '{"op": "call_tool", "request_id": "1", "name": "echo", "arguments": []}',
    '{"op": "hello", "session_id": ["x"]}',
)


@failure("zombie")
async def test_f21_a_daemon_that_is_asked_to_end_does(case: Case, tmp_path: Path):
    """
    With a call that would run for long and a client that stays: both are told, and it is gone.
    """
    quick = set_to({"server.drain_s": 0.1, "server.close_timeout_s": 0.2})
    async with case.daemon(tmp_path, "--monitor-port", "0", *quick) as daemon:
        await monitor_of(daemon)
        async with daemon.peer() as peer:
            await peer.send(op="call_tool", request_id="1", name="sleep", arguments={"ms": LONG_MS})
            assert (await peer.ask(op="ping"))["op"] == "pong"
            daemon.process.send_signal(signal.SIGTERM)
            async with expected("the answer to the call"):
                cancelled = await peer.receive()
            code = await peer.close_code()
        async with expected("the end of the process", within_s=2.5):
            exit_code = await daemon.process.wait()

    assert (cancelled["error"]["code"], code, exit_code) == ("CANCELLED", 1001, 0)


@failure("static-health", above_transport=True)
async def test_f22_ready_is_whom_a_hello_reaches(case: Case, tmp_path: Path):
    """
    Full, or about to end, it says so, and why; with a place free again it is ready.
    """
    limits = {"admission.max_connections": 2, "admission.max_connections_per_address": 2}
    async with case.daemon(tmp_path, "--monitor-port", "0", *set_to(limits)) as daemon:
        monitor = await monitor_of(daemon)
        async with daemon.peer(), daemon.peer():
            async with daemon.connected() as late:
                refused = await late.close_code()
            status, why = await monitor.health()
        assert (refused, status) == (1008, 503)
        assert "max_connections" in why[0]
        await until("it is ready", monitor.health, lambda seen: seen == (200, []))
        async with daemon.peer() as peer:
            await peer.send(op="call_tool", request_id="1", name="sleep", arguments={"ms": LONG_MS})
            assert (await peer.ask(op="ping"))["op"] == "pong"
            daemon.process.send_signal(signal.SIGTERM)
            status, why = await until(
                "it says that it ends", monitor.health, lambda seen: seen[0] == 503
            )

    assert status == 503
    assert "the daemon is shutting down" in why


@failure("warn-only-bind")
async def test_f23_a_port_has_one_daemon(case: Case, tmp_path: Path):
    """
    A second one for the same port says so and ends; one that was killed is followed by another on
    its port at once.
    """
    async with case.daemon(tmp_path) as first:
        port = ("--port", str(first.port))
        async with first.peer() as peer:
            second, said = await _started_beside(case, *port)
            assert (await peer.ask(op="ping"))["op"] == "pong"
            first.process.kill()
            assert await peer.close_code() == -1
        async with case.daemon(tmp_path, *port) as third, third.peer() as peer:
            assert (await peer.ask(op="ping"))["op"] == "pong"

    assert second == 3
    assert f"cannot listen on 127.0.0.1:{port[1]}" in said


async def _started_beside(case: Case, *arguments: str) -> tuple[int, str]:
    """A daemon that cannot run: its exit code and what it said of it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "harness.refdaemon", *case.options, *arguments),
        *("--transport", case.transport),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(None),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with expected("its end", within_s=PATIENCE_S):
            assert await process.stdout.readline() == b"", "it says that it listens"
            return await process.wait(), (await process.stderr.read()).decode()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@failure("endless-hello")
async def test_f25_junk_at_the_door_is_shown_out(case: Case, tmp_path: Path):
    """
    Who connects and goes, speaks no HTTP, half of it, or no hello, or half of that, holds nothing
    for longer than a hello may take.
    """
    quick = set_to({"server.hello_timeout_s": 1.0, "server.close_timeout_s": 0.1})
    async with (
        case.daemon(tmp_path, *quick) as daemon,
        daemon.peer() as other,
        daemon.connected() as silent,
        daemon.raw(hello=False) as dripping,
    ):
        dripping.writer.write(masked(1, b'{"op": "hello"}')[:5])
        await _said_at_the_door(daemon, b"", wait=False)
        for junk in (b"\x16\x03\x01\x02\x00\x01", b"HELO x\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x"):
            await _said_at_the_door(daemon, junk, wait=True)
        for peer in (silent, dripping):
            async with expected("the end of a connection without hello", within_s=2.5):
                assert await peer.close_code() == 4002
        health = await other.health_when("connections", 1)

    assert health["sessions"] == 1


async def _said_at_the_door(daemon: Process, junk: bytes, *, wait: bool) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
    writer.write(junk)
    if wait:
        async with expected(f"the end of a connection with {junk!r}"):
            try:
                await reader.read()
            except ConnectionResetError:
                pass
    writer.close()
    try:
        await writer.wait_closed()
    except ConnectionError:
        pass


@failure("crash-on-array", in_transport=True)
async def test_f26_a_frame_of_any_shape_is_answered(case: Case, tmp_path: Path):
    """
    After hello by an error, and the connection lives on; instead of it by a refusal.
    """
    async with case.daemon(tmp_path) as daemon:
        async with daemon.peer() as peer, expected("an answer to each"):
            for shape in _SHAPES:
                await peer.connection.send(shape)
                frame = await peer.receive()
                assert {*frame["error"]} == {"code", "message", "details"}
            assert (await peer.ask(op="ping"))["op"] == "pong"
        for shape in _SHAPES:
            async with daemon.connected() as peer, expected(f"a refusal of {shape}"):
                await peer.connection.send(shape)
                ack = await peer.receive()
                assert (ack["op"], ack["ok"]) == ("hello_ack", False)
                assert await peer.close_code() in (4000, 4001)
