"""
Sessions that outlive their connections, on the daemon's own transports and real sockets.

The same code that unit tests drive with made-up peers, behind picows and behind `websockets`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from harness.clock import now
from harness.refdaemon.transport import picows, websockets
from harness.refdaemon.transport.base import Cause, ListenOptions, Wire
from harness.resilience.breaker import Breakers
from harness.resilience.connections import Connections, ConnectionSettings, End, Message
from harness.resilience.metrics import Metrics
from tests.integration.daemons import QUIET, end_with_rst
from tests.integration.sessions import until

TRANSPORTS = {"picows": picows.listen, "websockets": websockets.listen}


class Daemon:
    """Connections on a listening transport; a client's first message names its session."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self.metrics = Metrics(clock=now)
        self.ends: list[tuple[str, End]] = []
        self.connections = Connections(
            clock=now,
            settings=settings,
            breakers=Breakers(clock=now),
            metrics=self.metrics,
            on_end=lambda _, message, how: self.ends.append((message.data.decode(), how)),
        )

    def send(self, text: str) -> str:
        message = Message(data=text.encode(), id=text, critical=True)
        return self.connections.send("a", message).outcome

    async def keep_time(self) -> None:
        while True:
            due_s = self.connections.next_due_s
            await asyncio.sleep(0.005 if due_s is None else min(0.005, max(0, due_s - now())))
            self.connections.advance()


class Peer:
    """One connection of the daemon's, as its transports hand it over."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._session = ""

    def opened(self, wire: Wire) -> None:
        self._wire = wire

    def messages(self, frames: Sequence[bytes | str]) -> None:
        for frame in frames:
            self._message(frame)

    def binary(self, frame: bytes) -> None:
        self._message(frame)

    def _message(self, frame: bytes | str) -> None:
        text = frame if isinstance(frame, str) else frame.decode()
        connections = self._daemon.connections
        if not self._session:
            self._session = text
            connections.attach(text, self._wire)
        else:
            connections.message_came(self._session)
            connections.acknowledged(self._session, text)

    def wants(self, size: int) -> bool:
        return True

    def unwanted(self, head: bytes | str, size: int) -> None:
        """There is none."""

    def pong(self) -> None:
        self._daemon.connections.heard(self._session)

    def crowded(self) -> None:
        """It is asked for what is `buffered`."""

    def writable(self) -> None:
        self._daemon.connections.writable(self._session)

    def closing(self) -> None:
        self._daemon.connections.closing(self._session, self._wire)

    def lost(self, cause: Cause) -> None:
        self._daemon.connections.lost(self._session, self._wire)


@pytest.fixture(params=TRANSPORTS)
def serve(request: pytest.FixtureRequest):
    """Serves a daemon with these settings; gives it and its URL."""

    @asynccontextmanager
    async def serving(**settings: float) -> AsyncIterator[tuple[Daemon, str]]:
        daemon = Daemon(ConnectionSettings(**settings))  # type: ignore[arg-type]
        options = ListenOptions(host="127.0.0.1", port=0, max_bytes=1 << 20, upgrade_timeout_s=5)
        listener = await TRANSPORTS[request.param](lambda: Peer(daemon), options)
        time = asyncio.create_task(daemon.keep_time())
        try:
            yield daemon, f"ws://127.0.0.1:{listener.port}"
        finally:
            time.cancel()
            daemon.connections.shut_down(within_s=0)
            daemon.connections.advance()
            listener.stop()

    return serving


async def client(url: str, **options: object) -> ClientConnection:
    connection = await connect(url, compression=None, logger=QUIET, **options)  # type: ignore[arg-type]
    await connection.send("a")
    return connection


async def test_messages_arrive_once_each_in_order_through_twenty_resets(serve) -> None:
    """
    The client acknowledges some of what it got, resets the connection, and comes back.
    """
    taken: list[str] = []
    async with serve() as (daemon, url):
        for n in range(20):
            connection = await client(url)
            await until(lambda: daemon.connections.connected == 1)
            assert daemon.send(f"{2 * n}") == "sent"
            assert daemon.send(f"{2 * n + 1}") == "sent"
            async with asyncio.timeout(10):
                while taken[-1:] != [f"{2 * n}"]:
                    text = await connection.recv(decode=True)
                    if text not in taken:
                        taken.append(str(text))
                    # The last one's acknowledgement is never sent: it is sent again.
                    if text != f"{2 * n}":
                        await connection.send(text)
            end_with_rst(connection)
            await until(lambda: daemon.connections.connected == 0)
        connection = await client(url)
        async with asyncio.timeout(10):
            while daemon.connections.kept("a") or len(taken) < 40:
                text = str(await connection.recv(decode=True))
                if text not in taken:
                    taken.append(text)
                await connection.send(text)
                await asyncio.sleep(0.001)
        await connection.close()

    assert taken == [f"{n}" for n in range(40)]
    assert sorted(daemon.ends) == sorted((f"{n}", "acknowledged") for n in range(40))
    assert daemon.metrics.snapshot().connections.reconnections == 20


async def test_a_peer_that_answers_no_ping_is_given_up_in_time(serve) -> None:
    """
    It reads nothing any more: its library cannot answer, and its session waits for it.
    """
    async with serve(ping_interval_s=0.2, ping_timeout_s=0.2) as (daemon, url):
        connection = await client(url, ping_interval=None)
        await until(lambda: daemon.connections.connected == 1)
        connection.transport.pause_reading()
        began_s = now()

        await until(lambda: daemon.connections.connected == 0)

        assert now() - began_s >= 0.2
        assert daemon.metrics.snapshot().connections.timeouts == 1
        assert daemon.send("later") == "queued"
        connection.transport.abort()


async def test_a_peer_that_answers_pings_stays(serve) -> None:
    """
    Though it sends nothing for many intervals.
    """
    async with serve(ping_interval_s=0.02, ping_timeout_s=5) as (daemon, url):
        connection = await client(url, ping_interval=None)
        await until(lambda: daemon.connections.connected == 1)
        pongs = 0
        heard = daemon.connections.heard

        def count(session: str) -> None:
            nonlocal pongs
            pongs += 1
            heard(session)

        daemon.connections.heard = count  # type: ignore[method-assign]
        await until(lambda: pongs >= 5)

        assert daemon.connections.connected == 1
        await connection.close()


async def test_a_shutdown_flushes_and_closes_with_1001(serve) -> None:
    """
    What was under way is acknowledged first; the client is told that the daemon goes away.
    """
    async with serve() as (daemon, url):
        connection = await client(url)
        await until(lambda: daemon.connections.connected == 1)
        daemon.send("last")
        daemon.connections.shut_down(within_s=5)

        async with asyncio.timeout(10):
            assert await connection.recv() == "last"
            await connection.send("last")
            with pytest.raises(ConnectionClosed) as closed:
                await connection.recv()
        await until(lambda: daemon.connections.farewell is not None)

        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        farewell = daemon.connections.farewell
        assert farewell is not None
        assert (farewell.closed, farewell.left) == (1, {})
