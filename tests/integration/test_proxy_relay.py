"""
Bytes between two sockets: whole, in order, with back-pressure, and nothing left behind.

Each test runs on uvloop and on plain asyncio: their transports differ in small things.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import socket
from collections.abc import Iterator

import pytest

from harness.faults.bandwidth import Bandwidth
from harness.faults.base import STREAMS, Stream, Toxic
from harness.faults.latency import Latency
from harness.faults.limit_data import LimitData
from harness.faults.reset_peer import ResetPeer
from harness.faults.timeout import Timeout
from tests.integration.proxy_process import (
    BOUND_S,
    PLAIN_ASYNCIO,
    ProxyServer,
    eventually,
    proxy_process,
)
from tests.integration.wire import MS, End, Upstream

MB = 1 << 20
SIZE = 8 * MB


@pytest.fixture(params=["uvloop", "asyncio"])
def proxy_server(request: pytest.FixtureRequest) -> Iterator[ProxyServer]:
    """A proxy on either loop."""
    with proxy_process(prepare=None if request.param == "uvloop" else PLAIN_ASYNCIO) as server:
        yield server


@pytest.fixture
async def listen(proxy_server: ProxyServer, upstream: Upstream) -> str:
    """Where the proxy "edge" listens."""
    return (await proxy_server.control.create("edge", upstream=upstream.address)).listen


async def connect(listen: str, upstream: Upstream) -> tuple[End, End]:
    """Client and daemon of a new connection, once a byte came through."""
    client = await upstream.dial(listen)
    daemon = await upstream.accepted()
    await client.send(b"x")
    assert await daemon.receive(1) == b"x"
    return client, daemon


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes in which a lost, doubled or swapped piece shows."""
    return random.Random(seed).randbytes(size)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def carry(source: End, sink: End, data: bytes) -> None:
    """Send all of it while the other side reads, and compare."""
    _, received = await asyncio.gather(source.send(data), sink.receive(len(data)))
    # By digest: a difference of megabytes is no message.
    assert digest(received) == digest(data)


async def descriptors_are(server: ProxyServer, wanted: int) -> None:
    async def count() -> int:
        return server.descriptors()

    await eventually(count, lambda found: found <= wanted)


async def test_megabytes_arrive_whole_both_ways_at_once(listen: str, upstream: Upstream):
    """Without toxics; both directions under load do not block each other."""
    client, daemon = await connect(listen, upstream)

    await asyncio.gather(
        carry(client, daemon, noise(SIZE, 1)), carry(daemon, client, noise(SIZE, 2))
    )


@pytest.mark.parametrize(
    "toxic",
    [
        Latency(latency_ms=20, jitter_ms=20),
        Bandwidth(rate_kb_per_s=20_000),
        LimitData(limit_bytes=SIZE + 1),
        Timeout(toxicity=0),
    ],
    ids=lambda toxic: toxic.type,
)
async def test_megabytes_arrive_whole_through_a_toxic(
    proxy_server: ProxyServer, listen: str, upstream: Upstream, toxic: Toxic
):
    """What delays, counts or spares loses nothing."""
    for stream in STREAMS:
        here = type(toxic).from_attributes(
            toxic.attributes(), stream=stream, toxicity=toxic.toxicity
        )
        await proxy_server.control.add_toxic("edge", here, name=f"harm {stream}")
    client = await upstream.dial(listen)
    daemon = await upstream.accepted()

    data = noise(SIZE)
    await asyncio.gather(carry(client, daemon, data), carry(daemon, client, data[::-1]))


@pytest.mark.parametrize("stream", STREAMS)
async def test_a_chain_that_changes_under_traffic_loses_nothing(
    proxy_server: ProxyServer, listen: str, upstream: Upstream, stream: Stream
):
    """Toxics come, change and go while megabytes flow: every byte arrives, in order."""
    control = proxy_server.control
    client, daemon = await connect(listen, upstream)
    source, sink = (client, daemon) if stream == "upstream" else (daemon, client)
    data = noise(4 * SIZE)
    transfer = asyncio.create_task(carry(source, sink, data))

    changes = 0
    slow = Latency(stream=stream, latency_ms=15, jitter_ms=10)
    narrow = Bandwidth(stream=stream, rate_kb_per_s=40_000)
    while not transfer.done():
        await control.add_toxic("edge", slow, name="slow")
        await control.add_toxic("edge", narrow, name="narrow")
        await control.change_toxic("edge", Latency(stream=stream, latency_ms=1), name="slow")
        await control.remove_toxic("edge", "slow")
        await control.change_toxic(
            "edge", Bandwidth(stream=stream, rate_kb_per_s=400_000), name="narrow"
        )
        await control.reset()
        changes += 1

    await transfer
    assert changes >= 2
    assert sum(event.bytes or 0 for event in await proxy_server.events("delayed")) > MB


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("toxic", [None, Bandwidth(rate_kb_per_s=0)], ids=["plain", "bandwidth"])
async def test_a_reader_that_does_not_read_stops_the_writer(
    proxy_server: ProxyServer, listen: str, upstream: Upstream, stream: Stream, toxic: Toxic | None
):
    """The proxy's own memory does not grow: what does not fit stays with the writer."""
    client, daemon = await connect(listen, upstream)
    source, sink = (client, daemon) if stream == "upstream" else (daemon, client)
    sink.writer.transport.pause_reading()  # type: ignore[attr-defined]
    if toxic is not None:
        here = type(toxic).from_attributes(toxic.attributes(), stream=stream, toxicity=1.0)
        await proxy_server.control.add_toxic("edge", here, name="harm")
    before = proxy_server.private_bytes()

    sent = 0
    while sent < 500 and await sends_within(source, b"x" * MB, seconds=0.5):
        sent += 1

    assert sent < 500
    assert proxy_server.private_bytes() - before < 4 * MB
    # Neither the API nor a new connection notices.
    await proxy_server.control.reset()
    await connect(listen, upstream)


async def sends_within(source: End, data: bytes, *, seconds: float) -> bool:
    """Whether the data, or most of it, could be got rid of in so long."""
    try:
        async with asyncio.timeout(seconds):
            await source.send(data)
    except TimeoutError:
        return False
    return True


async def test_a_reader_that_begins_to_read_gets_everything(listen: str, upstream: Upstream):
    """Back-pressure ends where room is made, and nothing was lost meanwhile."""
    client, daemon = await connect(listen, upstream)
    transport = client.writer.transport
    transport.pause_reading()  # type: ignore[attr-defined]
    data = noise(4 * SIZE)
    sending = asyncio.create_task(daemon.send(data))
    done, _ = await asyncio.wait([sending], timeout=0.5)
    assert not done

    transport.resume_reading()  # type: ignore[attr-defined]

    assert digest(await client.receive(len(data))) == digest(data)
    await sending


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("toxic", [None, Latency(latency_ms=50)], ids=["plain", "latency"])
async def test_data_before_an_end_is_delivered_before_it(
    proxy_server: ProxyServer, listen: str, upstream: Upstream, stream: Stream, toxic: Toxic | None
):
    """Megabytes, then FIN: all of them arrive, then the end, on both sides."""
    if toxic is not None:
        here = type(toxic).from_attributes(toxic.attributes(), stream=stream, toxicity=1.0)
        await proxy_server.control.add_toxic("edge", here, name="harm")
    client, daemon = await connect(listen, upstream)
    source, sink = (client, daemon) if stream == "upstream" else (daemon, client)
    data = noise(SIZE)
    source.writer.write(data)
    source.writer.write_eof()

    assert digest(await sink.receive(len(data))) == digest(data)
    assert await sink.ending() == "fin"
    assert await source.ending() == "fin"


@pytest.mark.parametrize("stream", STREAMS)
async def test_a_reset_on_one_side_closes_the_other(
    proxy_server: ProxyServer, listen: str, upstream: Upstream, stream: Stream
):
    """It leaves as a plain end, as in Toxiproxy."""
    before = proxy_server.descriptors()
    client, daemon = await connect(listen, upstream)
    source, sink = (client, daemon) if stream == "upstream" else (daemon, client)

    source.reset()

    assert await sink.ending() == "fin"
    await descriptors_are(proxy_server, before)


async def test_data_sent_before_the_dial_is_finished_arrives(
    proxy_server: ProxyServer, listen: str, upstream: Upstream
):
    """Written in the same breath as the connect, end included; in order with what follows."""
    for number in range(20):
        with socket.create_connection(listen.rsplit(":", 1), timeout=BOUND_S) as client:
            client.sendall(b"early %d" % number)
            client.shutdown(socket.SHUT_WR)
            daemon = await upstream.accepted()
            async with asyncio.timeout(BOUND_S):
                assert await daemon.reader.read() == b"early %d" % number
            daemon.close()


async def test_a_client_that_left_before_the_dial_is_finished_is_heard(
    proxy_server: ProxyServer, upstream: Upstream
):
    """Its bytes and its end wait for a daemon that is slow to accept."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        # A full backlog: the next connection waits until the system tries again, a second later.
        with contextlib.ExitStack() as fillers:
            for _ in range(2):
                filler = fillers.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(listener.getsockname())
            host, port = listener.getsockname()
            state = await proxy_server.control.create("slow", upstream=f"{host}:{port}")
            client = await upstream.dial(state.listen)
            await client.send(b"early")
            client.writer.write_eof()
            await eventually(lambda: proxy_server.events("opened"), lambda found: len(found) == 1)

        listener.setblocking(False)
        async with asyncio.timeout(BOUND_S):
            assert await first_words(listener) == b"early"
    assert await client.ending() == "fin"


async def first_words(listener: socket.socket) -> bytes:
    """All that the first connection says that says anything before its end."""
    loop = asyncio.get_running_loop()
    while True:
        connection, _ = await loop.sock_accept(listener)
        with connection:
            said = b""
            while part := await loop.sock_recv(connection, 1 << 16):
                said += part
        if said:
            return said


async def test_a_daemon_that_speaks_first_and_leaves_is_heard(
    proxy_server: ProxyServer, upstream: Upstream
):
    """A greeting and FIN at once after the accept reach the client."""
    greeting = noise(MB)

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        state = await proxy_server.control.create("greeter", upstream=f"{host}:{port}")
        for _ in range(10):
            client = await upstream.dial(state.listen)
            assert digest(await client.receive(len(greeting))) == digest(greeting)
            assert await client.ending() == "fin"


async def test_an_end_behind_held_bytes_waits_for_them(
    proxy_server: ProxyServer, listen: str, upstream: Upstream
):
    """
    A client that left is not told to the daemon before its last bytes.

    The daemon may answer meanwhile: nobody is there to hear it, and nothing breaks.
    """
    client, daemon = await connect(listen, upstream)
    slow = Latency(stream="upstream", latency_ms=60_000)
    await proxy_server.control.add_toxic("edge", slow, name="slow")
    await client.send(b"last words")
    client.reset()

    # The first write draws a reset out of the client's system, the others go nowhere.
    for _ in range(20):
        await daemon.send(b"x" * 1000)
        assert await daemon.silent_for(5 * MS)
    await proxy_server.control.remove_toxic("edge", "slow")

    assert await daemon.receive(10) == b"last words"
    assert await daemon.ending() != "none"
    assert len(await proxy_server.endings(1)) == 1


async def test_a_daemon_that_left_while_replies_are_held_may_still_be_spoken_to(
    proxy_server: ProxyServer, listen: str, upstream: Upstream
):
    """The same the other way round: the client gets the reply, then the end."""
    client, daemon = await connect(listen, upstream)
    slow = Latency(stream="downstream", latency_ms=60_000)
    await proxy_server.control.add_toxic("edge", slow, name="slow")
    await daemon.send(b"last reply")
    # The reply is in the proxy before the connection breaks.
    assert await client.silent_for(20 * MS)
    daemon.reset()

    for _ in range(20):
        await client.send(b"y" * 1000)
        assert await client.silent_for(5 * MS)
    await proxy_server.control.remove_toxic("edge", "slow")

    assert await client.receive(10) == b"last reply"
    assert await client.ending() != "none"


@pytest.mark.parametrize("how", ["client closes", "daemon closes", "client resets"])
async def test_two_hundred_connections_leave_nothing(
    proxy_server: ProxyServer, listen: str, upstream: Upstream, how: str
):
    """Every descriptor comes back, and every connection is told as closed exactly once."""
    before = proxy_server.descriptors()
    for _ in range(8):
        pairs = [await connect(listen, upstream) for _ in range(25)]
        for client, daemon in pairs:
            if how == "client resets":
                client.reset()
            else:
                (client if how == "client closes" else daemon).close()

    endings = await proxy_server.endings(200)
    assert len(endings) == 200
    assert len(await proxy_server.events("opened")) == 200
    await descriptors_are(proxy_server, before)


async def test_connections_that_a_toxic_ends_leave_nothing(
    proxy_server: ProxyServer, listen: str, upstream: Upstream
):
    """Cut, reset, timed out, held for ever and then deleted: every descriptor comes back."""
    before = proxy_server.descriptors() - 1  # without the listener and with the port kept
    control = proxy_server.control
    for toxic in (
        LimitData(limit_bytes=3),
        ResetPeer(),
        Timeout(timeout_ms=10),
        Timeout(timeout_ms=0),
        Bandwidth(rate_kb_per_s=0),
        Latency(latency_ms=60_000),
        ResetPeer(timeout_ms=60_000),
    ):
        await control.add_toxic("edge", toxic, name="harm")
        for _ in range(5):
            client = await upstream.dial(listen)
            daemon = await upstream.accepted()
            await daemon.send(b"more than the limit")
            # It may have been reset meanwhile.
            with contextlib.suppress(OSError):
                client.writer.write_eof()
        await control.remove_toxic("edge", "harm")
    await control.delete("edge")

    await descriptors_are(proxy_server, before - 1)
    assert len(await proxy_server.endings(35)) == 35


async def test_connections_that_come_while_a_proxy_is_switched_are_served_or_ended(
    upstream: Upstream,
):
    """
    No client is left hanging between a proxy that accepts and one that does not.

    On uvloop only: asyncio of Python 3.11 forgets a connection that was accepted in the
    turn in which its server is closed (gh-109564).
    """
    with proxy_process() as server:
        listen = (await server.control.create("edge", upstream=upstream.address)).listen
        before = server.descriptors()
        switched = asyncio.Event()
        knocking = [asyncio.create_task(knock_until(switched, listen, upstream)) for _ in range(4)]

        for _ in range(40):
            await server.control.update("edge", enabled=False)
            await server.control.update("edge", enabled=True)
        switched.set()

        assert sum(await asyncio.gather(*knocking)) > 40
        opened = await server.events("opened")
        assert len(await server.endings(len(opened))) == len(opened)
        await descriptors_are(server, before)


async def knock_until(stop: asyncio.Event, listen: str, upstream: Upstream) -> int:
    """Connect and leave again and again; how often. Each connection must see its end."""
    tries = 0
    while not stop.is_set():
        tries += 1
        try:
            client = await upstream.dial(listen)
            client.writer.write_eof()
        except OSError:
            continue
        assert await client.ending() in ("fin", "reset")
    return tries
