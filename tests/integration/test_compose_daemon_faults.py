"""Faults on a daemon of somebody's Compose project: after each it is as it was."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from harness.daemons.base import Limits
from harness.environment.backends import DOCKER, TOXIPROXY, OwnEnvironment, engine
from harness.environment.paths import NetworkPath
from harness.errors import CallError
from harness.faults.cpu_limit import CpuLimit
from harness.faults.disconnect import Disconnect
from harness.faults.memory_limit import MemoryLimit
from harness.faults.restart import Restart
from harness.faults.stop import Stop
from tests.backends import in_containers
from tests.integration.programs import docker
from tests.integration.stacks import remains
from tests.projects import as_daemon, change
from tests.talker import said_back

pytestmark = [in_containers, pytest.mark.usefixtures("compose"), pytest.mark.timeout(180)]

ASKING = """
import asyncio
from websockets.asyncio.server import serve

async def beside():
    # It starts when we do.
    while True:
        try:
            return await asyncio.open_connection("beside", 7000)
        except OSError:
            await asyncio.sleep(0.05)

async def main():
    read, write = await beside()
    one_at_a_time = asyncio.Lock()

    async def answer(connection):
        async for message in connection:
            async with one_at_a_time:
                write.write(message.encode() + b"\\n")
                said = await read.readline()
            await connection.send(said.decode().strip())

    async with serve(answer, "0.0.0.0", 9000):
        await asyncio.Future()

asyncio.run(main())
"""
"""Asks its sibling for each answer, on one connection as long as it lives."""

SIBLING = """
import asyncio

async def answer(read, write):
    async for line in read:
        write.write(b"beside: " + line)

async def main():
    async with await asyncio.start_server(answer, "0.0.0.0", 7000):
        await asyncio.Future()

asyncio.run(main())
"""


def asks_its_sibling(project: Path) -> None:
    """Have the service ask the other one."""
    (project / "server.py").write_text(ASKING)
    change(project, beside={"command": ["python3", "-c", SIBLING]})


@pytest.mark.parametrize(
    ("path", "proxy"),
    [("bridge", "embedded"), ("loopback", TOXIPROXY), ("published", TOXIPROXY)],
)
async def test_cut_off_it_comes_back_as_it_was(
    project: Path, path: NetworkPath, proxy: str
) -> None:
    """
    On each path: meanwhile nobody gets an answer; then its connection to its sibling goes on,
    and its names and addresses are the same.
    """
    asks_its_sibling(project)
    here = OwnEnvironment(as_daemon(project), backend=DOCKER, proxy=proxy, path=path)
    async with here:
        site = here.stack.site
        box, own = site.program.box, f"harness-{here.stack.run_id}_default"
        before = site.address, await asyncio.to_thread(box.networks)
        async with here.client() as client, here.client() as patient:
            assert (await client.call("one")).text == "beside: one"
            async with here.inject(Disconnect()):
                assert await asyncio.to_thread(box.networks) == {}
                # The engine's forwarder of a published port ends with it.
                with pytest.raises(CallError):
                    await client.call("two", timeout_s=0.5)
            if path == "bridge" or here.stack.server.inside:
                assert (await patient.call("three", timeout_s=10)).text == "beside: three"
        async with here.client() as client:
            assert (await client.call("four", timeout_s=10)).text == "beside: four"
        assert (site.address, await asyncio.to_thread(box.networks)) == before
        beside = engine().named(f"harness-{here.stack.run_id}-beside-1")
        assert beside is not None
        code, found = await asyncio.to_thread(beside.execute, ["getent", "hosts", "echo"])
        assert (code, found.split()[0]) == (0, before[1][own])
    assert remains(here.stack) == []


async def test_started_again_it_has_its_address(project: Path) -> None:
    """Also where it was cut off meanwhile; what the record says of its network is so."""
    here = OwnEnvironment(as_daemon(project), backend=DOCKER)
    async with here:
        site = here.stack.site
        box, own = site.program.box, site.inner_address.host
        async with here.inject(Restart()):
            pass
        async with here.inject(Stop()), here.inject(Disconnect()):
            pass
        networks = await asyncio.to_thread(box.networks)
        assert await said_back(here, "hi") == "hi"
        said = site.describe()

    assert networks[said["network"]["name"]] == own == site.inner_address.host
    assert said["address"].startswith(own)
    assert own in [str(each) for each in IPv4Network(said["network"]["subnet"])]
    assert said["project"]["networks"][f"harness-{here.stack.run_id}_default"]


async def over_faults(here: OwnEnvironment) -> list[Limits]:
    """Its limits before faults that tighten two of them, meanwhile, and afterwards."""
    box = here.stack.site.program.box
    found = [await asyncio.to_thread(box.limits)]
    async with here.inject(MemoryLimit(limit_bytes=100 << 20)), here.inject(CpuLimit(cpus=0.5)):
        found.append(await asyncio.to_thread(box.limits))
    found.append(await asyncio.to_thread(box.limits))
    return found


async def test_it_runs_under_our_limits(project: Path) -> None:
    """Which faults tighten, and which it has again afterwards; its sibling has the usual ones."""
    limits = Limits(memory_bytes=300 << 20, cpus=1.5, processes=99, descriptors=999)
    here = OwnEnvironment(as_daemon(project, limits=limits), backend=DOCKER)
    async with here:
        before, tight, after = await over_faults(here)
        beside = engine().named(f"harness-{here.stack.run_id}-beside-1").limits()

    assert before == after == limits
    assert (tight.memory_bytes, tight.cpus) == (100 << 20, 0.5)
    assert beside == Limits()


@pytest.mark.parametrize(
    "own",
    [
        {"mem_limit": "200m", "cpus": 0.75, "pids_limit": 77, "ulimits": {"nofile": 777}},
        {
            "deploy": {"resources": {"limits": {"memory": "200M", "cpus": "0.75", "pids": 77}}},
            "ulimits": {"nofile": {"soft": 777, "hard": 999}},
        },
    ],
    ids=["service", "deploy"],
)
async def test_limits_of_the_project_win(project: Path, own: dict[str, Any]) -> None:
    """They are what the record says, and what it has again after a fault."""
    change(project, echo=own)
    here = OwnEnvironment(as_daemon(project), backend=DOCKER)
    async with here:
        box = here.stack.site.program.box
        said = here.stack.describe()["daemon"]["limits"]
        swap = docker("inspect", "-f", "{{.HostConfig.MemorySwap}}", box.name)
        before, tight, after = await over_faults(here)
        again = docker("inspect", "-f", "{{.HostConfig.MemorySwap}}", box.name)

    assert before == after
    assert before == Limits(memory_bytes=200 << 20, cpus=0.75, processes=77, descriptors=777)
    assert said == {"memory_bytes": 200 << 20, "cpus": 0.75, "processes": 77, "descriptors": 777}
    assert (tight.memory_bytes, tight.cpus) == (100 << 20, 0.5)
    assert swap == again
