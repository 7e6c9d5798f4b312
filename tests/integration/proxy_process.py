"""
Our proxy as a real process, a plain HTTP client for its API, and what the system knows of it.

A proxy that writes to stderr at level warning has met something it did not expect:
`proxy_process` fails then, so that no test passes over it.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from harness.environment import local
from harness.proxy.control import Control
from harness.records import ProxyEvent

T = TypeVar("T")

BOUND_S = 10.0

PLAIN_ASYNCIO = "import sys; sys.modules['uvloop'] = None"
"""Preparation of a proxy that runs where there is no uvloop."""


@dataclass(frozen=True)
class ProxyServer:
    """A proxy process."""

    control: Control
    process: subprocess.Popen[str]

    @property
    def http(self) -> Http:
        """Its API for a plain client."""
        return Http(self.control.url)

    def descriptors(self) -> int:
        """How many files and sockets it has open."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def private_bytes(self) -> int:
        """The memory that is its own."""
        rollup = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        sizes = [line.split() for line in rollup.splitlines() if line.startswith("Private_")]
        return sum(int(size[1]) * 1024 for size in sizes)

    async def events(self, *kinds: str) -> list[ProxyEvent]:
        """The events of these kinds so far."""
        return [event for event in await self.control.events() if event.kind in kinds]

    async def endings(self, count: int) -> list[str]:
        """How the connections ended, once so many did, in order of their numbers."""
        closed = await eventually(lambda: self.events("closed"), lambda found: len(found) >= count)
        return [str(event.detail) for event in sorted(closed, key=lambda e: e.connection or 0)]


@contextmanager
def proxy_process(
    *arguments: str, prepare: str | None = None, seed: int = 7
) -> Iterator[ProxyServer]:
    """
    `harness proxy` on a port of its own.

    Args:
        arguments: More of the command line.
        prepare: Python that runs before the program does, in its process.
        seed: Its root seed.
    """
    command = list(local.PROXY_COMMAND)
    if prepare is not None:
        main = "from harness.cli import main; main()"
        command = [sys.executable, "-c", f"{prepare}\n{main}", "proxy"]
    with tempfile.TemporaryFile("w+") as complaints:
        process = subprocess.Popen(
            [*command, "--port", "0", "--seed", str(seed), *arguments],
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            env={**os.environ, "LOG_LEVEL": "warning"},
        )
        try:
            yield ProxyServer(Control(listening_line(process)), process)
            # A proxy that died under the test must not go unnoticed.
            assert process.poll() is None
        finally:
            process.terminate()
            process.wait(BOUND_S)
            assert process.stdout is not None
            process.stdout.close()
            complaints.seek(0)
            said = complaints.read()
            print(said)
        assert said == ""


def listening_line(process: subprocess.Popen[str]) -> str:
    """The URL in the first line of a program."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], BOUND_S)
    assert ready, "the proxy did not say where it listens"
    url: str = json.loads(process.stdout.readline())["listening"]
    return url


async def eventually(ask: Callable[[], Awaitable[T]], good: Callable[[T], bool]) -> T:
    """Ask until the answer is good; the last answer is in the error."""
    answer = await ask()
    try:
        async with asyncio.timeout(BOUND_S):
            while not good(answer):
                await asyncio.sleep(0.01)
                answer = await ask()
    except TimeoutError:
        raise AssertionError(f"still after {BOUND_S:g} s: {answer}") from None
    return answer


@dataclass(frozen=True)
class Reply:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        text: str = self.json["error"]
        return text


class Http:
    """A client that knows nothing of Toxiproxy. It blocks, for at most `BOUND_S`."""

    def __init__(self, url: str) -> None:
        host, _, port = url.removeprefix("http://").rpartition(":")
        self.address = (host, int(port))

    def call(
        self, method: str, path: str, body: object = None, *, agent: str | None = None
    ) -> Reply:
        """One request. A body that is not bytes is sent as JSON."""
        connection = http.client.HTTPConnection(*self.address, timeout=BOUND_S)
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body)
        try:
            connection.request(method, path, data, {} if agent is None else {"User-Agent": agent})
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, headers, answer.read())
        finally:
            connection.close()

    def dial(self) -> socket.socket:
        """A connection on which anything can be sent."""
        return socket.create_connection(self.address, timeout=BOUND_S)

    def raw(self, data: bytes) -> bytes:
        """Send these bytes and the end; everything that comes back until its end."""
        with self.dial() as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    """Everything until the end."""
    parts = []
    while part := connection.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)
