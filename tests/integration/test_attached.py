"""A daemon and a proxy server that somebody else started: used, and left as they were found."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.address import Address
from harness.daemons.reference import Reference
from harness.daemons.running import Running
from harness.dialects.exai import Exai
from harness.environment.attached import AttachedDaemon
from harness.environment.backends import AttachedEnvironment, Choice, stack_of
from harness.environment.base import Environment
from harness.environment.making import make_proxy
from harness.environment.reaper import carriers
from harness.errors import (
    ConnectFailed,
    EnvironmentFailed,
    InvalidValue,
    ProxyError,
)
from harness.faults.base import Fault
from harness.faults.down import Down
from harness.faults.kill import Kill
from harness.faults.latency import Latency
from harness.faults.pause import Pause
from harness.faults.reset_peer import ResetPeer
from harness.faults.restart import Restart
from harness.proxy.control import Control
from harness.run.store import HistoryWriter, load_history
from tests.integration.behind import asking
from tests.integration.daemons import raw
from tests.integration.foreign import KINDS, Foreign, foreign_server
from tests.integration.proxy_process import eventually
from tests.integration.refdaemon_process import Daemon, started


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    """A daemon that runs already and wants no token."""
    async with started(tmp_path, token=None) as running:
        yield running


@pytest.fixture(params=KINDS)
def foreign(request: pytest.FixtureRequest) -> Iterator[Foreign]:
    """Somebody else's Toxiproxy, each kind."""
    with foreign_server(request.param) as server:
        yield server


@pytest.fixture
def ours() -> Iterator[Foreign]:
    """A `harness proxy` of somebody else's."""
    with foreign_server("ours") as server:
        yield server


async def looks(daemon: Daemon) -> dict[str, Any]:
    """What must be the same before and after, once nobody else is connected."""
    async with daemon.peer() as peer:
        return Exai().fingerprint(await peer.health_when("connections", 1))


@pytest.mark.toxic("latency")
async def test_our_proxy_before_a_daemon_that_runs(daemon: Daemon) -> None:
    """It is harmed through our proxy, runs on as it was, and no process of ours is left."""
    before = await looks(daemon)
    late = Latency(latency_ms=150)

    async with AttachedEnvironment(daemon.running()) as here:
        async with here.client() as client, here.inject(late):
            reply = await client.call("echo", {"text": "hi"})
        run_id = here.stack.run_id

    assert reply.elapsed_ms >= 150
    assert await looks(daemon) == before
    assert daemon.process.returncode is None
    assert carriers(run_id) == []


async def test_a_foreign_server_is_left_byte_for_byte(foreign: Foreign, daemon: Daemon) -> None:
    """
    Others' proxies, the disabled one and the one of our usual name too, and their toxics: a
    reset of the server would have touched each.
    """
    before = foreign.state()

    async with AttachedEnvironment(daemon.running(), proxy=foreign.url) as here:
        await here.stack.probe()
        async with here.client() as client, here.inject(Latency(latency_ms=150)):
            reply = await client.call("echo", {"text": "hi"})
            others = foreign.http.call("GET", "/proxies").json
            del others[here.name]
        await here.heal()

    assert reply.elapsed_ms >= 150
    assert others == json.loads(before)
    assert foreign.state() == before


async def test_an_error_in_the_block_removes_our_proxy_too(
    foreign: Foreign, daemon: Daemon
) -> None:
    """In the middle of a fault, with the link down: the error comes out as it was."""
    before = foreign.state()
    here = AttachedEnvironment(daemon.running(), proxy=foreign.url)

    with pytest.raises(ZeroDivisionError):
        async with here, here.inject(Latency(latency_ms=1)), here.inject(Down()):
            raise ZeroDivisionError

    assert foreign.state() == before


async def test_a_cancelled_block_removes_our_proxy_too(foreign: Foreign, daemon: Daemon) -> None:
    """As Ctrl-C does it."""
    before, inside = foreign.state(), asyncio.Event()
    here = AttachedEnvironment(daemon.running(), proxy=foreign.url)

    async def block() -> None:
        async with here, here.inject(Latency(latency_ms=60_000)):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(block())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert foreign.state() == before


async def test_a_proxy_that_was_removed_meanwhile(foreign: Foreign, daemon: Daemon) -> None:
    """That it is gone already is no reason to complain at the end."""
    before = foreign.state()
    stack = stack_of(daemon.running(), choice=Choice(proxy=foreign.url))

    async with stack:
        upstream = Address("127.0.0.1", daemon.port)
        state = await stack.server.make("mine", upstream=upstream, listen=None, seed=None)
        await foreign.control.delete(state.name)
        await stack.server.remove(state.name)

    assert foreign.state() == before


async def test_two_environments_on_one_server_at_the_same_time(
    foreign: Foreign, daemon: Daemon
) -> None:
    """Each has a proxy of its own name, and its faults are its own."""
    before = foreign.state()
    running = daemon.running()

    async with (
        AttachedEnvironment(running, proxy=foreign.url) as one,
        AttachedEnvironment(running, proxy=foreign.url) as other,
        one.client() as slow,
        other.client() as quick,
        one.inject(Latency(latency_ms=400)),
    ):
        late, _ = await asyncio.gather(
            slow.call("echo", {"text": "late"}),
            eventually(
                lambda: quick.call("echo", {"text": "soon"}), lambda it: it.elapsed_ms < 400
            ),
        )

    assert late.elapsed_ms >= 400
    assert foreign.state() == before


async def test_a_provider_behind_somebody_elses_server(foreign: Foreign) -> None:
    """The proxy on that hop is removed as the one on the edge is; nobody else's is touched."""
    before = foreign.state()
    stack = stack_of(asking(patience_s=2), choice=Choice(proxy=foreign.url))

    async with (
        Environment(stack, owns=True, name="mine") as here,
        here.client(call_timeout_s=5) as client,
    ):
        async with here.inject(Down(), hop="provider"):
            assert (await client.call("hi")).text.startswith("failed")
        assert (await client.call("hi")).text == "said hi"
        ours = [name for name in foreign.names() if name.startswith("provider-")]
        assert len(ours) == 1

    assert foreign.state() == before


async def test_a_name_that_is_taken_is_not_ours(foreign: Foreign, daemon: Daemon) -> None:
    """The error says so, and nobody is told to remove that proxy, should the harness die."""
    before, orders = foreign.state(), Orders()
    stack = stack_of(daemon.running(), choice=Choice(proxy=foreign.url), reaper=orders)

    with pytest.raises(EnvironmentFailed, match='has a proxy "off" already'):
        async with Environment(stack, owns=True, name="off"):
            pass

    assert foreign.state() == before
    assert orders.given == []


class Orders:
    """A reaper that only notes what it would delete."""

    def __init__(self) -> None:
        self.open: set[str] = set()
        self.given: list[str] = []

    def watch(self, run_id: str) -> None: ...

    def remove(self, run_id: str, path: Path) -> None: ...

    def settle(self, run_id: str) -> None: ...

    def delete(self, run_id: str, url: str) -> None:
        self.given.append(url)
        self.open.add(url)

    def leave(self, run_id: str, url: str) -> None:
        self.open.remove(url)


async def test_the_order_to_remove_our_proxy_is_taken_back(ours: Foreign, daemon: Daemon) -> None:
    """It is given before the proxy is there, by its encoded name, and ends with it."""
    orders = Orders()
    stack = stack_of(daemon.running(), choice=Choice(proxy=ours.url), reaper=orders)

    async with Environment(stack, owns=True, name="a b/c"):
        assert orders.open == {f"{ours.url}/proxies/a%20b%2Fc"}

    assert orders.open == set()


async def test_where_nothing_can_listen_the_order_is_taken_back(
    foreign: Foreign, daemon: Daemon
) -> None:
    """The error says where and why, in the system's words."""
    before, orders = foreign.state(), Orders()
    stack = stack_of(daemon.running(), choice=Choice(proxy=foreign.url), reaper=orders)
    taken = Address("127.0.0.1", daemon.port)

    with pytest.raises(EnvironmentFailed) as caught:
        async with Environment(stack, owns=True, name="mine", listen=taken):
            pass

    assert f"cannot listen on {taken}: address already in use" in caught.value.headline
    assert foreign.state() == before
    assert len(orders.given) == 1
    assert orders.open == set()


@pytest.mark.parametrize("fault", [Pause(), Kill(), Restart()])
async def test_harming_the_process_is_refused(fault: Fault, daemon: Daemon) -> None:
    """The reason is that it is somebody else's; it goes on."""
    async with AttachedEnvironment(daemon.running()) as here:
        with pytest.raises(InvalidValue, match=f"{fault.type} cannot be done here") as caught:
            here.inject(fault)
        async with here.client() as client:
            assert (await client.call("echo", {"text": "still here"})).text == "still here"

    assert "the daemon was started by somebody else" in str(caught.value)
    assert daemon.process.returncode is None


@pytest.mark.parametrize("order", ["pause", "kill", "stop"])
async def test_no_order_reaches_its_process(order: str, daemon: Daemon) -> None:
    """Whoever asks the site itself is refused as well, and told what to give instead."""
    site = AttachedDaemon(daemon.running())
    options = {"within_s": 1.0} if order == "stop" else {}

    with pytest.raises(InvalidValue, match=f"the daemon at 127.0.0.1:{daemon.port} is not") as no:
        await getattr(site, order)(**options)

    assert "give the command that starts it" in str(no.value)
    assert daemon.process.returncode is None


async def test_effects_are_refused(daemon: Daemon) -> None:
    """Where they are nobody told us; an empty list would be a lie."""
    async with AttachedEnvironment(daemon.running()) as here:
        with pytest.raises(InvalidValue, match="was started by somebody else"):
            here.effects()


async def test_what_a_real_toxiproxy_lacks(daemon: Daemon) -> None:
    """It tells nothing, cannot be seeded, and resets only what opens after the toxic came."""
    with foreign_server("real") as foreign:
        async with AttachedEnvironment(daemon.running(), proxy=foreign.url) as here:
            await here.stack.probe()
            abilities = here.abilities
            async with here.inject(ResetPeer()):
                with pytest.raises(ConnectFailed) as caught:
                    async with here.client():
                        pass

    assert abilities["rst"] is None
    assert "arrived as FIN" in str(abilities["live_rst"])
    assert abilities["events"] == "a real Toxiproxy tells nothing of its connections"
    assert abilities["seed"] == "a real Toxiproxy cannot be seeded"
    assert caught.value.kind == "reset"


async def test_our_server_tells_of_our_proxy_alone(
    ours: Foreign, daemon: Daemon, tmp_path: Path
) -> None:
    """What happens on others' proxies meanwhile, or before, is not in our record."""
    with HistoryWriter(tmp_path / "history.jsonl") as history:
        async with AttachedEnvironment(daemon.running(), proxy=ours.url, recorder=history) as here:
            ours.http.call("POST", "/proxies/edge", {"enabled": False})
            async with here.client():
                pass
            told = {event.proxy for event in await here.collect()}

    kinds = {op.f for op in load_history(history.path).ops if op.process == "proxy"}
    assert told == {here.name}
    assert "opened" in kinds
    assert "disabled" not in kinds


async def test_a_daemon_of_our_own_behind_a_foreign_server(foreign: Foreign) -> None:
    """The daemon is ours to kill, the server is not ours to end."""
    before = foreign.state()
    stack = stack_of(Reference(), choice=Choice(proxy=foreign.url))

    async with Environment(stack, owns=True, name="mine") as here:
        async with here.inject(Kill()):
            pass
        async with here.client() as client:
            assert (await client.call("echo", {"text": "back"})).text == "back"

    assert carriers(stack.run_id) == []
    assert foreign.state() == before


async def test_a_daemon_elsewhere_with_leave(daemon: Daemon) -> None:
    """
    Our own proxy is given leave too. 0.0.0.0 leads here on Linux, and is no loopback address.
    """
    elsewhere = Running.at(f"ws://0.0.0.0:{daemon.port}", allow_remote=True)

    async with AttachedEnvironment(elsewhere) as here, here.client() as client:
        assert (await client.call("echo", {"text": "hi"})).text == "hi"


@pytest.mark.parametrize("how", ["late", "cancelled"])
async def test_a_proxy_whose_making_was_not_waited_for_is_removed(how: str) -> None:
    """The server made it and answered too late, or nobody waited: it is not left there."""
    asked: list[str] = []
    made = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        asked.append(head.partition(" HTTP")[0])
        if head.startswith("POST"):
            made.set()
            await reader.read()
            return
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()

    async with raw(serve) as url:
        bound_s = 0.2 if how == "late" else 10.0
        control = Control(url.replace("ws://", "http://"), timeout_s=bound_s)
        where = Address("127.0.0.1", 0)
        making = asyncio.create_task(
            make_proxy(control, "mine", upstream=where, listen=where, seed=None)
        )
        await made.wait()
        if how == "cancelled":
            making.cancel()
        with pytest.raises(ProxyError if how == "late" else asyncio.CancelledError):
            await making

    assert asked == ["POST /proxies", "DELETE /proxies/mine"]
