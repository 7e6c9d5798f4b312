"""Limits of processes of this machine: put on, tightened, put back, and seen to be hit."""

from __future__ import annotations

import asyncio
import resource
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.daemons.base import Limits
from harness.daemons.command import Command
from harness.daemons.reference import Reference
from harness.dialects.plain import Plain
from harness.environment.backends import OwnEnvironment
from harness.environment.base import Environment
from harness.environment.limits import put_on
from harness.environment.reaper import carriers
from harness.errors import CallUnknown, ConnectFailed, EnvironmentFailed, HarnessError, InvalidValue
from harness.faults.cpu_limit import CpuLimit
from harness.faults.descriptor_limit import DescriptorLimit
from harness.faults.disconnect import Disconnect
from harness.faults.kill import Kill
from harness.faults.memory_limit import MemoryLimit
from harness.faults.restart import Restart
from tests.integration.stacks import FORKING, Place, Scripted

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="prlimit is Linux's")

MIB = 1 << 20
USUAL = (Limits().descriptors, Limits().memory_bytes)

HUNGRY = """
import asyncio, logging, sys
from websockets.asyncio.server import serve

logging.basicConfig()
kept = []

async def take(connection):
    async for size in connection:
        kept.append(bytearray(int(size)))
        await connection.send("had it")

async def main():
    async with serve(take, "127.0.0.1", int(sys.argv[1])) as server:
        await server.serve_forever()

asyncio.run(main())
"""
"""A daemon that takes as many bytes as it is told, and keeps them."""


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Place]:
    """The reference daemon on a server that logs nothing of what it is refused."""
    async with Place(tmp_path, Reference(transport="websockets")) as made:
        yield made


@pytest.fixture
async def hungry(tmp_path: Path) -> AsyncIterator[Place]:
    """A daemon that takes memory."""
    (tmp_path / "hungry.py").write_text(HUNGRY)
    daemon = Command(
        template=("{python}", "hungry.py", "{port}"), directory=tmp_path, dialect=Plain()
    )
    run = tmp_path / "run"
    run.mkdir()
    async with Place(run, daemon) as made:
        yield made


def limits(here: Environment) -> set[tuple[int, int]]:
    """The soft limits of its processes: descriptors, and bytes of data."""
    pids = carriers(here.stack.run_id, "daemon")
    assert pids
    kinds = (resource.RLIMIT_NOFILE, resource.RLIMIT_DATA)
    return {tuple(resource.prlimit(pid, kind)[0] for kind in kinds) for pid in pids}  # type: ignore[misc]


def data_bytes(here: Environment) -> int:
    """What its process has of data."""
    [pid] = carriers(here.stack.run_id, "daemon")
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmData:")[2].split()[0]) * 1024


async def crowd(here: Environment, clients: AsyncExitStack) -> None:
    """More clients than it has descriptors for, until it has none left."""

    async def come() -> None:
        for _ in range(24):
            await clients.enter_async_context(here.client())

    with pytest.raises((ConnectFailed, TimeoutError)):
        await asyncio.wait_for(come(), 2)
    [pid] = carriers(here.stack.run_id, "daemon")
    async with asyncio.timeout(5):
        # libuv gives one up for a moment, to turn a client away.
        while len(list(Path(f"/proc/{pid}/fd").iterdir())) < 24:
            await asyncio.sleep(0.001)


async def works(here: Environment) -> bool:
    async with here.client() as client:
        return (await client.call("echo", {"text": "hi"})).text == "hi"


async def test_every_process_of_a_daemon_is_limited(tmp_path: Path) -> None:
    """Those that it forked before anybody could limit it, too; environment.json says so."""
    async with Place(tmp_path, Scripted(script=FORKING)) as here:
        assert len(carriers(here.stack.run_id, "daemon")) > 1
        assert limits(here) == {USUAL}
        told = here.stack.describe()

    described = told["daemon"]["limits"]
    assert (described["descriptors"], described["memory_bytes"]) == USUAL
    assert set(described["not_limited"]) == {"cpus", "processes"}
    assert set(told["harness"]) == {"descriptors", "descriptors_limit", "peak_memory_bytes"}


async def test_one_that_raises_its_own_limit_is_limited(tmp_path: Path) -> None:
    """As Go and the JVM do when they start."""
    daemon = Scripted(script="ulimit -S -n $(ulimit -H -n); exec {reference}")
    async with Place(tmp_path, daemon) as here:
        assert limits(here) == {USUAL}


async def test_a_limit_that_this_machine_does_not_give_is_said(tmp_path: Path) -> None:
    """What there is stays, and environment.json has the reason."""
    async with Place(tmp_path, Scripted(script="ulimit -n 200; exec {reference}")) as here:
        assert limits(here) == {(200, USUAL[1])}
        described = here.stack.describe()["daemon"]["limits"]

    assert described["descriptors"] is None
    assert described["not_limited"]["descriptors"] == (
        "the hard limit here is 200, and holds instead of 8192"
    )


async def test_no_limit_is_none(tmp_path: Path) -> None:
    """A lifted one is as high as this machine allows."""
    free = Limits(memory_bytes=None, cpus=None, processes=None, descriptors=None)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with Place(tmp_path, replace(Reference(), limits=free)) as here:
        assert {descriptors for descriptors, _ in limits(here)} == {hard}


async def test_without_descriptors_nobody_gets_in(tmp_path: Path) -> None:
    """The limit that was hit is named, with what its log says; afterwards there are enough."""
    async with Place(tmp_path) as here:
        async with here.inject(DescriptorLimit(descriptors=24)), AsyncExitStack() as clients:
            await crowd(here, clients)
            [hit] = await here.stack.site.limits_hit()

        assert hit.startswith("descriptors: 24 of 24 open in process ")
        assert hit.endswith(', under a fault; its log says "Too many open files"')
        assert await works(here)


async def test_a_limit_that_was_hit_is_known_when_it_is_back(here: Place) -> None:
    """Although this daemon's log is silent about it; after it has ended, too."""
    async with AsyncExitStack() as clients:
        async with here.inject(DescriptorLimit(descriptors=24)):
            await crowd(here, clients)
        hit = await here.stack.site.limits_hit()

    assert [line[:27] for line in hit] == ["descriptors: 24 of 24 open "]
    await here.stack.site.end()
    assert await here.stack.site.limits_hit() == hit


@pytest.mark.parametrize("end", [Kill(), Restart()], ids=repr)
async def test_a_limit_that_was_hit_is_known_when_its_process_is_gone(
    here: Place, end: Any
) -> None:
    """Whoever ends it looks first."""
    async with here.inject(DescriptorLimit(descriptors=24)), AsyncExitStack() as clients:
        await crowd(here, clients)
        async with here.inject(end):
            hit = await here.stack.site.limits_hit()

    assert [line[:27] for line in hit] == ["descriptors: 24 of 24 open "]


async def test_a_daemon_that_is_well_has_hit_nothing(here: Place) -> None:
    """Neither while it runs nor afterwards."""
    assert await works(here)
    assert await here.stack.site.limits_hit() == []
    await here.stack.site.end()
    assert await here.stack.site.limits_hit() == []


async def test_a_daemon_that_never_was_has_hit_nothing(tmp_path: Path) -> None:
    """Where nothing was started there is nothing to ask."""
    place = Place(tmp_path)
    assert await place.stack.site.limits_hit() == []
    place.writer.close()


async def test_without_memory_it_fails_and_says_so(hungry: Place) -> None:
    """What it can have it gets; more is refused; afterwards there is enough again."""
    async with hungry.inject(MemoryLimit(limit_bytes=data_bytes(hungry) + 64 * MIB)):
        async with hungry.client() as client:
            assert (await client.call(str(MIB))).text == "had it"
            with pytest.raises(CallUnknown):
                await client.call(str(128 * MIB))
        async with asyncio.timeout(10):
            # The client knows it a moment before the log has it.
            while not (hit := await hungry.stack.site.limits_hit()):
                await asyncio.sleep(0.01)

    assert hit == ['memory: its log says "MemoryError"']
    async with hungry.client() as client:
        assert (await client.call(str(128 * MIB), timeout_s=20)).text == "had it"


async def test_memory_that_is_nearly_used_up_is_likely_why(hungry: Place) -> None:
    """The kernel tells nobody what it refused, so no more than that is said."""
    async with hungry.inject(MemoryLimit(limit_bytes=data_bytes(hungry) + 64 * MIB)):
        async with hungry.client() as client:
            await client.call(str(62 * MIB), timeout_s=20)
        [hit] = await hungry.stack.site.limits_hit()

    assert hit.startswith("memory: ")
    assert hit.endswith("so more was likely refused, under a fault")


async def test_two_limits_are_lifted_one_by_one(here: Place) -> None:
    """The one that is still in place holds; of two alike the last one does."""
    async with here.inject(MemoryLimit(limit_bytes=500 * MIB)):
        async with here.inject(DescriptorLimit(descriptors=100)):
            async with here.inject(DescriptorLimit(descriptors=90)):
                assert limits(here) == {(90, 500 * MIB)}
            assert limits(here) == {(100, 500 * MIB)}
        assert limits(here) == {(USUAL[0], 500 * MIB)}
    assert limits(here) == {USUAL}


async def test_a_daemon_that_is_started_anew_is_still_limited(here: Place) -> None:
    """The fault is in place, whichever process it is."""
    async with here.inject(DescriptorLimit(descriptors=100)):
        async with here.inject(Restart()):
            assert limits(here) == {(100, USUAL[1])}
        assert await works(here)
    assert limits(here) == {USUAL}


async def test_a_failing_test_leaves_its_daemon_as_it_was(here: Place) -> None:
    """Whatever is raised where the limit is in place."""
    with pytest.raises(ZeroDivisionError):
        async with here.inject(DescriptorLimit(descriptors=100)):
            raise ZeroDivisionError
    assert limits(here) == {USUAL}


async def test_a_healed_daemon_has_its_usual_limits(here: Place) -> None:
    """Also one that was killed meanwhile; the fault is no more in place afterwards."""
    async with here.inject(MemoryLimit(limit_bytes=500 * MIB)), here.inject(Kill()):
        await here.heal()
        assert limits(here) == {USUAL}
    assert limits(here) == {USUAL}


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (DescriptorLimit(descriptors=8192), "descriptors  8192 is not below 8192"),
        (MemoryLimit(limit_bytes=3 << 30), "memory_bytes  3.22123e+09 is not below"),
    ],
    ids=repr,
)
async def test_a_limit_that_limits_nothing_is_refused(here: Place, fault: Any, words: str) -> None:
    """It would be a fault that is none, and the test would pass for nothing."""
    with pytest.raises(InvalidValue, match="would limit nothing") as caught:
        async with here.inject(fault):
            pass

    assert words in str(caught.value)
    assert limits(here) == {USUAL}


async def test_a_limit_that_cannot_be_put_on_is_no_fault_in_place(tmp_path: Path) -> None:
    """It is refused with the reason, and nothing is left of it."""
    free = replace(Reference(), limits=Limits(descriptors=None))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with Place(tmp_path, free) as here:
        with pytest.raises(EnvironmentFailed, match="cannot be limited so") as caught:
            async with here.inject(DescriptorLimit(descriptors=hard + 1)):
                pass

        assert f"the hard limit here is {hard}" in str(caught.value)
        assert limits(here) == {(hard, USUAL[1])}


@pytest.mark.parametrize("fault", [CpuLimit(cpus=0.5), Disconnect()], ids=repr)
async def test_what_needs_a_container_is_refused(here: Place, fault: Any) -> None:
    """With the backend that has one."""
    with pytest.raises(InvalidValue, match="cannot be done here") as caught:
        here.inject(fault)

    assert "the backend docker has" in str(caught.value)


async def test_a_process_that_ended_is_not_limited_and_no_error() -> None:
    """It may end while it is looked at."""
    ended = await asyncio.create_subprocess_exec("true")
    await ended.wait()

    assert put_on([ended.pid], Limits()) == {}


@pytest.fixture
def few(here: Place) -> Any:
    """Lets this process have hardly more descriptors than it uses."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = sum(1 for _ in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("shared", [True, False])
async def test_a_harness_that_is_full_says_so_first(here: Place, few: None, shared: bool) -> None:
    """Before anything is begun, on a daemon that runs as on a new one."""
    full = Environment(here.stack, name="second") if shared else OwnEnvironment(Reference())
    with pytest.raises(HarnessError, match=r"the harness has \d+ of \d+ descriptors open") as told:
        async with full:
            pass

    assert isinstance(told.value, EnvironmentFailed)
    assert "ulimit -n" in str(told.value)
    # What describes it is no place to complain.
    assert here.stack.describe()["harness"]["descriptors"] > 0
