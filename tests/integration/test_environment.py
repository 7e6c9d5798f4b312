"""Faults put on and off, on each backend and on both of the daemon's transports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from harness.daemons.reference import Reference
from harness.environment.base import Environment
from harness.errors import CallError, CallUnknown, ConnectFailed, HealFailed
from harness.faults.down import Down
from harness.faults.kill import Kill
from harness.faults.latency import Latency
from harness.faults.pause import Pause
from harness.faults.reset_peer import ResetPeer
from harness.faults.restart import Restart
from harness.faults.stop import Stop
from harness.faults.timeout import Timeout
from tests.backends import CHOICES
from tests.integration.proxy_process import eventually
from tests.integration.stacks import Place, armed, end_server, remains


@pytest.fixture(params=["picows", "websockets"])
async def here(
    request: pytest.FixtureRequest, backend: str, tmp_path: Path
) -> AsyncIterator[Place]:
    """An environment of one's own."""
    async with Place(tmp_path, Reference(transport=request.param), CHOICES[backend]) as made:
        yield made


def newest(here: Place) -> int:
    """When the daemon was started last, on the harness's clock."""
    starts = [op for op in here.history().ops if (op.process, op.f) == ("daemon", "started")]
    return starts[-1].index


async def done(here: Place) -> list[str | None]:
    """The keys of the calls that the daemon carried out so far."""
    return [effect.key for effect in here.effects()]


@pytest.mark.toxic("latency")
async def test_latency_delays_replies_only(here: Place) -> None:
    """Downstream latency delays the reply; the request reaches the daemon at once."""
    late = Latency(stream="downstream", latency_ms=1000)
    async with here.client() as client, here.inject(late):
        reply = await client.call("echo", {"text": "hi"}, timeout_s=5)

    # The floor proves that the toxic was applied; without it a reply takes under a millisecond.
    assert reply.elapsed_ms >= 1000
    assert reply.received_by_daemon_ms is not None
    assert reply.received_by_daemon_ms < 500


async def test_leaving_lifts_the_fault_whatever_happened(here: Place) -> None:
    """An error inside the block comes out as it was, and the toxic is gone."""
    with pytest.raises(ZeroDivisionError):
        async with here.inject(Latency(latency_ms=60_000)):
            raise ZeroDivisionError

    assert await here.control.toxics(here.name) == []


async def test_a_cancelled_test_lifts_its_fault(here: Place) -> None:
    """Cancellation inside the block, even twice, does not keep the toxic on the wire."""
    inside = asyncio.Event()

    async def body() -> None:
        async with here.inject(Latency(latency_ms=60_000)):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(body())
    await inside.wait()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await here.control.toxics(here.name) == []


async def test_a_fault_that_somebody_else_removed_counts_as_lifted(here: Place) -> None:
    """A reset of the proxy in the middle of a test is no error when the block is left."""
    async with here.inject(Latency(latency_ms=1)):
        await here.control.reset()

    assert await here.control.toxics(here.name) == []


async def test_lifting_that_fails_is_an_error(backend: str, tmp_path: Path) -> None:
    """Where the proxy is gone nobody can say that the fault is lifted; closing goes on."""
    place = Place(tmp_path, choice=CHOICES[backend])
    with pytest.raises(HealFailed, match="latency-1 could not be lifted") as caught:
        async with place, place.inject(Latency(latency_ms=1)):
            await end_server(place.stack)

    assert any("while putting away" in note for note in caught.value.__notes__)
    assert remains(place.stack) == []


@pytest.mark.toxic("timeout")
async def test_black_hole_leaves_the_call_unknown_and_done(here: Place) -> None:
    """The reply is swallowed: unknown to the client, once in the effect log."""
    async with here.client() as client:
        async with here.inject(Timeout(stream="downstream")):
            with pytest.raises(CallUnknown) as caught:
                await client.call("counter", {"name": "n"}, key="k1", timeout_s=0.2)
            await eventually(lambda: done(here), bool)

        assert caught.value.kind == "time_limit"
    assert [effect.key for effect in here.effects()] == ["k1"]


@pytest.mark.toxic("reset_peer")
async def test_reset_under_a_reply_leaves_the_call_unknown_and_done(here: Place) -> None:
    """The client sees RST and cannot know; the tool ran once; the daemon saw RST too."""
    async with armed(here), here.client() as client, here.inject(ResetPeer(stream="downstream")):
        try:
            await client.call("counter", {"name": "n"}, key="k1")
        except CallUnknown as error:
            known = error.kind
        else:
            known = "answered"
        assert known == "connection_lost"
        assert client.ending.kind == "reset"

    assert [effect.key for effect in here.effects()] == ["k1"]
    async with here.client(direct=True) as observer:
        seen = await eventually(observer.health, lambda it: it["counters"]["closed_by_reset"] > 0)
    assert seen["counters"]["closed_by_reset"] == 1


async def test_down_refuses_and_opens_again(here: Place) -> None:
    """While the link is down nobody gets in; afterwards at the same address again."""
    url = here.url
    async with here.inject(Down()):
        with pytest.raises(ConnectFailed) as caught:
            async with here.client():
                pass
        assert caught.value.kind == "refused"

    async with here.client() as client:
        assert (await client.call("echo", {"text": "back"})).text == "back"
    assert here.url == url


async def test_pause_freezes_the_daemon(here: Place) -> None:
    """A frozen daemon answers nobody, and goes on where it stopped."""
    async with here.client() as client:
        async with here.inject(Pause()):
            with pytest.raises(CallUnknown):
                await client.call("echo", {"text": "x"}, key="frozen", timeout_s=0.2)
            assert here.effects() == []
        # The call is still in its socket: a daemon that goes on runs it, and answers nobody.
        assert (await client.call("echo", {"text": "y"}, key="thawed")).text == "y"

    assert [effect.key for effect in here.effects()] == ["frozen", "thawed"]


async def test_kill_and_start_again(here: Place) -> None:
    """A killed daemon comes back as another process on the same port."""
    address, before = here.stack.site.address, newest(here)
    async with here.inject(Kill()):
        assert not here.stack.site.program.alive
        assert here.stack.site.program.state == "killed by SIGKILL"
        with pytest.raises(ConnectFailed):
            async with here.client():
                pass

    assert newest(here) > before
    assert here.stack.site.address == address
    async with here.client() as client:
        assert (await client.call("echo", {"text": "back"})).text == "back"
    assert [effect.sequence for effect in here.effects()] == [1]


async def test_restart_ends_the_daemon_in_order(here: Place) -> None:
    """A restarted daemon closes its connections with 1001 and is another process then."""
    before = newest(here)
    async with here.client() as client:
        async with here.inject(Restart()):
            assert newest(here) > before
        with pytest.raises(CallError, match="connection"):
            await client.call("echo", {"text": "x"})

        assert (client.ending.kind, client.ending.code) == ("closed", 1001)


async def test_a_stopped_daemon_says_goodbye_and_stays_away(here: Place) -> None:
    """Close frame 1001 and exit code 0; it is back, as another process, when it is lifted."""
    before = newest(here)
    async with here.client() as client:
        async with here.inject(Stop()):
            assert here.stack.site.program.state == "exited with 0"
            with pytest.raises(ConnectFailed):
                async with here.client():
                    pass
            assert newest(here) == before
        with pytest.raises(CallError, match="connection"):
            await client.call("echo", {"text": "x"})

        assert (client.ending.kind, client.ending.code) == ("closed", 1001)
    assert newest(here) > before
    async with here.client() as again:
        assert (await again.call("echo", {"text": "back"})).text == "back"


async def test_the_url_serves_any_client(here: Place) -> None:
    """People who test their own client take the address alone."""
    async with connect(here.url, proxy=None) as mine:
        await mine.send('{"op": "hello"}')
        assert '"hello_ack"' in str(await mine.recv())


async def test_one_history_holds_all(here: Place) -> None:
    """Client, nemesis, proxy and daemon stand in one record, each stamp with its clock."""
    async with here.client() as client, here.inject(Latency(latency_ms=5)):
        await client.call("echo", {"text": "hi"})

    ops = here.history().ops
    told = {(op.process, op.f) for op in ops}
    assert {
        ("daemon", "started"),
        ("proxy", "started"),
        ("client-1", "open"),
        ("client-1", "call"),
        ("nemesis", "latency"),
        ("nemesis", "heal"),
    } <= told
    own = {("proxy", "added"), ("proxy", "delayed"), ("proxy", "removed")}
    # Of the real one the relay behind it tells.
    assert (own if here.abilities["seed"] is None else {("proxy", "passed")}) <= told
    assert all(op.clock for op in ops)
    assert [op.index for op in ops] == list(range(len(ops)))


async def test_a_second_proxy_before_the_same_daemon(here: Place) -> None:
    """A fault on one proxy does not touch who comes through another, nor its record."""
    async with Environment(here.stack, name="other") as other:
        async with here.inject(Down()), other.client() as client:
            assert (await client.call("echo", {"text": "hi"})).text == "hi"
        told = [event.kind for event in await other.collect()]
        assert "opened" in told
        assert "closed" in told
        assert "disabled" not in told

    assert list(await here.control.proxies()) == [here.name]


def test_it_belongs_to_no_loop(backend: str, tmp_path: Path) -> None:
    """Opened in one loop, used in a second, closed in a third."""
    here = Place(tmp_path, choice=CHOICES[backend])
    asyncio.run(here.__aenter__())

    async def use() -> str:
        async with here.client() as client, here.inject(Latency(latency_ms=1)):
            return (await client.call("echo", {"text": "hi"})).text

    assert asyncio.run(use()) == "hi"
    asyncio.run(here.__aexit__(None, None, None))
    assert remains(here.stack) == []
