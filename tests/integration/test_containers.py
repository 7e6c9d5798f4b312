"""Daemons in containers behind the real Toxiproxy: who is who, how each is reached, their ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import docker
import pytest

from harness.address import Address
from harness.daemons.base import Container
from harness.daemons.container import Containerized
from harness.daemons.reference import Reference
from harness.dialects.plain import Plain
from harness.environment.backends import DOCKER, TOXIPROXY, OwnEnvironment, engine
from harness.environment.container_proxy import VERSION
from harness.environment.containers import Box, Order
from harness.environment.images.own import own_image
from harness.environment.paths import PATHS, NetworkPath
from harness.errors import CallError, CallUnknown, InvalidValue, ProxyError
from harness.faults.cpu_limit import CpuLimit
from harness.faults.descriptor_limit import DescriptorLimit
from harness.faults.disconnect import Disconnect
from harness.faults.kill import Kill
from harness.faults.latency import Latency
from harness.faults.memory_limit import MemoryLimit
from harness.faults.pause import Pause
from harness.faults.restart import Restart
from harness.faults.stop import Stop
from tests.backends import CHOICES, in_containers
from tests.integration.stacks import Place, remains
from tests.talker import TALKER, said_back, talking

pytestmark = in_containers

DIAL = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 10) as connection:
    rows = ["GET / HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade"]
    rows += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "", ""]
    connection.sendall("\\r\\n".join(rows).encode())
    print(connection.recv(1000).decode())
"""
"""Asks for a WebSocket at an address."""


async def test_the_peer_is_toxiproxy_and_the_effect_was_written_inside(boxed: Place) -> None:
    """Nobody of ours answers there; the effect is in a file that the container has."""
    async with boxed.client() as client:
        await client.call("counter", {"name": "n"}, key="mine")

    assert await boxed.control.version() == VERSION
    with pytest.raises(ProxyError) as refused:
        await boxed.control.about()
    assert refused.value.status == 404
    box = boxed.stack.site.program.box
    code, text = await asyncio.to_thread(box.execute, ["cat", "/harness/effects.jsonl"])
    assert code == 0
    assert [json.loads(line)["key"] for line in text.splitlines()] == ["mine"]
    assert [effect.pid for effect in boxed.effects()] == [1]


async def test_cut_off_its_network_the_daemon_is_silent_and_the_connection_lives(
    boxed: Place,
) -> None:
    """It comes back with its old address; the same TCP connection goes on."""
    address = boxed.stack.site.address
    async with boxed.client() as client:
        async with boxed.inject(Disconnect()):
            with pytest.raises(CallUnknown) as caught:
                await client.call("echo", {"text": "x"}, key="cut", timeout_s=0.3)
            assert boxed.effects() == []
        assert (await client.call("echo", {"text": "y"}, timeout_s=10)).text == "y"

    assert caught.value.kind == "time_limit"
    assert boxed.stack.site.address == address


async def test_stopped_in_order_it_says_goodbye(boxed: Place) -> None:
    """Close frame 1001, exit code 0, and it is back when the fault is lifted."""
    async with boxed.client() as client:
        async with boxed.inject(Stop()):
            assert boxed.stack.site.program.state == "exited with 0"
            with pytest.raises(CallError, match="connection"):
                await client.call("echo", {"text": "x"})
        assert (client.ending.kind, client.ending.code) == ("closed", 1001)

    async with boxed.client() as again:
        assert (await again.call("echo", {"text": "back"})).text == "back"


async def test_a_hop_that_begins_in_a_container(boxed: Place) -> None:
    """Its proxy listens where containers reach this machine, and nowhere else."""
    stack = boxed.stack
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


async def test_the_kernel_tells_of_its_own_network(boxed: Place) -> None:
    """Who is connected in there, and whether anybody still listens; of the host's it tells else."""
    site = boxed.stack.site
    async with boxed.client():
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


async def test_what_a_daemon_wrote_beside_its_effects_stays(tmp_path: Path) -> None:
    """In the run directory; it is no reason to complain."""
    async with Place(tmp_path, choice=CHOICES[DOCKER]) as here:
        box = here.stack.site.program.box
        command = ["sh", "-c", "echo kept > /harness/journal"]
        assert (await asyncio.to_thread(box.execute, command))[0] == 0

    assert (tmp_path / "effects/journal").read_text() == "kept\n"
    assert (tmp_path / "effects.jsonl").exists()


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
    program = TALKER.replace("async def talk", f"import os, signal\n{handler}\nasync def talk", 1)
    async with Place(tmp_path, talking(program), CHOICES[DOCKER]) as here:
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
    async with Place(run, daemon, CHOICES[DOCKER]) as here:
        assert await said_back(here, "hi") == "hi"
        assert "talker is up" in here.stack.site.written()
    assert remains(here.stack) == []


@pytest.fixture
def asked_by(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The threads that asked the engine for something."""
    threads: set[int] = set()
    really = docker.APIClient.send

    def send(client: docker.APIClient, *request: Any, **options: Any) -> Any:
        threads.add(threading.get_ident())
        return really(client, *request, **options)

    monkeypatch.setattr(docker.APIClient, "send", send)
    return threads


async def test_the_engine_is_never_asked_on_the_loop(asked_by: set[int]) -> None:
    """Whatever is done with containers: clients and timers go on meanwhile."""
    harm = [Pause(), Kill(), Stop(), Restart(), Disconnect(), CpuLimit(cpus=0.5)]
    limits = [MemoryLimit(limit_bytes=256 << 20), DescriptorLimit(descriptors=100)]
    async with OwnEnvironment(Reference(), backend=DOCKER, proxy=TOXIPROXY) as here:
        await here.stack.probe()
        for fault in (*harm, *limits):
            async with here.inject(fault):
                await here.stack.limits_hit()
        here.stack.describe()

    assert len(asked_by) > 1
    assert threading.get_ident() not in asked_by


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
