"""The reference daemon as a program: arguments, start, end, and what it never says."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from harness.clock import now
from tests.integration.refdaemon_process import (
    PATIENCE_S,
    TEXT,
    TOKEN,
    on_both_transports,
    ran,
    started,
)


@on_both_transports
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_drain(tmp_path: Path, transport: str, number: signal.Signals) -> None:
    """
    Asked to end, the daemon accepts no more, refuses new calls, lets the running one finish,
    closes with 1001 and exits with 0.
    """
    async with started(tmp_path, transport=transport) as daemon, daemon.peer() as peer:
        await peer.send(op="call_tool", request_id="old", name="sleep", arguments={"ms": 600})
        await peer.health_when("running_calls", 1)
        daemon.process.send_signal(number)
        health = await peer.health_when("draining", 1)
        refused = await peer.call("new", "echo", text="x")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", daemon.port)
        finished = await peer.receive()
        code = await peer.close_code()
        exit_code = await daemon.ended()

        assert [effect.request_id for effect in daemon.effects()] == ["old"]

    assert health["running_calls"] == 1
    assert (refused["request_id"], refused["error"]["code"]) == ("new", "SERVICE_UNAVAILABLE")
    assert (finished["request_id"], finished["ok"]) == ("old", True)
    assert (code, exit_code) == (1001, 0)


async def test_drain_is_bounded(tmp_path: Path) -> None:
    """
    A call that outlasts the drain is cancelled and told so, and its effect is not on file.
    """
    async with started(tmp_path, "--set", "server.drain_s=1.5") as daemon, daemon.peer() as peer:
        await peer.send(op="call_tool", request_id="1", name="sleep", arguments={"ms": 600_000})
        await peer.health_when("running_calls", 1)
        began = now()
        daemon.process.send_signal(signal.SIGTERM)
        reply = await peer.receive()
        took = now() - began
        code = await peer.close_code()

        assert await daemon.ended() == 0
        assert daemon.effects() == []

    assert reply["error"]["code"] == "CANCELLED"
    assert code == 1001
    assert 1.4 < took < 5


@on_both_transports
async def test_drain_waits_for_work_whose_caller_is_gone(tmp_path: Path, transport: str) -> None:
    """
    Work under way is finished before the end, also where nobody is left to hear of it.
    """
    async with started(tmp_path, transport=transport) as daemon:
        async with daemon.peer() as other, daemon.raw() as peer:
            call = {"op": "call_tool", "request_id": "1", "name": "sleep"}
            peer.send(TEXT, json.dumps({**call, "arguments": {"ms": 500}}).encode())
            await other.health_when("running_calls", 1)
            peer.reset()
        assert await daemon.stop() == 0

        assert [effect.request_id for effect in daemon.effects()] == ["1"]


@on_both_transports
async def test_end_without_connections_is_quick(tmp_path: Path, transport: str) -> None:
    """
    A daemon with nothing to do ends at once when asked to.
    """
    async with started(tmp_path, transport=transport) as daemon:
        began = now()
        assert await daemon.stop() == 0

    assert now() - began < 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--port", "70000"), "70000"),
        (("--port", "x"), "0 to 65535"),
        (("--transport", "pigeon"), "pigeon"),
        (("--max-bytes", "0"), "above 0"),
        (("--hello-timeout", "nan"), "above 0"),
        (("--token", "secret"), "--token"),
        (("--host", "0.0.0.0"), "--allow-remote"),
        (("--host", ""), "expected an address"),
        (("--set", "server.drain"), "SECTION.KEY=VALUE"),
        (("--set", "server.drian_s=1"), "did you mean"),
        (("--config", "no-such-file.toml"), "no-such-file.toml"),
        (("--defect", "nonesuch"), "nonesuch"),
        (("--host", "192.0.2.1"), "--allow-remote"),
    ],
)
async def test_usage_error(arguments: tuple[str, ...], said: str) -> None:
    """
    Bad usage ends with 64 and a sentence that says what was wrong and what to do.
    """
    code, output = await ran(*arguments)

    assert code == 64
    assert said in output
    assert "next" in output
    assert "Traceback" not in output


@on_both_transports
async def test_port_in_use(tmp_path: Path, transport: str) -> None:
    """
    A port that is taken ends with 3 and an error that names it and says what to do.
    """
    async with started(tmp_path, transport=transport) as daemon:
        code, output = await ran("--transport", transport, "--port", str(daemon.port))

    assert code == 3
    assert f"127.0.0.1:{daemon.port}" in output
    for row in ("found", "expected", "next"):
        assert f"  {row} " in output
    assert "Traceback" not in output


@on_both_transports
async def test_port_that_is_kept_bound_by_its_owner(tmp_path: Path, transport: str) -> None:
    """
    Whoever keeps a port for the daemon may hold a bound socket that does not listen.
    """
    with socket.socket() as keeper:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind(("127.0.0.1", 0))
        port = keeper.getsockname()[1]
        async with (
            started(tmp_path, "--port", str(port), transport=transport) as daemon,
            daemon.peer() as peer,
        ):
            assert daemon.port == port
            assert (await peer.call("1", "echo", text="x"))["ok"]


@on_both_transports
async def test_port_is_free_again_after_a_kill(tmp_path: Path, transport: str) -> None:
    """
    A daemon that was killed with connections open can be started again on its port at once.
    """
    async with started(tmp_path, transport=transport) as first, first.raw():
        first.process.kill()
        await first.ended()
        async with (
            started(tmp_path, "--port", str(first.port), transport=transport) as second,
            second.peer() as peer,
        ):
            assert (await peer.call("1", "echo", text="x"))["ok"]


@on_both_transports
async def test_ipv6(tmp_path: Path, transport: str) -> None:
    """
    The daemon listens on an IPv6 address and announces it in brackets.
    """
    async with started(tmp_path, "--host", "::1", transport=transport) as daemon:
        assert daemon.url == f"ws://[::1]:{daemon.port}"
        async with connect(daemon.url, proxy=None) as connection:
            await connection.send(json.dumps({"op": "hello", "token": TOKEN}))
            async with asyncio.timeout(PATIENCE_S):
                assert json.loads(await connection.recv())["ok"]


@on_both_transports
async def test_token_is_never_told(tmp_path: Path, transport: str) -> None:
    """
    Neither the daemon's token nor one that a peer sent, in whatever form, is in the log, on
    stdout or in the process list.
    """
    secrets = [TOKEN, "wrong-4712"]
    async with started(tmp_path, transport=transport) as daemon:
        for secret in secrets:
            hello = json.dumps({"op": "hello", "token": secret}, ensure_ascii=False).encode()
            await _say(daemon.port, hello + b"\r\n\r\n")
            await _say(daemon.port, b"GET /" + secret.encode() + b" HTTP/1.1\r\n\r\n")
            header = b"GET / HTTP/1.1\r\nAuthorization " + secret.encode() + b"\r\n\r\n"
            await _say(daemon.port, header)
            for frame in (hello, hello[:-1], hello + b"\xff", b"[" + hello + b"]"):
                async with daemon.raw(hello=False) as peer:
                    peer.send(TEXT, frame)
                    peer.send(3, frame)
                    await peer.receive()
            async with daemon.raw() as peer:
                peer.send(TEXT, hello)
                await peer.receive()
        command = _of_process(daemon.process.pid, "cmdline")
        assert await daemon.stop() == 0
        assert daemon.process.stdout is not None
        said = daemon.log.read_bytes() + await daemon.process.stdout.read() + command

    assert b"refdaemon" in said
    for secret in secrets:
        assert secret.encode() not in said
        assert secret.split("-")[1].encode() not in said
    assert b"Traceback" not in said


async def _say(port: int, words: bytes) -> None:
    """Say something on a new connection and wait for its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(words)
    writer.write_eof()
    async with asyncio.timeout(PATIENCE_S):
        try:
            await reader.read()
        except ConnectionResetError:
            pass
    writer.close()


@on_both_transports
async def test_only_the_chosen_library_is_loaded(tmp_path: Path, transport: str) -> None:
    """
    Start time counts: the other WebSocket library is not even imported.
    """
    async with started(tmp_path, transport=transport) as daemon:
        loaded = _of_process(daemon.process.pid, "maps")

    assert (b"/picows/" in loaded, b"/websockets/" in loaded) == (
        transport == "picows",
        transport == "websockets",
    )


def _of_process(pid: int, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()
