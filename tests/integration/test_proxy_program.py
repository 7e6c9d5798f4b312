"""`harness proxy` as a program: what it prints, how it ends, and that a seed decides its draws."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from harness.environment import local
from harness.faults.reset_peer import ResetPeer
from tests.integration.proxy_process import BOUND_S, ProxyServer, listening_line, proxy_process
from tests.integration.wire import Upstream, is_reset

SOON_S = 3
SYN_SENT = "02"


def ended(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The program, run to its end."""
    return subprocess.run(
        [*local.PROXY_COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )


def test_a_log_level_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Toxiproxy's words are taken; another one is a usage error that lists them."""
    monkeypatch.setenv("LOG_LEVEL", "loud")

    done = ended("--port", "0")

    assert done.returncode == 64
    assert '"loud" is no log level; expected one of trace, debug' in done.stderr


@pytest.fixture
def program() -> subprocess.Popen[str]:
    """The program at its default log level; the test ends it with `ending`."""
    return subprocess.Popen(
        [*local.PROXY_COMMAND, "--port", "0", "--seed", "12"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={key: value for key, value in os.environ.items() if key != "LOG_LEVEL"},
    )


def ending(program: subprocess.Popen[str], number: int) -> tuple[int, str, str]:
    """Exit code and the rest of both outputs after this signal."""
    try:
        program.send_signal(number)
        out, err = program.communicate(timeout=BOUND_S)
    finally:
        program.kill()
        program.wait()
    return program.returncode, out, err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_listens_and_ends_when_asked(
    program: subprocess.Popen[str], number: signal.Signals
):
    """One line on stdout, exit code 0, the seed in its log, nothing else on stdout."""
    url = listening_line(program)
    code, out, err = ending(program, number)

    assert url.startswith("http://127.0.0.1:")
    assert (code, out) == (0, "")
    assert "seed 12" in err
    assert "Traceback" not in err


async def test_its_end_closes_every_connection_and_port(upstream: Upstream):
    """Clients and daemons see the end; API and proxies refuse."""
    with proxy_process() as server:
        state = await server.control.create("edge", upstream=upstream.address)
        client = await upstream.dial(state.listen)
        daemon = await upstream.accepted()
        await client.send(b"x")
        assert await daemon.receive(1) == b"x"
        with server.http.dial() as api:
            server.process.terminate()
            assert server.process.wait(BOUND_S) == 0
            # So that the fixture's check for a death of its own finds what it expects.
            server.process.poll = lambda: None  # type: ignore[method-assign]

            assert api.recv(1) == b""
        assert (await client.ending(), await daemon.ending()) == ("fin", "fin")
        with pytest.raises(ConnectionRefusedError):
            await upstream.dial(state.listen)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel shows dials on Linux only")
async def test_a_dial_under_way_does_not_keep_it(upstream: Upstream):
    """It ends at once although an upstream has not answered yet, and leaves no complaint."""
    with socket.socket() as listener, proxy_process() as server:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        host, port = listener.getsockname()
        state = await server.control.create("edge", upstream=f"{host}:{port}")
        for _ in range(4):
            await upstream.dial(state.listen)
        async with asyncio.timeout(BOUND_S):
            while not dials_under_way(port):
                await asyncio.sleep(0.01)
        server.process.terminate()
        # Long before a dial is given up.
        assert server.process.wait(SOON_S) == 0
        server.process.poll = lambda: None  # type: ignore[method-assign]


def dials_under_way(port: int) -> bool:
    """Whether somebody of this machine asks to be connected there, and has no answer."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[2].endswith(f":{port:04X}") and row[3] == SYN_SENT for row in rows)


def test_a_port_in_use_is_said(proxy_server: ProxyServer):
    """Exit code 3, one complaint with the address and what to do, no traceback."""
    port = str(proxy_server.http.address[1])

    result = ended("--port", port)

    assert (result.returncode, result.stdout) == (3, "")
    assert f"cannot listen on 127.0.0.1:{port}: address already in use" in result.stderr.lower()
    assert "--port" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--port", "x"),
        ("--port", "-1"),
        ("--port", "65536"),
        ("--port",),
        ("--seed", "x"),
        ("--colour",),
        ("stray",),
        ("--host", "0.0.0.0"),
        ("--host", "192.0.2.1"),
        ("--host", "example.com"),
    ],
    ids=" ".join,
)
def test_a_usage_error_is_64(arguments: tuple[str, ...]):
    """With the reason on stderr, nothing on stdout, no traceback."""
    result = ended(*arguments)

    assert (result.returncode, result.stdout) == (64, "")
    assert arguments[0].strip("-") in result.stderr or "loopback" in result.stderr
    assert "Traceback" not in result.stderr


def test_remote_addresses_are_allowed_on_demand():
    """The API may then listen on every address, and proxies may point elsewhere."""
    with proxy_process("--host", "0.0.0.0", "--allow-remote") as server:
        body = {"name": "edge", "upstream": "192.0.2.1:80", "listen": ":0"}
        reply = server.http.call("POST", "/proxies", body)
        assert reply.status == 201
        body = {"name": "other", "upstream": "192.0.2.1:80"}
        assert server.http.call("POST", "/proxies", body).json["listen"].startswith("0.0.0.0:")


@pytest.mark.parametrize("host", ["host.invalid", "a" * 70, "a..b", "nul\0"])
def test_a_listen_name_that_is_none_is_refused(host: str):
    """500, nothing registered, whatever is wrong with the name."""
    with proxy_process("--allow-remote") as server:
        body = {"name": "edge", "upstream": "127.0.0.1:1", "listen": f"{host}:0"}

        assert server.http.call("POST", "/proxies", body).status == 500
        assert server.http.call("GET", "/proxies").json == {}


@pytest.mark.parametrize("host", ["host.invalid", "a" * 70, "a..b", "nul\0"])
async def test_an_upstream_name_that_is_none_is_unreachable(host: str, upstream: Upstream):
    """Accepted, closed, told: whatever is wrong with the name."""
    with proxy_process("--allow-remote") as server:
        state = await server.control.create("edge", upstream=f"{host}:80", listen="127.0.0.1:0")

        client = await upstream.dial(state.listen)

        assert await client.ending() == "fin"
        assert (await server.endings(1))[0].startswith("upstream unreachable; ")


async def hits(seed: int, upstream: Upstream) -> list[bool]:
    """Which of 16 connections a reset of toxicity 0.5 hits."""
    found = []
    with proxy_process(seed=seed) as server:
        state = await server.control.create("edge", upstream=upstream.address)
        harm = ResetPeer(stream="upstream", toxicity=0.5)
        await server.control.add_toxic("edge", harm, name="harm")
        for _ in range(16):
            client = await upstream.dial(state.listen)
            found.append(await is_reset(client, await upstream.accepted()))
    return found


@pytest.mark.toxic("reset_peer")
async def test_the_same_seed_makes_the_same_draws(upstream: Upstream):
    """Two servers of one seed hit the same connections, a third of another seed does not."""
    first = await hits(1, upstream)

    assert await hits(1, upstream) == first
    assert await hits(2, upstream) != first
    assert 0 < sum(first) < 16
