"""Limits of containers: put on, tightened, put back, seen to be hit, and by whom that is told."""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path

import pytest

from harness.daemons.base import Limits
from harness.environment import container_proxy
from harness.environment.backends import DOCKER
from harness.environment.cgroup import Use, read_use
from harness.errors import CallUnknown, ConnectFailed
from harness.faults.cpu_limit import CpuLimit
from harness.faults.descriptor_limit import DescriptorLimit
from harness.faults.kill import Kill
from harness.faults.memory_limit import MemoryLimit
from harness.faults.restart import Restart
from tests.backends import CHOICES, in_containers
from tests.integration.stacks import Place
from tests.talker import TALKER, talking

pytestmark = in_containers


async def many_calls(here: Place) -> None:
    """So many that who has little CPU time is held back; each may take as long as that needs."""
    async with here.client() as client:
        for _ in range(100):
            await client.call("echo", {"text": "hi"}, timeout_s=20)


async def crowd(here: Place, clients: AsyncExitStack) -> None:
    """More than it has descriptors for."""
    for _ in range(16):
        await clients.enter_async_context(here.client())


async def test_without_descriptors_nobody_gets_in(boxed: Place) -> None:
    """The limit that was hit is named; afterwards there are enough again."""
    async with boxed.inject(DescriptorLimit(descriptors=16)), AsyncExitStack() as clients:
        with pytest.raises((ConnectFailed, TimeoutError)):
            await asyncio.wait_for(crowd(boxed, clients), 1)
        hit = await boxed.stack.site.limits_hit()

    assert [line for line in hit if line.startswith("descriptors")]
    async with boxed.client() as client:
        assert (await client.call("echo", {"text": "hi"})).text == "hi"


async def test_a_cpu_limit_holds_it_back(boxed: Place) -> None:
    """The engine's own figures say so."""
    async with boxed.inject(CpuLimit(cpus=0.02)):
        await many_calls(boxed)
        hit = await boxed.stack.site.limits_hit()

    assert [line for line in hit if line.startswith("cpus: held back")]


async def test_what_was_hit_before_a_mark_is_no_news(boxed: Place) -> None:
    """A daemon that tests share is held back in one; the next is not told so."""
    site = boxed.stack.site
    async with boxed.inject(CpuLimit(cpus=0.02)):
        await many_calls(boxed)
    before = await site.limits_hit()
    mark = await site.mark()

    assert [line for line in before if line.startswith("cpus: held back")]
    assert await site.limits_hit(since=mark) == []


async def test_where_the_kernel_does_not_tell_the_engine_does(
    boxed: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere than on its own machine; nobody waits for it at the start of a test."""
    program = boxed.stack.site.program
    figures = {"pids_stats": {"current": 77}}
    monkeypatch.setattr("harness.environment.boxed.read_use", lambda pid, container_id: None)
    monkeypatch.setattr(type(program.box), "use", lambda box: figures)
    before = await asyncio.to_thread(program.use, quickly=True)
    told = await asyncio.to_thread(program.use)

    assert before.processes < 77
    assert told.processes == 77
    assert await asyncio.to_thread(program.use, quickly=True) == told


async def test_kernel_and_engine_tell_the_same(boxed: Place) -> None:
    """Of a container that rests; of another nothing is told."""
    box = boxed.stack.site.program.box
    pid = box.state().pid
    if (seen := read_use(pid, box.id)) is None:
        pytest.skip("the engine's control groups are not to be seen here")

    told = Use.of_engine(await asyncio.to_thread(box.use))

    assert (seen.processes, seen.memory_refused) == (told.processes, told.memory_refused)
    assert read_use(pid, "0" * 64) is None
    assert read_use(os.getpid(), box.id) is None


async def test_a_proxy_servers_limits_are_told_and_seen_to_be_hit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In environment.json; a proxy that is held back is not taken for a slow daemon."""
    tight = Limits(memory_bytes=256 << 20, cpus=0.02, processes=64, descriptors=512)
    monkeypatch.setattr(container_proxy, "_LIMITS", tight)
    async with Place(tmp_path, choice=CHOICES[DOCKER]) as here:
        assert here.stack.describe()["server"]["limits"] == asdict(tight)
        assert await asyncio.to_thread(here.stack.server.program.box.limits) == tight
        mark = await here.stack.mark()
        await many_calls(here)
        hit = await here.stack.limits_hit(since=mark)
        later = await here.stack.limits_hit(since=await here.stack.mark())

    assert [line for line in hit if re.match(r"cpus: held back in .* \(the proxy server's\)", line)]
    assert later == []


async def test_a_memory_limit_is_put_on_and_taken_off(boxed: Place) -> None:
    """What the engine says of it."""
    box = boxed.stack.site.program.box

    async def most() -> int:
        use = await asyncio.to_thread(box.use)
        return int(use["memory_stats"]["limit"])

    usual = await most()
    async with boxed.inject(MemoryLimit(limit_bytes=128 << 20)):
        assert await most() == 128 << 20
    assert await most() == usual == Limits().memory_bytes


async def both_limits(here: Place) -> tuple[int, int]:
    """Of the container's memory, in bytes, and of its first process's descriptors."""
    box = here.stack.site.program.box
    use = await asyncio.to_thread(box.use)
    code, text = await asyncio.to_thread(box.execute, ["cat", "/proc/1/limits"])
    assert code == 0
    return use["memory_stats"]["limit"], int(str(text).partition("Max open files")[2].split()[0])


async def test_limits_hold_over_a_restart_and_go_one_by_one(boxed: Place) -> None:
    """Also those that are not the container's but its processes'."""
    usual = await both_limits(boxed)
    async with boxed.inject(MemoryLimit(limit_bytes=128 << 20)):
        async with boxed.inject(DescriptorLimit(descriptors=100)), boxed.inject(Restart()):
            assert await both_limits(boxed) == (128 << 20, 100)
        assert await both_limits(boxed) == (128 << 20, usual[1])
    assert await both_limits(boxed) == usual


async def test_a_killed_one_that_is_healed_has_its_usual_limits(boxed: Place) -> None:
    """Although nobody could lift them while it was down."""
    usual = await both_limits(boxed)
    tight = MemoryLimit(limit_bytes=128 << 20), DescriptorLimit(descriptors=100)
    async with boxed.inject(tight[0]), boxed.inject(tight[1]), boxed.inject(Kill()):
        await boxed.heal()
        assert await both_limits(boxed) == usual


async def test_one_killed_for_want_of_memory_is_named(tmp_path: Path) -> None:
    """By the engine's flag, in the record and in the verdict."""
    hungry = TALKER.replace("await connection.send(message)", "bytearray(1 << 30)")
    daemon = talking(hungry, limits=Limits(memory_bytes=96 << 20))
    place = Place(tmp_path, daemon, CHOICES[DOCKER])
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
