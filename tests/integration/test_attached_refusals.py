"""Addresses without a daemon, or without a proxy server: clear errors, and nothing is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from harness.daemons.running import Running
from harness.environment.backends import AttachedEnvironment
from harness.environment.reaper import carriers
from harness.errors import ConnectFailed, EnvironmentFailed, HarnessError, InvalidValue
from tests.integration.daemons import raw
from tests.integration.foreign import Foreign, foreign_server
from tests.integration.refdaemon_process import TOKEN, Daemon, started

HTTP = "HTTP/1.1 {status}\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n{body}"


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    """A daemon that runs already and wants no token."""
    async with started(tmp_path, token=None) as running:
        yield running


@pytest.fixture
def ours() -> Iterator[Foreign]:
    """A `harness proxy` of somebody else's."""
    with foreign_server("ours") as server:
        yield server


async def refused(daemon: Running, proxy: str, error: type[HarnessError]) -> str:
    """The text of the error that entering ends with."""
    environment = AttachedEnvironment(daemon, proxy=proxy)
    with pytest.raises(error) as caught:
        async with environment:
            pass
    assert carriers(environment.stack.run_id) == []
    return str(caught.value)


async def test_a_daemon_that_is_not_there(ours: Foreign) -> None:
    """Nobody listens at its address: said at once, and no proxy of ours is left."""
    before = ours.state()

    text = await refused(Running.at("ws://127.0.0.1:1"), ours.url, ConnectFailed)

    assert "nobody listens there" in text
    assert "127.0.0.1:1" in text
    assert ours.state() == before


async def test_a_daemon_that_is_no_websocket_server() -> None:
    """It answers the upgrade with something else."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HTTP.format(status="404 Not Found", size=2, body="no").encode())
        await writer.drain()

    async with raw(answer) as url:
        text = await refused(Running.at(url), "embedded", ConnectFailed)

    assert "the upgrade was answered with HTTP 404" in text


@pytest.mark.parametrize(
    ("token", "said"), [(None, "wants a token"), ("wrong-0815", "refused the token")]
)
async def test_a_daemon_that_wants_a_token(token: str | None, said: str, tmp_path: Path) -> None:
    """Told apart: none was given, or not that one; the token is not shown."""
    async with started(tmp_path) as daemon:
        text = await refused(daemon.running(token=token), "embedded", ConnectFailed)

    assert said in text
    assert "wrong-0815" not in text
    assert TOKEN not in text


async def test_a_daemon_that_is_given_its_token(tmp_path: Path) -> None:
    """Through the proxy as past it, and it stands nowhere in what is told of the stack."""
    async with (
        started(tmp_path) as daemon,
        AttachedEnvironment(daemon.running(token=TOKEN)) as here,
    ):
        async with here.client() as client:
            assert (await client.call("echo", {"text": "hi"})).text == "hi"
        assert TOKEN not in str(here.stack.describe())


async def test_a_proxy_server_that_is_not_there(daemon: Daemon) -> None:
    """Nobody listens at its URL."""
    text = await refused(daemon.running(), "http://127.0.0.1:1", EnvironmentFailed)

    assert "no Toxiproxy answers at http://127.0.0.1:1" in text
    assert "harness proxy" in text


@pytest.mark.parametrize(
    "body", ['{"version": 2}', "hello", '["2.12.0"]', '{"listening": "elsewhere"}']
)
async def test_a_proxy_server_that_is_something_else(body: str, daemon: Daemon) -> None:
    """It answers 200, and not what a Toxiproxy would."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HTTP.format(status="200 OK", size=len(body), body=body).encode())
        await writer.drain()

    async with raw(answer) as url:
        where = url.replace("ws://", "http://")
        text = await refused(daemon.running(), where, EnvironmentFailed)

    assert f"no Toxiproxy answers at {where}" in text
    assert "the answer is not Toxiproxy's" in text


async def test_a_daemon_taken_for_a_proxy_server(daemon: Daemon) -> None:
    """The two addresses in the wrong places."""
    where = daemon.url.replace("ws://", "http://")

    text = await refused(daemon.running(), where, EnvironmentFailed)

    assert f"no Toxiproxy answers at {where}" in text


def test_a_proxy_server_on_another_machine_is_refused() -> None:
    """Before anything is asked of it."""
    with pytest.raises(InvalidValue, match=r"192\.0\.2\.1:8474 is not a loopback"):
        AttachedEnvironment(Running.at("ws://127.0.0.1:1"), proxy="http://192.0.2.1:8474")
