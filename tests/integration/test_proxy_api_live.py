"""What API calls do to live connections, and what they do while other things are going on."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from harness.clock import now
from harness.errors import ProxyError
from harness.faults.latency import Latency
from harness.proxy.api import Api
from harness.proxy.control import Control
from tests.integration.proxy_process import ProxyServer, eventually
from tests.integration.wire import MS, End, Upstream


@pytest.fixture
async def pair(proxy_server: ProxyServer, upstream: Upstream) -> tuple[Control, End, End]:
    """A proxy "edge" and a live connection through it: control, client, daemon."""
    control = proxy_server.control
    state = await control.create("edge", upstream=upstream.address)
    client = await upstream.dial(state.listen)
    daemon = await upstream.accepted()
    await client.send(b"up")
    assert await daemon.receive(2) == b"up"
    return control, client, daemon


async def echo(upstream: Upstream, listen: str) -> tuple[End, End]:
    """A new connection that carries a byte."""
    client = await upstream.dial(listen)
    daemon = await upstream.accepted()
    await client.send(b"x")
    assert await daemon.receive(1) == b"x"
    return client, daemon


async def test_disabling_closes_live_connections(pair: tuple[Control, End, End]):
    """Both ends see a plain end."""
    control, client, daemon = pair

    await control.update("edge", enabled=False)

    assert (await client.ending(), await daemon.ending()) == ("fin", "fin")


@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("POST", b'{"enabled": false}'),
        ("POST", b'{"upstream": "127.0.0.1:9", "enabled": false}'),
        ("DELETE", b""),
    ],
    ids=["disabled", "moved", "deleted"],
)
async def test_what_is_closed_is_closed_before_the_answer(
    upstream: Upstream, method: str, body: bytes
):
    """Else a client that hears of it and sends at once is reset, for its bytes are not read."""
    api = Api(seed=1)
    made = {"name": "edge", "listen": "127.0.0.1:0", "upstream": upstream.address}
    answer = await api.handle("POST", "/proxies", json.dumps(made).encode())
    listen = json.loads(answer.body)["listen"]
    clients = [(await echo(upstream, listen))[0] for _ in range(5)]

    answer = await api.handle(method, "/proxies/edge", body)
    told = [event.kind for event in api.events.since(0)]
    await api.close()

    assert (answer.status, told.count("closed")) in ((200, 5), (204, 5))
    assert [await client.ending() for client in clients] == ["fin"] * len(clients)


async def test_disabling_refuses_new_connections(
    pair: tuple[Control, End, End], upstream: Upstream
):
    """Refused, not accepted and closed."""
    control, _, _ = pair
    state = await control.update("edge", enabled=False)

    with pytest.raises(ConnectionRefusedError):
        await upstream.dial(state.listen)


async def test_enabling_listens_on_the_same_port(
    pair: tuple[Control, End, End], upstream: Upstream
):
    """A client that retries finds it where it was; its toxics are there too."""
    control, _, _ = pair
    await control.add_toxic("edge", Latency(latency_ms=1), name="slow")
    before = await control.proxy("edge")
    await control.update("edge", enabled=False)

    after = await control.update("edge", enabled=True)

    assert after == before
    await echo(upstream, after.listen)


async def test_a_disabled_port_is_kept_from_others(
    pair: tuple[Control, End, End], upstream: Upstream
):
    """The system gives it to nobody, and nobody can bind it by accident."""
    control, _, _ = pair
    state = await control.update("edge", enabled=False)
    host, _, port = state.listen.rpartition(":")

    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind((host, int(port)))


async def test_enabling_an_enabled_proxy_leaves_connections_alone(
    pair: tuple[Control, End, End],
):
    """Nothing changed, nothing closes."""
    control, client, daemon = pair

    await control.update("edge", enabled=True)

    await client.send(b"still")
    assert await daemon.receive(5) == b"still"


async def test_another_upstream_closes_live_connections_and_keeps_toxics(
    pair: tuple[Control, End, End],
):
    """New connections go to the new upstream, through the toxics that were there."""
    control, client, daemon = pair
    await control.add_toxic("edge", Latency(latency_ms=1), name="slow")
    before = await control.proxy("edge")

    async with Upstream() as other:
        state = await control.update("edge", upstream=other.address)

        assert (await client.ending(), await daemon.ending()) == ("fin", "fin")
        assert (state.listen, state.toxics) == (before.listen, before.toxics)
        await echo(other, state.listen)


async def test_another_listen_address_closes_live_connections_and_the_old_port(
    pair: tuple[Control, End, End], upstream: Upstream
):
    """The proxy moved; where it was, nobody listens."""
    control, client, daemon = pair
    before = await control.proxy("edge")

    state = await control.update("edge", listen="127.0.0.1:0")

    assert state.listen != before.listen
    assert (await client.ending(), await daemon.ending()) == ("fin", "fin")
    with pytest.raises(ConnectionRefusedError):
        await upstream.dial(before.listen)
    await echo(upstream, state.listen)


async def test_the_same_address_in_other_words_changes_nothing(pair: tuple[Control, End, End]):
    """`localhost` and what it stands for are one address: connections live on."""
    control, client, daemon = pair
    state = await control.proxy("edge")
    port = state.listen.rpartition(":")[2]

    assert await control.update("edge", listen=f"localhost:{port}") == state

    await client.send(b"still")
    assert await daemon.receive(5) == b"still"


async def test_another_upstream_for_a_disabled_proxy_leaves_it_disabled(
    proxy_server: ProxyServer, upstream: Upstream
):
    """It does not listen for a moment either: no event says so, no port is taken."""
    control = proxy_server.control
    await control.create("edge", upstream="127.0.0.1:1", enabled=False)

    state = await control.update("edge", upstream=upstream.address)

    assert (state.enabled, state.listen) == (False, "127.0.0.1:0")
    assert await proxy_server.events("enabled", "disabled") == []


async def test_a_move_to_a_port_in_use_leaves_the_proxy_disabled(
    pair: tuple[Control, End, End], upstream: Upstream
):
    """As in Toxiproxy: the address is the new one, and a later start works."""
    control, client, _ = pair
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ProxyError, match="address already in use"):
            await control.update("edge", listen=listen)
        assert await client.ending() == "fin"
        state = await control.proxy("edge")
        assert (state.enabled, state.listen) == (False, listen)

    await control.update("edge", enabled=True)
    await echo(upstream, listen)


async def test_deleting_closes_live_connections(pair: tuple[Control, End, End]):
    """Both ends see a plain end."""
    control, client, daemon = pair

    await control.delete("edge")

    assert (await client.ending(), await daemon.ending()) == ("fin", "fin")


async def test_reset_leaves_live_connections_alone(pair: tuple[Control, End, End]):
    """Healing a proxy that listens closes nothing, and lets go of what toxics held."""
    control, client, daemon = pair
    await control.add_toxic("edge", Latency(stream="upstream", latency_ms=60_000), name="slow")
    await client.send(b"held")
    assert await daemon.silent_for(20 * MS)

    await control.reset()

    assert await daemon.receive(4) == b"held"


async def test_an_upstream_that_is_down_is_accepted_then_closed(
    proxy_server: ProxyServer, upstream: Upstream
):
    """The client connects and sees the end; an event says that the upstream was unreachable."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = f"127.0.0.1:{gone.getsockname()[1]}"
    state = await proxy_server.control.create("edge", upstream=address)

    client = await upstream.dial(state.listen)

    assert await client.ending() == "fin"
    kinds = [event.kind for event in await proxy_server.events("opened", "unreachable", "closed")]
    assert kinds == ["opened", "unreachable", "closed"]
    assert (await proxy_server.endings(1))[0].startswith("upstream unreachable; ")


async def test_an_upstream_without_a_listener_is_said_with_its_address(
    proxy_server: ProxyServer, upstream: Upstream
):
    """Whoever reads the event knows which address was tried and why it failed."""
    state = await proxy_server.control.create("edge", upstream="127.0.0.1:1")
    await (await upstream.dial(state.listen)).ending()

    (event,) = await proxy_server.events("unreachable")

    assert str(event.detail).startswith("127.0.0.1:1: ")


@contextmanager
def blackhole() -> Iterator[str]:
    """The address of a listener whose backlog is full: connecting to it takes for ever."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            for filler in fillers:
                filler.close()


async def test_the_api_answers_while_an_upstream_does_not(
    proxy_server: ProxyServer, upstream: Upstream
):
    """
    A dial under way stalls no call on its proxy, and the calls end the dial.

    Toxiproxy dials in its accept loop and leaves such calls without an answer.
    """
    control = proxy_server.control
    with blackhole() as address:
        state = await control.create("edge", upstream=address)
        client = await upstream.dial(state.listen)
        await eventually(lambda: proxy_server.events("opened"), lambda found: len(found) == 1)
        started = now()

        await control.add_toxic("edge", Latency(latency_ms=1), name="slow")
        await control.change_toxic("edge", Latency(latency_ms=2), name="slow")
        await control.proxies()
        await control.remove_toxic("edge", "slow")
        await control.update("edge", enabled=False)
        took_s = now() - started

        assert await proxy_server.events("unreachable") == []
        assert await client.ending() == "fin"
    assert took_s < 2


async def test_a_stalled_dial_stalls_no_other_client(proxy_server: ProxyServer, upstream: Upstream):
    """Whoever connects after the upstream was put right gets through."""
    control = proxy_server.control
    with blackhole() as address:
        state = await control.create("edge", upstream=address)
        stalled = await upstream.dial(state.listen)
        await eventually(lambda: proxy_server.events("opened"), lambda found: len(found) == 1)

        await control.create("other", upstream=upstream.address, listen="127.0.0.1:0")
        listen = (await control.proxy("other")).listen
        await echo(upstream, listen)

        assert await stalled.silent_for(20 * MS)


async def test_a_client_that_vanishes_during_the_dial_leaves_nothing(
    proxy_server: ProxyServer, upstream: Upstream
):
    """Its connection is told as closed at once, and the dial is given up."""
    before = proxy_server.descriptors()
    with blackhole() as address:
        state = await proxy_server.control.create("edge", upstream=address)
        client = await upstream.dial(state.listen)
        await eventually(lambda: proxy_server.events("opened"), lambda found: len(found) == 1)

        client.reset()

        assert (await proxy_server.endings(1))[0].startswith("client reset; ")
        await proxy_server.control.delete("edge")

        async def descriptors() -> int:
            return proxy_server.descriptors()

        await eventually(descriptors, lambda count: count <= before)


async def test_calls_that_race_each_other_leave_one_state(
    proxy_server: ProxyServer, upstream: Upstream
):
    """
    Start, stop, move, reset and delete at once: each is answered, and nothing listens in the end.
    """
    control = proxy_server.control
    before = proxy_server.descriptors()
    for _ in range(10):
        state = await control.create("edge", upstream=upstream.address)
        answers = await asyncio.gather(
            control.update("edge", enabled=False),
            control.update("edge", enabled=True),
            control.reset(),
            control.update("edge", listen="127.0.0.1:0"),
            control.update("edge", enabled=True),
            control.reset(),
            control.delete("edge"),
            control.create("edge", upstream=upstream.address),
            control.update("edge", upstream="127.0.0.1:1"),
            control.reset(),
            return_exceptions=True,
        )
        statuses = {answer.status for answer in answers if isinstance(answer, ProxyError)}
        assert statuses <= {404, 409}
        state = await control.update("edge", enabled=True) if await control.proxies() else state
        if await control.proxies():
            await control.delete("edge")
        with pytest.raises(ConnectionRefusedError):
            await upstream.dial(state.listen)

    async def descriptors() -> int:
        return proxy_server.descriptors()

    await eventually(descriptors, lambda count: count <= before)


async def test_of_two_creations_at_once_one_is_refused(
    proxy_server: ProxyServer, upstream: Upstream
):
    """One proxy of a name, whoever came first."""
    answers = await asyncio.gather(
        *(proxy_server.control.create("edge", upstream=upstream.address) for _ in range(8)),
        return_exceptions=True,
    )

    refused = [answer for answer in answers if isinstance(answer, ProxyError)]
    assert [error.status for error in refused] == [409] * 7
    assert len(await proxy_server.control.proxies()) == 1
