"""Containers and networks put away: while others do the same, and while something fails."""

from __future__ import annotations

import asyncio
import os
import queue
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests.exceptions
from docker.models.containers import Container as RealContainer
from docker.models.networks import Network as RealNetwork

from harness.clock import fresh_id
from harness.environment.backends import engine
from harness.environment.containers import Box, BoxState, Engine, Order
from harness.environment.images.own import own_image
from harness.errors import EnvironmentFailed
from tests.backends import in_containers
from tests.integration.networks import a_network

pytestmark = in_containers

BOUND_S = 40


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> queue.Queue[str]:
    """The networks that are tried to be removed, as it happens."""
    tries: queue.Queue[str] = queue.Queue()
    really = RealNetwork.remove

    def remove(network: RealNetwork) -> None:
        tries.put(str(network.name))
        really(network)

    monkeypatch.setattr(RealNetwork, "remove", remove)
    return tries


def on_a_network(name: str, *, holder: str) -> Box:
    """A network of a run, and on it a container of another one."""
    a_network(name)
    command = ["sleep", "60"]
    order = Order(name=name, image=own_image(), run_id=holder, network=name, command=command)
    return engine().run(order)


async def test_a_network_that_somebody_holds_is_waited_for(tries: queue.Queue[str]) -> None:
    """Another cleaner, just then removing what stands on it, for instance."""
    run_id = f"test-held-{fresh_id()}"
    box = await asyncio.to_thread(on_a_network, run_id, holder="somebody")
    try:
        sweeping = asyncio.create_task(asyncio.to_thread(engine().left.sweep, run_id))
        for _ in range(2):
            assert await asyncio.to_thread(tries.get, timeout=5) == run_id
    finally:
        await asyncio.to_thread(box.remove)

    assert await sweeping == [f"network {run_id}"]
    assert engine().left.remains(run_id) == []


def test_what_stands_on_anothers_network_goes_before_it(tries: queue.Queue[str]) -> None:
    """Runs of one session share a network: no one of them can be removed alone."""
    run_id, other = f"test-one-{fresh_id()}", f"test-other-{fresh_id()}"
    on_a_network(run_id, holder=other)

    swept = engine().left.sweep(run_id, other)

    assert sorted(swept) == [f"container {run_id}", f"network {run_id}"]
    assert tries.qsize() == 1
    assert engine().left.remains(run_id, other) == []


def test_one_thing_that_resists_keeps_nothing_else() -> None:
    """It is named with the reason, and all else of the run is gone."""
    run_id, free = f"test-held-{fresh_id()}", f"test-free-{fresh_id()}"
    box = on_a_network(run_id, holder="somebody")
    a_network(free)
    try:
        with pytest.raises(EnvironmentFailed, match="some cannot be removed") as caught:
            engine().left.sweep(run_id, free, held_s=0)
        assert engine().left.remains(run_id, free) == [f"network {run_id}"]
    finally:
        box.remove()
        engine().left.sweep(run_id, free)

    assert f"network {run_id}" in str(caught.value)
    assert "active endpoints" in str(caught.value)


async def test_one_that_is_slow_to_go_keeps_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine did not answer in time for one: the others are gone, and it is named."""
    run_id = f"test-slow-{fresh_id()}"
    on_a_network(run_id, holder=run_id)
    free = f"test-free-{fresh_id()}"
    a_network(free)

    def remove(*_: Any, **__: Any) -> None:
        raise requests.exceptions.ReadTimeout("it took too long")

    with monkeypatch.context() as patch:
        patch.setattr(RealContainer, "remove", remove)
        with pytest.raises(EnvironmentFailed, match="some cannot be removed") as caught:
            engine().left.sweep(run_id, free, held_s=0)

    assert engine().left.remains(free) == []
    assert f"container {run_id}  it took too long" in str(caught.value)
    engine().left.sweep(run_id)


def test_a_cleaner_whose_engine_was_busy_asks_again(tmp_path: Path) -> None:
    """When its harness is gone: what is there of containers does not stay."""
    where = engine().endpoint.url.removeprefix("unix://")
    if not where.startswith("/"):
        pytest.skip("the engine has no socket here")
    run_id, door = f"test-busy-{fresh_id()}", tmp_path / "d.sock"
    on_a_network(run_id, holder=run_id)
    command = [sys.executable, "-m", "harness.environment.reaper", str(os.getpid())]
    variables = {**os.environ, "DOCKER_HOST": f"unix://{door}"}
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(door))
        busy.listen()
        busy.settimeout(BOUND_S)
        cleaner = subprocess.Popen(command, stdin=subprocess.PIPE, env=variables)
        assert cleaner.stdin is not None
        cleaner.stdin.write(f"{run_id} contain\n".encode())
        cleaner.stdin.flush()
        # It knocks, and asks then.
        for _ in range(2):
            busy.accept()[0].close()
        door.unlink()
        door.symlink_to(where)
    cleaner.communicate(timeout=BOUND_S)

    assert engine().left.remains(run_id) == []


@pytest.fixture
def ended() -> Iterator[Box]:
    """A container that was there for a moment."""
    run_id = f"test-ended-{fresh_id()}"
    order = Order(name=run_id, image=own_image(), run_id=run_id, network="none", command=["true"])
    box = engine().run(order)
    box.wait()
    yield box
    box.remove()


@pytest.mark.parametrize(
    ("status", "act"),
    [
        ("running", Box.kill),
        ("paused", Box.unpause),
        ("running", lambda box: box.stop(within_s=1)),
    ],
    ids=["kill", "unpause", "stop"],
)
@pytest.mark.parametrize("removed", [False, True], ids=["ended", "removed"])
def test_what_ends_just_before_it_is_ended_is_no_trouble(
    ended: Box,
    status: str,
    act: Callable[[Box], Any],
    removed: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was running, or frozen, when it was looked at."""
    if removed:
        engine().remove(ended.name)
    with monkeypatch.context() as patch:
        patch.setattr(Box, "state", lambda _: BoxState(status=status))
        act(ended)

    assert not ended.state().alive


def test_why_it_did_not_start_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what goes wrong when it is removed again."""
    run_id = f"test-start-{fresh_id()}"
    order = Order(
        name=run_id, image=own_image(), run_id=run_id, network="none", command=["no-such-program"]
    )

    def remove(_: Engine, name: str) -> None:
        raise EnvironmentFailed(f"container {name} cannot be removed")

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "remove", remove)
        with pytest.raises(EnvironmentFailed, match="cannot be started"):
            engine().run(order)
    engine().left.sweep(run_id)
