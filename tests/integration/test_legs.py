"""Each leg of the way to a daemon: whether a reset gets over it, as it was tried."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.daemons.reference import Reference
from harness.environment import standing_in
from harness.environment.backends import DOCKER, LOCAL, TOXIPROXY, Choice, stack_of
from harness.environment.legs import Leg, nobody, try_leg
from harness.environment.stack import Stack
from tests.backends import in_containers
from tests.integration.stacks import remains


async def legs(choice: Choice) -> dict[tuple[str, str], Leg]:
    """What was seen of each, by where it begins and ends; nothing is left of it."""
    stack = stack_of(Reference(), choice=choice)
    async with stack:
        found = (await stack.probe()).legs
        assert stack.describe()["path"]["legs"][-1]["begins"] == found[-1].begins
    assert remains(stack) == []
    return {(leg.begins, leg.ends): leg for leg in found}


async def test_between_processes_there_is_nothing() -> None:
    """A reset gets to our proxy's client, and to our proxy."""
    found = await legs(Choice())

    assert list(found) == [("client", "embedded"), ("embedded", "daemon")]
    assert [leg.reset for leg in found.values()] == [True, True]
    assert all(0 < (leg.round_trip_ms or 0) < 1000 for leg in found.values())


@in_containers
@pytest.mark.parametrize(
    ("choice", "resets"),
    [
        (Choice(backend=DOCKER), [True, True]),
        (Choice(backend=DOCKER, path="published"), [True, False]),
        (Choice(backend=DOCKER, proxy=TOXIPROXY, path="bridge"), [True, None, True]),
        (Choice(backend=DOCKER, proxy=TOXIPROXY, path="loopback"), [True, None, False]),
        (Choice(backend=DOCKER, proxy=TOXIPROXY, path="published"), [False, None, False]),
        (Choice(backend=LOCAL, proxy=TOXIPROXY), [True, None, True]),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, list) else None,
)
async def test_a_forwarder_of_ports_is_found_wherever_it_stands(
    choice: Choice, resets: list[bool | None]
) -> None:
    """Before the proxy, or between proxy and daemon; what was not tried says why."""
    found = await legs(choice)

    assert [leg.reset for leg in found.values()] == resets
    untried = [leg.seen for leg in found.values() if leg.reset is None]
    assert all(seen.startswith("not tried: both ") for seen in untried)
    if choice.proxy == TOXIPROXY:
        inside = choice.path == "published"
        last = [("toxiproxy", "daemon"), ("harness", "daemon")]
        behind = last if inside else [("toxiproxy", "tap"), ("tap", "daemon")]
        assert list(found) == [("client", "toxiproxy"), *behind]


@in_containers
async def test_without_our_image_there_is_no_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody's daemon behind our proxy needs none of our images."""
    stack: Stack = stack_of(Reference(), choice=Choice(backend=DOCKER))
    async with stack:
        no_image: Callable[[], str] = lambda: "ws-harness-nothing:1"  # noqa: E731
        monkeypatch.setattr(standing_in, "own_image", no_image)
        leg = (await stack.probe()).legs[-1]

    assert (leg.reset, leg.round_trip_ms) == (None, None)
    assert leg.seen == "not tried: there is no image ws-harness-nothing:1 here"


async def test_what_stands_nowhere_is_not_tried() -> None:
    """Somebody else's daemon."""
    leg = await try_leg("embedded", "daemon", nobody("it is somebody else's"))

    assert str(leg) == "embedded to daemon: not tried: it is somebody else's"
