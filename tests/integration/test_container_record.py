"""What the engine tells of a run's containers, and what these say: in the run's record."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from harness.clock import wall_ns
from harness.environment.backends import DOCKER, stack_of
from harness.environment.containers import Box, Engine, Said
from harness.errors import EnvironmentFailed, HarnessError
from harness.faults.descriptor_limit import DescriptorLimit
from harness.faults.disconnect import Disconnect
from harness.faults.restart import Restart
from harness.faults.stop import Stop
from harness.history import Op
from tests.backends import CHOICES, in_containers
from tests.integration.stacks import Place, remains
from tests.talker import said_back, talking

pytestmark = in_containers

CUT_OFF_AND_BACK = ["connect", "disconnect", "connect"]
CLOCK = "wall:container-engine"


def told(here: Place, process: str, f: str | None = None) -> list[Op]:
    """What somebody told so far."""
    ops = [op for op in here.history().ops if op.process == process]
    return [op for op in ops if f in (None, op.f)]


async def told_at_last(here: Place, process: str, f: str, *, times: int = 1) -> list[Op]:
    """The same, waited for."""
    async with asyncio.timeout(5):
        while len(found := told(here, process, f)) < times:
            await asyncio.sleep(0.01)
    return found


def assert_received(ops: list[Op]) -> None:
    """By the engine's clock, each with the interval of ours in which it came."""
    assert {op.clock for op in ops} == {CLOCK}
    intervals = [op.value["received_ns"] for op in ops]
    assert all(first <= last for first, last in intervals)


async def test_the_engine_is_heard_by_its_own_clock(boxed: Place) -> None:
    """Each event has the interval, on our clock, in which it was received."""
    async with boxed.inject(Stop()):
        pass
    await told_at_last(boxed, "engine", "die")

    daemon = boxed.stack.site.program.order.name
    heard = [op for op in told(boxed, "engine") if op.value["container"] == daemon]
    assert [op.f for op in heard][:3] == ["create", "connect", "start"]
    assert_received(heard)
    [died] = [op for op in heard if op.f == "die"]
    assert died.value["exit_code"] == 0


async def test_a_cut_off_network_is_told_by_the_engine(boxed: Place) -> None:
    """What it did for the fault, and for its end."""
    daemon = boxed.stack.site.program.order.name
    async with boxed.inject(Disconnect()):
        pass

    def of_networks() -> list[Op]:
        ops = [op for op in told(boxed, "engine") if op.value["container"] == daemon]
        return [op for op in ops if "network" in op.value]

    async with asyncio.timeout(5):
        # Some engines tell of the same twice.
        while [f for f, _ in groupby(of_networks(), lambda op: op.f)] != CUT_OFF_AND_BACK:
            await asyncio.sleep(0.01)
    assert {op.value["network"] for op in of_networks()} == {boxed.stack.site.network.name}


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that tells of a container's end late: whoever has hung up by then misses it."""
    really = Engine.events

    def events(engine: Engine) -> tuple[Iterator[dict[str, Any]], Callable[[], None]]:
        stream, hang_up = really(engine)
        hung_up = threading.Event()

        def told() -> Iterator[dict[str, Any]]:
            for event in stream:
                # Counted from the event, so that the ends of others' containers do not add up.
                late_s = event["timeNano"] / 1e9 + 0.3 - wall_ns() / 1e9
                if event["Action"] == "destroy" and hung_up.wait(max(0.0, late_s)):
                    return
                yield event

        def hang_up_too() -> None:
            hung_up.set()
            hang_up()

        return told(), hang_up_too

    monkeypatch.setattr(Engine, "events", events)


async def test_its_own_end_is_the_last_that_is_told(late: None, tmp_path: Path) -> None:
    """It is waited for; that of a container that was there for a moment only is another."""
    here = Place(tmp_path, choice=CHOICES[DOCKER])
    async with here, here.inject(DescriptorLimit(descriptors=100)):
        daemon = here.stack.site.program.order.name

    ends = [op.value["container"] for op in told(here, "engine", "destroy")]
    assert ends.count(daemon) == 1
    assert ends[-1] == daemon
    assert len(ends) > 1


async def test_what_it_says_is_on_record_once(tmp_path: Path) -> None:
    """Over a restart too; its log says the same."""
    here = Place(tmp_path, talking(), CHOICES[DOCKER])
    async with here:
        for word in ("one", "two"):
            assert await said_back(here, word) == word
            if word == "one":
                async with here.inject(Restart()):
                    pass
    lines = told(here, "daemon", "log")

    said = ["talker is up", "heard one", "talker is up", "heard two"]
    assert [op.value["line"] for op in lines] == said
    assert_received(lines)
    stamps = [op.time_ns for op in lines]
    assert stamps == sorted(stamps)
    assert (tmp_path / "daemon.log").read_text() == "".join(f"{line}\n" for line in said)


async def test_a_proxy_server_is_heard_too(boxed: Place) -> None:
    """What it wrote since it was started."""
    lines = await told_at_last(boxed, "proxy", "log")

    assert "Starting Toxiproxy" in lines[0].value["line"]
    assert_received(lines)


@pytest.fixture
def breaks_off(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The first stream of a container's output ends after its first piece, as if it were over."""
    broken: list[str] = []
    really = Box.read

    def read(box: Box, **options: Any) -> tuple[Iterator[Said], Callable[[], None]]:
        stream, hang_up = really(box, **options)
        if box.name in broken:
            return stream, hang_up
        broken.append(box.name)
        return iter([next(stream)]), hang_up

    monkeypatch.setattr(Box, "read", read)
    return broken


async def test_a_stream_that_breaks_off_is_taken_up_again(
    breaks_off: list[str], tmp_path: Path
) -> None:
    """Nothing of it is lost, and the container's own end is noticed."""
    here = Place(tmp_path, talking(), CHOICES[DOCKER])
    async with here:
        assert here.stack.site.program.order.name in breaks_off
        assert await said_back(here, "after") == "after"
        await asyncio.to_thread(here.stack.site.program.box.kill)
        async with asyncio.timeout(5):
            while here.stack.site.trouble is None:
                await asyncio.sleep(0.01)
        assert here.stack.site.trouble == "killed by SIGKILL"

    lines = [op.value["line"] for op in told(here, "daemon", "log")]
    assert lines == ["talker is up", "heard after"]


class Full:
    """A recorder that has no room for what this one tells."""

    def __init__(self, process: str, f: str) -> None:
        self._refused = process, f

    def record(self, **op: Any) -> None:
        if (op["process"], op["f"]) == self._refused:
            raise EnvironmentFailed("the history could not be written to: no room")


async def test_what_it_says_and_cannot_be_put_on_record_is_trouble(tmp_path: Path) -> None:
    """Nobody takes what is there for all."""
    recorder = Full("daemon", "log")
    stack = stack_of(talking(), choice=CHOICES[DOCKER], directory=tmp_path, recorder=recorder)
    with suppress(HarnessError):
        async with stack:
            async with asyncio.timeout(5):
                while stack.site.trouble is None:
                    await asyncio.sleep(0.01)

    assert "cannot be seen any more: the history could not be" in stack.site.program.state
    assert remains(stack) == []


async def test_an_event_that_cannot_be_put_on_record_is_an_error(tmp_path: Path) -> None:
    """At the end; all is put away."""
    recorder = Full("engine", "start")
    stack = stack_of(talking(), choice=CHOICES[DOCKER], directory=tmp_path, recorder=recorder)
    with pytest.raises(EnvironmentFailed, match="no room"):
        async with stack:
            pass

    assert remains(stack) == []
