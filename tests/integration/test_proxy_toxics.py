"""Each toxic on real sockets. The tests of a toxic fail when it does nothing (`--inert`)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from harness.clock import Draws, now
from harness.faults.bandwidth import Bandwidth
from harness.faults.base import STREAMS, Stream, Toxic
from harness.faults.latency import Latency
from harness.faults.limit_data import LimitData
from harness.faults.reset_peer import ResetPeer
from harness.faults.timeout import Timeout
from tests.integration.proxy_process import ProxyServer
from tests.integration.wire import MS, End, Upstream, is_reset


@dataclass(frozen=True)
class Wire:
    """A live connection through the proxy, seen along one stream."""

    server: ProxyServer
    listen: str
    stream: Stream
    upstream: Upstream
    source: End
    sink: End

    async def add(self, toxic: Toxic, name: str = "harm") -> None:
        await self.server.control.add_toxic("edge", toxic, name=name)

    async def change(self, toxic: Toxic, name: str = "harm") -> None:
        await self.server.control.change_toxic("edge", toxic, name=name)

    async def remove(self, name: str = "harm") -> None:
        await self.server.control.remove_toxic("edge", name)

    async def another(self) -> tuple[End, End]:
        """Source and sink of one more connection."""
        client, daemon = await connect(self.listen, self.upstream)
        return (client, daemon) if self.stream == "upstream" else (daemon, client)

    async def touched(self, kind: str) -> int:
        """How many bytes the proxy says it treated so."""
        events = await self.server.control.events()
        return sum(event.bytes or 0 for event in events if event.kind == kind)


async def connect(listen: str, upstream: Upstream) -> tuple[End, End]:
    client = await upstream.dial(listen)
    return client, await upstream.accepted()


@pytest.fixture(params=STREAMS)
async def wire(
    request: pytest.FixtureRequest, proxy_server: ProxyServer, upstream: Upstream
) -> Wire:
    """A live connection without toxics, in both directions in turn."""
    state = await proxy_server.control.create("edge", upstream=upstream.address)
    client, daemon = await connect(state.listen, upstream)
    ends = (client, daemon) if request.param == "upstream" else (daemon, client)
    # The proxy has both sockets when bytes came through.
    await client.send(b"up")
    assert await daemon.receive(2) == b"up"
    return Wire(proxy_server, state.listen, request.param, upstream, *ends)


@pytest.mark.toxic("latency")
async def test_latency_delays_its_stream(wire: Wire) -> None:
    """A chunk takes at least the latency; the proxy says how much it held."""
    await wire.add(Latency(stream=wire.stream, latency_ms=120))
    started = now()

    await wire.source.send(b"x" * 10)

    assert await wire.sink.receive(10) == b"x" * 10
    assert now() - started >= 120 * MS
    assert await wire.touched("delayed") == 10


@pytest.mark.toxic("latency")
async def test_latency_leaves_the_other_stream_alone(wire: Wire) -> None:
    """While a chunk waits in one direction, the other answers at once."""
    await wire.add(Latency(stream=wire.stream, latency_ms=5_000))
    await wire.source.send(b"slow")

    await wire.sink.send(b"fast")

    assert await wire.source.receive(4) == b"fast"
    assert await wire.sink.silent_for(20 * MS)


@pytest.mark.toxic("latency")
async def test_latency_removed_lets_go_of_what_it_held(wire: Wire) -> None:
    """What waited is delivered when the toxic goes, not when it would have been due."""
    await wire.add(Latency(stream=wire.stream, latency_ms=60_000))
    await wire.source.send(b"held")
    assert await wire.sink.silent_for(20 * MS)

    await wire.remove()

    assert await wire.sink.receive(4) == b"held"


@pytest.mark.toxic("latency")
async def test_latency_changed_holds_for_what_already_waits(wire: Wire) -> None:
    """A chunk that waits obeys the new latency."""
    await wire.add(Latency(stream=wire.stream, latency_ms=60_000))
    await wire.source.send(b"held")
    assert await wire.sink.silent_for(20 * MS)

    await wire.change(Latency(stream=wire.stream, latency_ms=1))

    assert await wire.sink.receive(4) == b"held"


@pytest.mark.toxic("latency")
async def test_latencies_add_up(wire: Wire) -> None:
    """Two latency toxics of 60 ms make 120."""
    await wire.add(Latency(stream=wire.stream, latency_ms=60), "one")
    await wire.add(Latency(stream=wire.stream, latency_ms=60), "two")
    started = now()

    await wire.source.send(b"x")

    assert await wire.sink.receive(1) == b"x"
    assert now() - started >= 120 * MS


@pytest.mark.toxic("bandwidth")
async def test_bandwidth_takes_its_time(wire: Wire) -> None:
    """30 kB at 100 kB/s take 300 ms, and arrive whole."""
    await wire.add(Bandwidth(stream=wire.stream, rate_kb_per_s=100))
    started = now()
    data = bytes(range(256)) * 117 + b"tail" * 12

    await wire.source.send(data)

    assert await wire.sink.receive(len(data)) == data
    assert now() - started >= len(data) / 100_000


async def _flood(source: End) -> None:
    for _ in range(200):
        await source.send(b"x" * (1 << 20))


@pytest.mark.toxic("bandwidth")
async def test_bandwidth_pushes_back(wire: Wire) -> None:
    """At rate 0 the sender cannot get rid of more than the buffers on the way hold."""
    await wire.add(Bandwidth(stream=wire.stream, rate_kb_per_s=0))

    flood = asyncio.create_task(_flood(wire.source))
    done, _ = await asyncio.wait([flood], timeout=1)
    flood.cancel()

    assert not done
    assert await wire.sink.silent_for(20 * MS)


@pytest.mark.toxic("bandwidth")
async def test_bandwidth_changed_lets_the_rest_through(wire: Wire) -> None:
    """What stood still at rate 0 arrives, whole and in order, at a rate that lets it."""
    await wire.add(Bandwidth(stream=wire.stream, rate_kb_per_s=0))
    data = bytes(range(256)) * 256
    await wire.source.send(data)
    assert await wire.sink.silent_for(20 * MS)

    await wire.change(Bandwidth(stream=wire.stream, rate_kb_per_s=1_000_000))

    assert await wire.sink.receive(len(data)) == data


@pytest.mark.toxic("timeout")
async def test_timeout_swallows_its_stream(wire: Wire) -> None:
    """Bytes are gone, the proxy counts them, the connection and its other direction live."""
    await wire.add(Timeout(stream=wire.stream, timeout_ms=0))

    await wire.source.send(b"gone")

    assert await wire.sink.silent_for(50 * MS)
    await wire.sink.send(b"back")
    assert await wire.source.receive(4) == b"back"
    assert await wire.touched("dropped") == 4


@pytest.mark.toxic("timeout")
async def test_timeout_closes_when_it_was_quiet_for_so_long(wire: Wire) -> None:
    """With a time, both ends see a plain end."""
    await wire.add(Timeout(stream=wire.stream, timeout_ms=50))

    assert not await wire.sink.silent_for(5_000 * MS)
    assert (await wire.sink.ending(), await wire.source.ending()) == ("fin", "fin")


@pytest.mark.toxic("timeout")
async def test_timeout_removed_closes_the_connections_it_stood_on(wire: Wire) -> None:
    """After a gap the stream means nothing any more."""
    await wire.add(Timeout(stream=wire.stream, timeout_ms=0))
    await wire.source.send(b"gone")
    assert await wire.sink.silent_for(20 * MS)

    await wire.remove()

    assert not await wire.sink.silent_for(5_000 * MS)
    assert await wire.sink.ending() == "fin"


@pytest.mark.toxic("limit_data")
async def test_limit_data_cuts_at_its_byte(wire: Wire) -> None:
    """Exactly so many bytes arrive, then the end, on both sides."""
    await wire.add(LimitData(stream=wire.stream, limit_bytes=5))

    await wire.source.send(b"12345678")

    assert await wire.sink.receive(5) == b"12345"
    assert not await wire.sink.silent_for(5_000 * MS)
    assert (await wire.sink.ending(), await wire.source.ending()) == ("fin", "fin")
    assert await wire.touched("cut") == 3


@pytest.mark.toxic("limit_data")
async def test_limit_data_closes_on_reaching_the_count(wire: Wire) -> None:
    """The end comes with the last byte, not with the one after it."""
    await wire.add(LimitData(stream=wire.stream, limit_bytes=4))

    await wire.source.send(b"1234")

    assert await wire.sink.receive(4) == b"1234"
    assert not await wire.sink.silent_for(1_000 * MS)


@pytest.mark.toxic("reset_peer")
async def test_reset_peer_resets_a_live_connection_on_both_sides(wire: Wire) -> None:
    """Both ends of a connection older than the toxic see RST; the chunk is not delivered."""
    await wire.add(ResetPeer(stream=wire.stream))

    await wire.source.send(b"doomed")

    assert not await wire.sink.silent_for(5_000 * MS)
    assert (await wire.sink.ending(), await wire.source.ending()) == ("reset", "reset")
    assert await wire.touched("reset") == 6


@pytest.mark.toxic("reset_peer")
async def test_reset_peer_resets_a_connection_opened_after_it(wire: Wire) -> None:
    """A new connection meets the toxic as well."""
    await wire.add(ResetPeer(stream=wire.stream))
    source, sink = await wire.another()

    await source.send(b"doomed")

    assert not await sink.silent_for(5_000 * MS)
    assert (await sink.ending(), await source.ending()) == ("reset", "reset")


@pytest.mark.toxic("reset_peer")
async def test_reset_peer_waits_and_spares_what_is_healed_meanwhile(wire: Wire) -> None:
    """Removed before its time is over, it lets the chunk go on and the connection live."""
    await wire.add(ResetPeer(stream=wire.stream, timeout_ms=60_000))
    await wire.source.send(b"spared")
    assert await wire.sink.silent_for(20 * MS)

    await wire.remove()

    assert await wire.sink.receive(6) == b"spared"


async def test_reset_peer_leaves_an_idle_connection_alone(wire: Wire) -> None:
    """Nothing moves, nothing is reset."""
    await wire.add(ResetPeer(stream=wire.stream))

    assert await wire.sink.silent_for(50 * MS)


@pytest.mark.parametrize("toxic", [Latency(latency_ms=60_000), ResetPeer(), Timeout()])
async def test_toxicity_zero_harms_nobody(wire: Wire, toxic: Toxic) -> None:
    """A toxic that hits no connection is as good as absent, also when it is removed."""
    harmless = type(toxic).from_attributes(toxic.attributes(), stream=wire.stream, toxicity=0)
    await wire.add(harmless)

    await wire.source.send(b"free")
    assert await wire.sink.receive(4) == b"free"
    await wire.remove()

    await wire.source.send(b"free")
    assert await wire.sink.receive(4) == b"free"


@pytest.mark.toxic("reset_peer")
async def test_toxicity_hits_the_same_connections_with_the_same_seed(wire: Wire) -> None:
    """Half of the connections are hit, and their numbers follow from the seed alone."""
    await wire.add(ResetPeer(stream=wire.stream, toxicity=0.5))
    hit = [await is_reset(*await wire.another()) for _ in range(12)]

    # Connections 2 to 13 of proxy "edge" at seed 7; recomputed here, not by the proxy.
    draws = [Draws(7, f"edge|harm|{n}|{wire.stream}").at("toxicity") for n in range(2, 14)]
    assert hit == [draw < 0.5 for draw in draws]
    assert 0 < sum(hit) < 12


async def _hits(server: ProxyServer, upstream: Upstream, *, seed: int | None) -> list[bool]:
    """Which of twelve connections a reset of toxicity 0.5 hits, on a proxy that is then removed."""
    state = await server.control.create("edge", upstream=upstream.address, seed=seed)
    await server.control.add_toxic("edge", ResetPeer(stream="upstream", toxicity=0.5), name="harm")
    hits = [await is_reset(*await connect(state.listen, upstream)) for _ in range(12)]
    await server.control.delete("edge")
    return hits


@pytest.mark.toxic("reset_peer")
@pytest.mark.parametrize("seed", [None, 7, 11, -3])
async def test_a_proxy_draws_from_its_own_seed(
    proxy_server: ProxyServer, upstream: Upstream, seed: int | None
) -> None:
    """Where it has one; else from the server's, which is 7."""
    hits = await _hits(proxy_server, upstream, seed=seed)

    root = 7 if seed is None else seed
    draws = [Draws(root, f"edge|harm|{n}|upstream").at("toxicity") for n in range(1, 13)]
    assert hits == [draw < 0.5 for draw in draws]


@pytest.mark.toxic("reset_peer")
async def test_a_proxy_made_anew_with_its_seed_draws_the_same(
    proxy_server: ProxyServer, upstream: Upstream
) -> None:
    """Two proxies of one server, one after the other; another seed draws otherwise."""
    first = await _hits(proxy_server, upstream, seed=11)
    other = await _hits(proxy_server, upstream, seed=12)
    again = await _hits(proxy_server, upstream, seed=11)

    assert first == again
    assert first != other


@pytest.mark.toxic("latency")
async def test_jitter_is_drawn_from_the_proxys_own_seed(
    proxy_server: ProxyServer, upstream: Upstream
) -> None:
    """With it the first byte takes nearly the whole jitter, with the server's next to nothing."""
    where = "edge|wobble|1|upstream"
    seed = next(s for s in range(1_000) if Draws(s, where).at(0) > 0.975)
    assert Draws(7, where).at(0) < 0.5
    state = await proxy_server.control.create("edge", upstream=upstream.address, seed=seed)
    wobble = Latency(stream="upstream", latency_ms=0, jitter_ms=200)
    await proxy_server.control.add_toxic("edge", wobble, name="wobble")
    client, daemon = await connect(state.listen, upstream)
    started = now()

    await client.send(b"x")

    assert await daemon.receive(1) == b"x"
    assert now() - started >= 190 * MS
