"""A daemon that is a service of somebody's Compose project: what is theirs is left alone."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from harness.clock import now
from harness.daemons.base import Limits
from harness.environment import compose_daemon
from harness.environment.backends import DOCKER, TOXIPROXY, Choice, OwnEnvironment, engine, stack_of
from harness.environment.compose_daemon import ComposeDaemon
from harness.environment.images.own import own_image
from harness.environment.owner import own_name
from harness.environment.paths import NetworkPath
from harness.environment.reaper import carriers
from harness.errors import CallError, EnvironmentFailed
from harness.faults.cpu_limit import CpuLimit
from harness.faults.disconnect import Disconnect
from harness.faults.memory_limit import MemoryLimit
from harness.faults.restart import Restart
from harness.faults.stop import Stop
from tests.backends import in_containers
from tests.integration.stacks import remains
from tests.projects import ECHO, as_daemon, change

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


def docker(*words: str) -> str:
    """A command of the engine's own; what it wrote."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def theirs() -> Iterator[str]:
    """The name of a volume with a file in it, and of a network: somebody has them."""
    name = f"theirs-{secrets.token_hex(4)}"
    docker("volume", "create", name)
    docker("run", "--rm", "-v", f"{name}:/kept", own_image(), "sh", "-c", "true")
    docker("network", "create", name)
    yield name
    docker("network", "rm", name)
    docker("volume", "rm", name)


def files_in(volume: str) -> list[str]:
    """What is in a volume."""
    return docker("run", "--rm", "-v", f"{volume}:/kept", own_image(), "ls", "/kept").split()


async def test_a_compose_project_is_brought_up_and_down(project: Path) -> None:
    """Twice at once: what it would publish is not, and its volumes go with it."""
    daemon = as_daemon(project)
    async with (
        OwnEnvironment(daemon, backend=DOCKER) as one,
        OwnEnvironment(daemon, backend=DOCKER) as other,
    ):
        for here in (one, other):
            async with here.client() as client:
                assert (await client.call("hi")).text == "hi"
        found = engine().left.remains(one.stack.run_id)
        assert len([name for name in found if name.startswith("container")]) == 2
        async with one.inject(Stop()):
            pass
        async with one.client() as client:
            assert (await client.call("back")).text == "back"
    assert remains(one.stack) + remains(other.stack) == []
    # Not by somebody else.
    assert other.stack.site.program.state == "killed by SIGKILL"


async def test_what_is_built_is_as_the_source_is(project: Path) -> None:
    """A change is never missed; without one no other image is made."""
    daemon, ids, answers = as_daemon(project), [], []
    for says in ("message", "message", "'new'"):
        (project / "server.py").write_text(ECHO.replace("send(message)", f"send({says})"))
        async with OwnEnvironment(daemon, backend=DOCKER) as here, here.client() as client:
            answers.append((await client.call("hi")).text)
            ids.append(here.stack.site.describe()["image_id"])

    assert answers == ["hi", "hi", "new"]
    assert ids[0] == ids[1] != ids[2]
    # It lost its name to the newer one.
    engine().images.remove(ids[0])


async def test_what_has_a_name_of_its_own_is_had_twice(project: Path, theirs: str) -> None:
    """Each environment has its own; the user's is not written, and what is external stays."""
    touch = {"command": ["sh", "-c", "touch /kept/written && exec sleep 1000"]}
    change(
        project,
        echo={"container_name": f"{theirs}-echo", "networks": ["default", "shared"]},
        beside=touch | {"container_name": f"{theirs}-beside", "user": "0"},
        volumes={"kept": {"name": theirs}},
        networks={
            "default": {"name": f"{theirs}-net"},
            "shared": {"name": theirs, "external": True},
        },
    )
    daemon = as_daemon(project)
    async with (
        OwnEnvironment(daemon, backend=DOCKER) as one,
        OwnEnvironment(daemon, backend=DOCKER) as other,
    ):
        for here in (one, other):
            async with here.client() as client:
                assert (await client.call("hi")).text == "hi"
            run_id = here.stack.run_id
            there = engine().left.remains(run_id)
            # Each carries who made it, and no name that the user chose.
            owned = [name for of, name in engine().left.owned(own_name()) if of == run_id]
            assert sorted(owned) == sorted(there)
            assert [name for name in there if theirs in name] == []
            assert len(there) == 5
            assert theirs in here.stack.site.describe()["project"]["networks"]

    assert remains(one.stack) + remains(other.stack) == []
    assert files_in(theirs) == []


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
        async with here.client() as client:
            assert (await client.call("hi")).text == "hi"
        said = site.describe()

    assert networks[said["network"]["name"]] == own == site.inner_address.host
    assert said["address"].startswith(own)
    assert own in [str(each) for each in IPv4Network(said["network"]["subnet"])]
    assert said["project"]["networks"][f"harness-{here.stack.run_id}_default"]


async def test_it_runs_under_our_limits(project: Path) -> None:
    """Which faults tighten, and which it has again afterwards; its sibling has the usual ones."""
    limits = Limits(memory_bytes=300 << 20, cpus=1.5, processes=99, descriptors=999)
    here = OwnEnvironment(as_daemon(project, limits=limits), backend=DOCKER)
    async with here:
        box = here.stack.site.program.box
        before = await asyncio.to_thread(box.limits)
        async with here.inject(MemoryLimit(limit_bytes=100 << 20)), here.inject(CpuLimit(cpus=0.5)):
            tight = await asyncio.to_thread(box.limits)
        after = await asyncio.to_thread(box.limits)
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
        before = await asyncio.to_thread(box.limits)
        said = here.stack.describe()["daemon"]["limits"]
        swap = docker("inspect", "-f", "{{.HostConfig.MemorySwap}}", box.name)
        async with here.inject(MemoryLimit(limit_bytes=100 << 20)), here.inject(CpuLimit(cpus=0.5)):
            tight = await asyncio.to_thread(box.limits)
        after = await asyncio.to_thread(box.limits)
        again = docker("inspect", "-f", "{{.HostConfig.MemorySwap}}", box.name)

    assert before == after
    assert before == Limits(memory_bytes=200 << 20, cpus=0.75, processes=77, descriptors=777)
    assert said == {"memory_bytes": 200 << 20, "cpus": 0.75, "processes": 77, "descriptors": 777}
    assert (tight.memory_bytes, tight.cpus) == (100 << 20, 0.5)
    assert swap == again


@pytest.mark.parametrize("mode", ["host", "none", "service:beside"])
async def test_a_service_without_a_network_of_its_own_is_refused(
    project: Path, mode: str, tmp_path: Path
) -> None:
    """By name, with what to do; nothing is begun."""
    change(project, echo={"network_mode": mode, "ports": []})
    stack = stack_of(as_daemon(project), choice=Choice(backend=DOCKER), directory=tmp_path / "run")
    with pytest.raises(EnvironmentFailed, match='the service "echo" has no network') as caught:
        async with stack:
            pass

    assert f"network_mode is {mode}" in str(caught.value)
    assert "next " in str(caught.value)
    assert remains(stack) == []


async def test_a_subnet_that_somebody_has_is_not_insisted_on(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next is tried, until one is free."""
    real, drawn = compose_daemon.subnets, []
    async with OwnEnvironment(as_daemon(project), backend=DOCKER) as one:
        taken = IPv4Network(one.stack.site.describe()["network"]["subnet"])

        def subnets(name: str) -> Iterator[IPv4Network]:
            drawn.append(name)
            yield taken
            yield from real(name)

        monkeypatch.setattr(compose_daemon, "subnets", subnets)
        here = OwnEnvironment(as_daemon(project), backend=DOCKER)
        async with here, here.client() as client:
            assert (await client.call("hi")).text == "hi"
    assert len(drawn) == 1
    assert remains(here.stack) == []


async def test_a_step_that_fails_keeps_no_other_from_being_done(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its container is removed all the same, and by an engine that others go on asking."""
    closed = []
    client = engine()._client
    close = client.close
    monkeypatch.setattr(client, "close", lambda: closed.append(close()))

    def fail(daemon: ComposeDaemon) -> None:
        raise EnvironmentFailed("down is not to be had")

    async with OwnEnvironment(as_daemon(project), backend=DOCKER) as here:
        site = here.stack.site
        with monkeypatch.context() as patch:
            patch.setattr(ComposeDaemon, "_down", fail)
            with pytest.raises(EnvironmentFailed, match="down is not to be had"):
                await site.end()
        after = site.program.box.state().status, site.program.state

    assert after == ("removed", "killed by SIGKILL")
    assert closed == []
    assert remains(here.stack) == []


def processes(run_id: str) -> str:
    """The command lines of what carries the id."""
    found = []
    for pid in carriers(run_id):
        try:
            found.append(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return "\n".join(found)


async def test_what_a_sibling_said_is_told_and_kept(project: Path, tmp_path: Path) -> None:
    """Of one that keeps the project from coming up, and at the end of one that came up."""
    change(project, beside={"command": ["sh", "-c", "echo no database url; exit 3"]})
    run = tmp_path / "run"
    async with OwnEnvironment(as_daemon(project), backend=DOCKER, directory=run):
        pass
    kept = (run / "compose.log").read_text()
    assert "beside-1" in kept
    assert "no database url" in kept
    assert "echo is up" in kept

    needs = {"depends_on": {"beside": {"condition": "service_completed_successfully"}}}
    change(project, echo=needs)
    with pytest.raises(EnvironmentFailed, match="docker compose up ended with 1") as caught:
        async with OwnEnvironment(as_daemon(project), backend=DOCKER):
            pass
    assert "no database url" in dict(caught.value.details)["log tail"]
    assert "no database url" in caught.value.logs["compose.log"]


async def test_a_build_that_fails_says_why(project: Path) -> None:
    """In the builder's own words, without its colours."""
    dockerfile = project / "Dockerfile"
    dockerfile.write_text(f"{dockerfile.read_text()}\nRUN echo no such luck && false\n")
    with pytest.raises(EnvironmentFailed, match="docker compose build ended with") as caught:
        async with OwnEnvironment(as_daemon(project), backend=DOCKER):
            pass

    assert "no such luck" in dict(caught.value.details)["it said"]
    assert "\x1b" not in str(caught.value)


async def test_who_is_cancelled_does_not_wait_for_a_build(project: Path) -> None:
    """It is broken off; nothing of it is left, a few seconds later."""
    file = project / "Dockerfile"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], f"RUN echo {secrets.token_hex(4)}; sleep 60", *lines[1:]]))
    stack = stack_of(as_daemon(project), choice=Choice(backend=DOCKER))
    task = asyncio.ensure_future(stack.__aenter__())
    async with asyncio.timeout(30):
        while "build" not in processes(stack.run_id):
            await asyncio.sleep(0.05)
    begun = now()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert now() - begun < 10
    assert remains(stack) == []
