"""Daemons in containers behind the real Toxiproxy: who is who, faults, strangers' images."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from toxiproxy import Toxiproxy
from toxiproxy.api import APIConsumer

from harness.address import Address
from harness.daemons.base import Container, Limits
from harness.daemons.container import Containerized
from harness.daemons.reference import IMAGE, Reference
from harness.dialects.plain import Plain
from harness.environment import container_proxy
from harness.environment.backends import DOCKER, TOXIPROXY, Choice, OwnEnvironment, engine
from harness.environment.cgroup import Use, read_use
from harness.environment.container_proxy import VERSION
from harness.environment.containers import Box, Order
from harness.environment.images.own import own_image
from harness.environment.paths import PATHS, NetworkPath
from harness.errors import CallUnknown, ConnectFailed, InvalidValue, ProxyError
from harness.faults.armed_reset import ArmedReset
from harness.faults.cpu_limit import CpuLimit
from harness.faults.descriptor_limit import DescriptorLimit
from harness.faults.disconnect import Disconnect
from harness.faults.kill import Kill
from harness.faults.latency import Latency
from harness.faults.limit_data import LimitData
from harness.faults.memory_limit import MemoryLimit
from harness.faults.reset_peer import ResetPeer
from harness.faults.restart import Restart
from harness.faults.stop import Stop
from tests.backends import in_containers
from tests.integration.stacks import Place, remains
from tests.projects import ECHO

pytestmark = in_containers

BEHIND_TOXIPROXY = Choice(backend=DOCKER, proxy=TOXIPROXY)

DIAL = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 10) as connection:
    rows = ["GET / HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade"]
    rows += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "", ""]
    connection.sendall("\\r\\n".join(rows).encode())
    print(connection.recv(1000).decode())
"""
"""Asks for a WebSocket at an address."""


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Place]:
    """The reference daemon in a container, behind the real Toxiproxy."""
    async with Place(tmp_path, choice=BEHIND_TOXIPROXY) as made:
        yield made
    assert remains(made.stack) == []


@pytest.fixture
def by_toxiproxy_python(here: Place) -> Iterator[Any]:
    """The proxy before the daemon, as toxiproxy-python sees it."""
    before = APIConsumer.host, APIConsumer.port
    host, port = here.control.url.removeprefix("http://").split(":")
    toxiproxy = Toxiproxy()
    toxiproxy.update_api_consumer(host, int(port))
    yield toxiproxy.get_proxy(here.name)
    APIConsumer.host, APIConsumer.port = before


async def test_the_peer_is_toxiproxy_and_the_effect_was_written_inside(here: Place) -> None:
    """Nobody of ours answers there; the effect is in a file that the container has."""
    async with here.client() as client:
        await client.call("counter", {"name": "n"}, key="mine")

    assert await here.control.version() == VERSION
    with pytest.raises(ProxyError) as refused:
        await here.control.about()
    assert refused.value.status == 404
    box = here.stack.site.program.box
    code, text = await asyncio.to_thread(box.execute, ["cat", "/harness/effects.jsonl"])
    assert code == 0
    assert [json.loads(line)["key"] for line in text.splitlines()] == ["mine"]
    assert [effect.pid for effect in here.effects()] == [1]


async def test_toxiproxy_python_makes_replies_late(here: Place, by_toxiproxy_python: Any) -> None:
    """An independent client puts the toxic on; the client at the other end waits."""
    await asyncio.to_thread(
        by_toxiproxy_python.add_toxic, type="latency", attributes={"latency": 200}
    )
    async with here.client() as client:
        assert (await client.call("echo", {"text": "hi"})).elapsed_ms >= 200


async def test_toxiproxy_python_opens_a_black_hole(here: Place, by_toxiproxy_python: Any) -> None:
    """The call was executed, and its reply is nowhere."""
    async with here.client() as client:
        await asyncio.to_thread(
            by_toxiproxy_python.add_toxic, type="timeout", attributes={"timeout": 0}
        )
        with pytest.raises(CallUnknown) as caught:
            await client.call("counter", {"name": "n"}, key="lost", timeout_s=0.3)

    assert caught.value.kind == "time_limit"
    assert [effect.key for effect in here.effects()] == ["lost"]


async def test_toxiproxy_python_resets(here: Place, by_toxiproxy_python: Any) -> None:
    """A connection that opens afterwards is reset, and the client sees that it is."""
    await asyncio.to_thread(
        by_toxiproxy_python.add_toxic, type="reset_peer", attributes={"timeout": 0}
    )
    with pytest.raises(ConnectFailed) as caught:
        async with here.client():
            pass

    assert caught.value.kind == "reset"


async def test_a_live_connection_ends_with_fin_unless_it_was_armed(here: Place) -> None:
    """Toxiproxy's own way: "resets live connections" is no ability of it."""
    await here.stack.probe()
    assert here.abilities["rst"] is None
    assert "arrived as FIN" in str(here.abilities["live_rst"])
    async with here.client() as client, here.inject(ResetPeer(stream="downstream")):
        with pytest.raises(CallUnknown):
            await client.call("echo", {"text": "x"})

    assert client.ending.kind == "eof"


@pytest.mark.parametrize("fault", [ResetPeer(stream="downstream"), LimitData(limit_bytes=1)])
async def test_what_was_armed_is_reset(here: Place, fault: Any) -> None:
    """By either toxic that closes; both ends see it."""
    async with here.inject(ArmedReset()), here.client() as client, here.inject(fault):
        with pytest.raises(CallUnknown):
            await client.call("echo", {"text": "x"})

    assert client.ending.kind == "reset"
    async with here.client(direct=True) as observer:
        assert (await observer.health())["counters"]["closed_by_reset"] == 1


async def test_cut_off_its_network_the_daemon_is_silent_and_the_connection_lives(
    here: Place,
) -> None:
    """It comes back with its old address; the same TCP connection goes on."""
    address = here.stack.site.address
    async with here.client() as client:
        async with here.inject(Disconnect()):
            with pytest.raises(CallUnknown) as caught:
                await client.call("echo", {"text": "x"}, key="cut", timeout_s=0.3)
            assert here.effects() == []
        assert (await client.call("echo", {"text": "y"}, timeout_s=10)).text == "y"

    assert caught.value.kind == "time_limit"
    assert here.stack.site.address == address


async def test_stopped_in_order_it_says_goodbye(here: Place) -> None:
    """Close frame 1001, exit code 0, and it is back when the fault is lifted."""
    async with here.client() as client:
        async with here.inject(Stop()):
            assert here.stack.site.program.state == "exited with 0"
            with pytest.raises(Exception, match="connection"):
                await client.call("echo", {"text": "x"})
        assert (client.ending.kind, client.ending.code) == ("closed", 1001)

    async with here.client() as again:
        assert (await again.call("echo", {"text": "back"})).text == "back"


async def crowd(here: Place, clients: AsyncExitStack) -> None:
    """More than it has descriptors for."""
    for _ in range(16):
        await clients.enter_async_context(here.client())


async def test_without_descriptors_nobody_gets_in(here: Place) -> None:
    """The limit that was hit is named; afterwards there are enough again."""
    async with here.inject(DescriptorLimit(descriptors=16)), AsyncExitStack() as clients:
        with pytest.raises((ConnectFailed, TimeoutError)):
            await asyncio.wait_for(crowd(here, clients), 1)
        hit = await here.stack.site.limits_hit()

    assert [line for line in hit if line.startswith("descriptors")]
    async with here.client() as client:
        assert (await client.call("echo", {"text": "hi"})).text == "hi"


async def test_a_cpu_limit_holds_it_back(here: Place) -> None:
    """The engine's own figures say so."""
    async with here.inject(CpuLimit(cpus=0.02)), here.client() as client:
        for _ in range(100):
            await client.call("echo", {"text": "hi"}, timeout_s=20)
        hit = await here.stack.site.limits_hit()

    assert [line for line in hit if line.startswith("cpus: held back")]


async def test_a_hop_that_begins_in_a_container(here: Place) -> None:
    """Its proxy listens where containers reach this machine, and nowhere else."""
    stack = here.stack
    host = stack.site.network.gateway
    hop = await stack.server.make(
        "hop", upstream=stack.site.inner_address, listen=Address(host, 0), seed=None
    )
    port = int(hop.listen.removeprefix(f"{host}:"))
    order = Order(
        name=f"{stack.site.program.order.name}-caller",
        image=own_image(),
        run_id=stack.run_id,
        network=stack.site.network.name,
        command=["python3", "-c", DIAL, host, str(port)],
    )

    caller = await asyncio.to_thread(engine().run, order)
    try:
        assert await asyncio.to_thread(caller.wait) == 0
        assert caller.output().startswith("HTTP/1.1 101 ")
    finally:
        await asyncio.to_thread(caller.remove)
        await stack.server.remove("hop")


async def test_what_was_hit_before_a_mark_is_no_news(here: Place) -> None:
    """A daemon that tests share is held back in one; the next is not told so."""
    site = here.stack.site
    async with here.inject(CpuLimit(cpus=0.02)), here.client() as client:
        for _ in range(100):
            await client.call("echo", {"text": "hi"}, timeout_s=20)
    before = await site.limits_hit()
    mark = await site.mark()

    assert [line for line in before if line.startswith("cpus: held back")]
    assert await site.limits_hit(since=mark) == []


async def test_where_the_kernel_does_not_tell_the_engine_does(
    here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere than on its own machine; nobody waits for it at the start of a test."""
    program = here.stack.site.program
    figures = {"pids_stats": {"current": 77}}
    monkeypatch.setattr("harness.environment.boxed.read_use", lambda pid, container_id: None)
    monkeypatch.setattr(type(program.box), "use", lambda box: figures)
    before = await asyncio.to_thread(program.use, quickly=True)
    told = await asyncio.to_thread(program.use)

    assert before.processes < 77
    assert told.processes == 77
    assert await asyncio.to_thread(program.use, quickly=True) == told


async def test_kernel_and_engine_tell_the_same(here: Place) -> None:
    """Of a container that rests; of another nothing is told."""
    box = here.stack.site.program.box
    pid = box.state().pid
    if (seen := read_use(pid, box.id)) is None:
        pytest.skip("the engine's control groups are not to be seen here")

    told = Use.of_engine(await asyncio.to_thread(box.use))

    assert (seen.processes, seen.memory_refused) == (told.processes, told.memory_refused)
    assert read_use(pid, "0" * 64) is None
    assert read_use(os.getpid(), box.id) is None


async def test_the_kernel_tells_of_its_own_network(here: Place) -> None:
    """Who is connected in there, and whether anybody still listens; of the host's it tells else."""
    site = here.stack.site
    async with here.client():
        connected = await site.connections()
    if connected is None:
        pytest.skip("the engine's control groups are not to be seen here")

    assert connected == 1
    assert not await site.silent()
    os.kill(site.program.box.state().pid, signal.SIGKILL)
    # The engine needs a while to notice; the kernel does not.
    async with asyncio.timeout(5):
        while not await site.silent():
            await asyncio.sleep(0.01)
    assert await site.connections() == 0


async def test_a_proxy_servers_limits_are_told_and_seen_to_be_hit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In environment.json; a proxy that is held back is not taken for a slow daemon."""
    tight = Limits(memory_bytes=256 << 20, cpus=0.02, processes=64, descriptors=512)
    monkeypatch.setattr(container_proxy, "_LIMITS", tight)
    async with Place(tmp_path, choice=BEHIND_TOXIPROXY) as here:
        assert here.stack.describe()["server"]["limits"] == asdict(tight)
        assert await asyncio.to_thread(here.stack.server.program.box.limits) == tight
        mark = await here.stack.mark()
        async with here.client() as client:
            for _ in range(100):
                await client.call("echo", {"text": "hi"}, timeout_s=20)
        hit = await here.stack.limits_hit(since=mark)
        later = await here.stack.limits_hit(since=await here.stack.mark())

    assert [line for line in hit if re.match(r"cpus: held back in .* \(the proxy server's\)", line)]
    assert later == []


async def test_what_a_daemon_wrote_beside_its_effects_stays(tmp_path: Path) -> None:
    """In the run directory; it is no reason to complain."""
    async with Place(tmp_path, choice=BEHIND_TOXIPROXY) as here:
        box = here.stack.site.program.box
        command = ["sh", "-c", "echo kept > /harness/journal"]
        assert (await asyncio.to_thread(box.execute, command))[0] == 0

    assert (tmp_path / "effects/journal").read_text() == "kept\n"
    assert (tmp_path / "effects.jsonl").exists()


async def test_a_memory_limit_is_put_on_and_taken_off(here: Place) -> None:
    """What the engine says of it."""
    box = here.stack.site.program.box

    async def most() -> int:
        use = await asyncio.to_thread(box.use)
        return int(use["memory_stats"]["limit"])

    usual = await most()
    async with here.inject(MemoryLimit(limit_bytes=128 << 20)):
        assert await most() == 128 << 20
    assert await most() == usual == Limits().memory_bytes


async def both_limits(here: Place) -> tuple[int, int]:
    """Of the container's memory, in bytes, and of its first process's descriptors."""
    box = here.stack.site.program.box
    use = await asyncio.to_thread(box.use)
    code, text = await asyncio.to_thread(box.execute, ["cat", "/proc/1/limits"])
    assert code == 0
    return use["memory_stats"]["limit"], int(str(text).partition("Max open files")[2].split()[0])


async def test_limits_hold_over_a_restart_and_go_one_by_one(here: Place) -> None:
    """Also those that are not the container's but its processes'."""
    usual = await both_limits(here)
    async with here.inject(MemoryLimit(limit_bytes=128 << 20)):
        async with here.inject(DescriptorLimit(descriptors=100)), here.inject(Restart()):
            assert await both_limits(here) == (128 << 20, 100)
        assert await both_limits(here) == (128 << 20, usual[1])
    assert await both_limits(here) == usual


async def test_a_killed_one_that_is_healed_has_its_usual_limits(here: Place) -> None:
    """Although nobody could lift them while it was down."""
    usual = await both_limits(here)
    tight = MemoryLimit(limit_bytes=128 << 20), DescriptorLimit(descriptors=100)
    async with here.inject(tight[0]), here.inject(tight[1]), here.inject(Kill()):
        await here.heal()
        assert await both_limits(here) == usual


async def test_one_killed_for_want_of_memory_is_named(tmp_path: Path) -> None:
    """By the engine's flag, in the record and in the verdict."""
    hungry = ECHO.replace("await connection.send(message)", "bytearray(1 << 30)")
    daemon = Containerized(
        container=Container(image=IMAGE, port=9000, command=("python3", "-c", hungry)),
        dialect=Plain(),
        limits=Limits(memory_bytes=96 << 20),
    )
    place = Place(tmp_path, daemon, BEHIND_TOXIPROXY)
    async with place:
        async with place.client() as client:
            with pytest.raises(CallUnknown):
                await client.call("hi", timeout_s=10)
        async with asyncio.timeout(5):
            # The client saw it a moment before the engine did.
            while (trouble := place.stack.site.trouble) is None:
                await asyncio.sleep(0.01)
        hit = await place.stack.site.limits_hit()

    assert hit == ["memory: the kernel killed it for want of memory (OOM)"]
    assert trouble == "killed for want of memory (OOM)"
    ended = [op for op in place.history().ops if (op.process, op.f) == ("daemon", "ended")]
    assert ended[0].value["oom_killed"] is True
    assert ended[0].value["exit_code"] == 137


@pytest.mark.parametrize("proxy", ["embedded", TOXIPROXY])
@pytest.mark.parametrize("path", PATHS)
async def test_each_way_to_a_daemon_leads_there(path: NetworkPath, proxy: str) -> None:
    """With each proxy, over a restart; ports that are published stand on loopback alone."""
    here = OwnEnvironment(Reference(), backend=DOCKER, proxy=proxy, path=path)
    async with here:
        own = here.stack.site.address
        assert own.is_loopback == (path != "bridge")
        async with here.client() as client, here.inject(Latency(latency_ms=50)):
            assert (await client.call("echo", {"text": "hi"})).elapsed_ms >= 50
        async with here.inject(Stop()):
            pass
        assert here.stack.site.address == own
        async with here.client() as client:
            assert (await client.call("echo", {"text": "back"})).text == "back"
        box = here.stack.site.program.box
        published = await asyncio.to_thread(box.published, 8079)
        assert published == (None if path == "bridge" else (own.host, own.port))
    assert remains(here.stack) == []


@pytest.mark.parametrize(
    ("handler", "ends"),
    [
        ("", "killed by SIGKILL"),
        ("signal.signal(signal.SIGTERM, lambda *_: os._exit(5))", "exited with 5"),
        ("signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])", "killed by SIGKILL"),
    ],
)
async def test_who_does_not_hear_is_not_asked_to_end(
    handler: str, ends: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The first process of a container gets only signals that it handles: nobody waits for it. How
    it ended is told, of the proxy server too.
    """
    asked = []
    really = Box.stop

    def stop(box: Box, *, within_s: float) -> None:
        asked.append(box.name)
        really(box, within_s=within_s)

    monkeypatch.setattr(Box, "stop", stop)
    text = ECHO.replace("async def echo", f"import signal\n{handler}\nasync def echo", 1)
    container = Container(image=IMAGE, port=9000, command=("python3", "-c", text))
    daemon = Containerized(container=container, dialect=Plain())
    async with Place(tmp_path, daemon, BEHIND_TOXIPROXY) as here:
        if await here.stack.site.connections() is None:
            pytest.skip("the engine's control groups are not to be seen here")

    assert bool(asked) == bool(handler)
    assert here.stack.site.program.state == ends
    assert here.stack.server.program.state == "killed by SIGKILL"
    assert remains(here.stack) == []


async def test_a_dockerfile_is_built(project: Path, tmp_path: Path) -> None:
    """And what it runs is the daemon."""
    daemon = Containerized(container=Container(build=project, port=9000), dialect=Plain())
    run = tmp_path / "run"
    run.mkdir()
    async with Place(run, daemon, BEHIND_TOXIPROXY) as here, here.client() as client:
        assert (await client.call("hi")).text == "hi"
        assert "echo is up" in here.stack.site.written()
    assert remains(here.stack) == []


async def test_two_environments_do_not_meet() -> None:
    """Each has a network, a Toxiproxy and a daemon of its own."""
    async with (
        OwnEnvironment(Reference(), backend=DOCKER, proxy=TOXIPROXY) as one,
        OwnEnvironment(Reference(), backend=DOCKER, proxy=TOXIPROXY) as other,
    ):
        async with one.inject(Latency(latency_ms=60_000)), other.client() as client:
            assert (await client.call("echo", {"text": "hi"})).text == "hi"
        assert one.stack.site.address != other.stack.site.address
        assert one.control.url != other.control.url


def test_a_daemon_without_a_container_is_refused() -> None:
    """Where it has none nothing is begun, and the remedy is said."""
    with pytest.raises(InvalidValue, match="has no container to run in") as caught:
        OwnEnvironment(Reference(container=None), backend=DOCKER)

    assert "tool.harness.daemon.container" in str(caught.value)
