"""What the proxy tells about its connections: who ended them, and what toxics did."""

from __future__ import annotations

import pytest

from harness.clock import clock_id, now_ns
from harness.errors import ProxyError
from harness.faults.base import STREAMS, Stream, Toxic
from harness.faults.latency import Latency
from harness.faults.limit_data import LimitData
from harness.faults.reset_peer import ResetPeer
from harness.faults.timeout import Timeout
from harness.records import ProxyEvent, read_lines
from tests.integration.proxy_process import ProxyServer, proxy_process
from tests.integration.wire import End, Upstream


@pytest.fixture
async def pair(proxy_server: ProxyServer, upstream: Upstream) -> tuple[End, End]:
    """A live connection through the proxy "edge": client and daemon."""
    state = await proxy_server.control.create("edge", upstream=upstream.address)
    client = await upstream.dial(state.listen)
    daemon = await upstream.accepted()
    await client.send(b"12345")
    await daemon.receive(5)
    await daemon.send(b"123")
    await client.receive(3)
    return client, daemon


@pytest.mark.parametrize("who", ["client", "daemon"])
@pytest.mark.parametrize("how", ["fin", "reset"])
async def test_an_end_is_told_with_who_and_how(
    proxy_server: ProxyServer, pair: tuple[End, End], who: str, how: str
):
    """And with what was read from either side."""
    end = pair[0] if who == "client" else pair[1]
    if how == "fin":
        end.close()
    else:
        end.reset()

    assert await proxy_server.endings(1) == [f"{who} {how}; 5 bytes up, 3 bytes down"]


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize(
    ("kind", "toxic"),
    [("cut", LimitData(limit_bytes=0)), ("reset", ResetPeer()), ("cut", Timeout(timeout_ms=10))],
    ids=["limit_data", "reset_peer", "timeout"],
)
async def test_an_end_by_a_toxic_is_told_with_its_name(
    proxy_server: ProxyServer, pair: tuple[End, End], stream: Stream, kind: str, toxic: Toxic
):
    """Not as the end of whoever was cut off."""
    here = type(toxic).from_attributes(toxic.attributes(), stream=stream, toxicity=1.0)
    await proxy_server.control.add_toxic("edge", here, name="harm")
    if not isinstance(toxic, Timeout):
        await pair[STREAMS.index(stream)].send(b"x")

    (ending,) = await proxy_server.endings(1)

    up, down = (f"{n} bytes" for n in (5, 3))
    if not isinstance(toxic, Timeout):
        # The byte that met the toxic did not get past it.
        up = "6 bytes (5 passed on)" if stream == "upstream" else up
        down = "4 bytes (3 passed on)" if stream == "downstream" else down
    assert ending == f"toxic harm {kind}; {up} up, {down} down"
    (event,) = await proxy_server.events(kind)
    assert (event.proxy, event.connection, event.stream) == ("edge", 1, stream)
    assert event.toxic == "harm"


async def test_the_end_that_lifting_a_black_hole_makes_is_told_as_its_cut(
    proxy_server: ProxyServer, pair: tuple[End, End]
):
    """The toxic that goes is still the one that did it."""
    await proxy_server.control.add_toxic("edge", Timeout(), name="hole")
    await proxy_server.control.remove_toxic("edge", "hole")

    assert (await proxy_server.endings(1))[0].startswith("toxic hole cut; ")
    assert [event.toxic for event in await proxy_server.events("cut")] == ["hole"]


@pytest.mark.parametrize("call", ["disable", "move", "delete"])
async def test_an_end_by_the_api_is_told_as_such(
    proxy_server: ProxyServer, pair: tuple[End, End], call: str
):
    """With what was done to the proxy."""
    control = proxy_server.control
    if call == "disable":
        await control.update("edge", enabled=False)
    elif call == "move":
        await control.update("edge", upstream="127.0.0.1:1")
    else:
        await control.delete("edge")

    wanted = {"disable": "proxy disabled", "move": "proxy changed", "delete": "proxy removed"}
    assert (await proxy_server.endings(1))[0].startswith(f"{wanted[call]}; ")


async def test_connections_are_numbered_by_proxy(proxy_server: ProxyServer, upstream: Upstream):
    """Each proxy counts its own from 1."""
    for name in ("a", "b"):
        state = await proxy_server.control.create(name, upstream=upstream.address)
        for _ in range(2):
            await upstream.dial(state.listen)
            await upstream.accepted()

    opened = await proxy_server.events("opened")
    assert [(e.proxy, e.connection) for e in opened] == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]


async def test_configuration_is_told(proxy_server: ProxyServer, upstream: Upstream):
    """Enabled and disabled with addresses, toxics with their values."""
    control = proxy_server.control
    state = await control.create("edge", upstream=upstream.address)
    await control.add_toxic("edge", Latency(latency_ms=5), name="slow")
    await control.change_toxic("edge", Latency(latency_ms=6, toxicity=0.5), name="slow")
    await control.remove_toxic("edge", "slow")
    await control.update("edge", enabled=False)

    told = [(event.kind, event.toxic, event.detail) for event in await control.events()]
    assert told == [
        ("enabled", None, f"{state.listen} to {upstream.address}"),
        ("added", "slow", "latency latency 5, jitter 0, toxicity 1"),
        ("changed", "slow", "latency latency 6, jitter 0, toxicity 0.5"),
        ("removed", "slow", "latency latency 6, jitter 0, toxicity 0.5"),
        ("disabled", None, None),
    ]


async def test_a_refused_call_is_no_event(proxy_server: ProxyServer, upstream: Upstream):
    """Only what happened is told."""
    await proxy_server.control.create("edge", upstream=upstream.address)
    before = await proxy_server.control.events()

    with pytest.raises(ProxyError):
        await proxy_server.control.remove_toxic("edge", "nobody")

    assert await proxy_server.control.events() == before


async def test_events_are_stamped_with_a_clock_the_reader_shares(
    proxy_server: ProxyServer, upstream: Upstream
):
    """On one machine proxy and harness read the same clock, so stamps can be compared."""
    before = now_ns()
    await proxy_server.control.create("edge", upstream=upstream.address)
    after = now_ns()

    (event,) = await proxy_server.control.events()

    assert event.clock == clock_id()
    assert before <= event.time_ns <= after


async def test_since_gives_each_event_once(proxy_server: ProxyServer, upstream: Upstream):
    """Continuing from the last number seen; `about` knows the newest."""
    control = proxy_server.control
    await control.create("edge", upstream=upstream.address)
    seen = await control.events()
    await control.update("edge", enabled=False)

    fresh = await control.events(since=seen[-1].seq)

    assert [event.kind for event in fresh] == ["disabled"]
    assert (await control.about()).events == fresh[-1].seq
    assert await control.events(since=fresh[-1].seq) == []


async def test_events_are_json_lines(proxy_server: ProxyServer, upstream: Upstream):
    """One object a line, absent fields left out."""
    await proxy_server.control.create("edge", upstream=upstream.address)

    reply = proxy_server.http.call("GET", "/harness/events")

    assert reply.headers["content-type"] == "application/x-ndjson"
    events, tail = read_lines(reply.body, ProxyEvent)
    assert (len(events), tail) == (1, b"")
    assert b"toxic" not in reply.body


async def test_a_reader_who_comes_too_late_is_told_so(upstream: Upstream):
    """The first line says how many events are lost."""
    keep_ten = "from harness.proxy.events import EventLog\nEventLog.__init__.__defaults__ = (10,)"
    with proxy_process(prepare=keep_ten) as server:
        await server.control.create("edge", upstream=upstream.address)
        for _ in range(15):
            await server.control.update("edge", enabled=False)
            await server.control.update("edge", enabled=True)

        lost, *rest = await server.control.events()

    assert (lost.kind, lost.bytes, lost.seq) == ("lost", 21, 21)
    assert [event.seq for event in rest] == list(range(22, 32))
