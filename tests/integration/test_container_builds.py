"""A daemon's image that is being built from a Dockerfile, and is not wanted any more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from harness.clock import fresh_id
from harness.daemons.base import Container
from harness.daemons.container import Containerized
from harness.dialects.plain import Plain
from harness.environment.backends import DOCKER, Choice, stack_of
from harness.environment.images.own import own_image
from harness.environment.reaper import carriers
from harness.environment.stack import Stack
from tests.backends import in_containers
from tests.integration.stacks import remains

# A build that is waited for does not end within it.
pytestmark = [in_containers, pytest.mark.timeout(120)]

BOUND_S = 30


class Slow:
    """A Dockerfile that takes ten minutes, and what the engine has of its building."""

    def __init__(self, folder: Path, client: docker.DockerClient) -> None:
        self.mark = fresh_id()
        self._folder = folder
        self._client = client
        steps = f"RUN echo {self.mark}; sleep 600\n"
        (folder / "Dockerfile").write_text(f"FROM {own_image()}\n{steps}")

    def stack(self) -> Stack:
        """An environment whose daemon is to be built from it."""
        container = Container(build=self._folder, port=9000)
        daemon = Containerized(container=container, dialect=Plain())
        return stack_of(daemon, choice=Choice(backend=DOCKER))

    @property
    def at_work(self) -> bool:
        """Whether its step is being carried out."""
        commands = [each["Command"] for each in self._client.api.containers()]
        return any(self.mark in command for command in commands)


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Slow]:
    client = docker.from_env()
    yield Slow(tmp_path, client)
    client.close()


async def until(slow: Slow, *, at_work: bool) -> None:
    async with asyncio.timeout(BOUND_S):
        while await asyncio.to_thread(lambda: slow.at_work) != at_work:
            await asyncio.sleep(0.05)


async def begun(stack: Stack) -> None:
    await stack.__aenter__()


async def test_who_is_cancelled_does_not_wait_for_a_build(slow: Slow) -> None:
    """The engine ends it, too, and nothing is left."""
    stack = slow.stack()
    starting = asyncio.create_task(begun(stack))
    await until(slow, at_work=True)

    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting

    await until(slow, at_work=False)
    assert remains(stack) == []


async def test_who_waits_for_anothers_build_is_cancelled_alone(slow: Slow) -> None:
    """That one goes on."""
    first, second = slow.stack(), slow.stack()
    building = asyncio.create_task(begun(first))
    await until(slow, at_work=True)
    waiting = asyncio.create_task(begun(second))
    # Its proxy is there: the image was asked for at the same time.
    async with asyncio.timeout(BOUND_S):
        while not carriers(second.run_id):
            await asyncio.sleep(0.05)

    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert slow.at_work
    assert remains(second) == []
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building
    await until(slow, at_work=False)
    assert remains(first) == []
