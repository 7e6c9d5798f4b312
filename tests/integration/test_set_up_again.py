"""Set-up that fails for a foreign reason is made again, counted and told; nothing else is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import docker.errors
import pytest
import requests.exceptions
from docker.models.containers import Container as Wrapped
from docker.models.networks import NetworkCollection

from harness.daemons.base import Container
from harness.daemons.container import Containerized
from harness.daemons.reference import IMAGE, Reference
from harness.dialects.plain import Plain
from harness.environment import again
from harness.environment.backends import DOCKER, TOXIPROXY, Choice, engine, stack_of
from harness.environment.container_proxy import ContainerProxy
from harness.environment.containers import Engine, Order
from harness.environment.containers.left import labels_of
from harness.errors import EnvironmentFailed, ProgramExited, TransientFailure
from tests.backends import in_containers
from tests.integration.inner import carried_out
from tests.integration.stacks import remains

pytestmark = in_containers

CHOICE = Choice(backend=DOCKER, proxy=TOXIPROXY, tap=False)


@pytest.fixture(autouse=True)
def told() -> Iterator[list[str]]:
    """What was made again on the engine of this process, in this test."""
    mine = engine().again.told
    before = list(mine)
    mine.clear()
    yield mine
    mine[:] = before


def ends_at_once(monkeypatch: pytest.MonkeyPatch, *, times: int) -> None:
    """The first containers of Toxiproxy are killed before they answer."""
    really = ContainerProxy._begin
    killed: list[str] = []

    def begin(server: ContainerProxy, order: Order) -> None:
        really(server, order)
        if len(killed) < times:
            server.program.box.kill()
            killed.append(order.name)

    monkeypatch.setattr(ContainerProxy, "_begin", begin)


async def test_a_toxiproxy_that_ends_is_started_again(
    monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    """It is ours, and known to work; environment.json says that it took two."""
    ends_at_once(monkeypatch, times=1)
    stack = stack_of(Reference(), choice=CHOICE)
    async with stack:
        assert await stack.control.version() == "2.12.0"
        described = stack.describe()

    assert remains(stack) == []
    [line] = told
    assert line.startswith("the real Toxiproxy: attempt 1 of 3 failed, again in ")
    assert described["server"]["set_up_again"] == [line]


async def test_one_that_always_ends_is_given_up(
    monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    """After three attempts, and the error says so; nothing is left."""
    ends_at_once(monkeypatch, times=99)
    stack = stack_of(Reference(), choice=CHOICE)
    with pytest.raises(ProgramExited, match=r"before it was ready \(3 attempts\)"):
        async with stack:
            pass

    assert remains(stack) == []
    assert len(told) == 2


async def test_a_daemon_that_ends_is_not_started_again(told: list[str]) -> None:
    """That it does may be what is looked for."""
    container = Container(image=IMAGE, port=9000, command=("sh", "-c", "echo no; exit 3"))
    daemon = Containerized(container=container, dialect=Plain())
    with pytest.raises(ProgramExited, match="exited with 3 before it was ready\n"):
        async with stack_of(daemon, choice=CHOICE):
            pass

    assert told == []


class Fails:
    """A call to the engine that fails so often, and then is carried out."""

    def __init__(self, really: Any, error: Exception, *, times: int, made: bool = False) -> None:
        self.calls = 0
        self._really, self._error, self._times, self._made = really, error, times, made

    def __get__(self, instance: Any, owner: type) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls > self._times:
                return self._really(instance, *args, **options)
            if self._made:
                self._really(instance, *args, **options)
            raise self._error

        return call


def busy(text: str) -> docker.errors.APIError:
    """What an engine says."""
    response = requests.Response()
    response.status_code = 500
    return docker.errors.APIError("500 Server Error", response, text)


@pytest.mark.parametrize("made", [False, True], ids=["not-made", "made-all-the-same"])
async def test_a_network_whose_making_took_too_long_is_made_again(
    made: bool, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    """An engine that did not answer may have made it."""
    late = requests.exceptions.ReadTimeout("too late")
    fails = Fails(NetworkCollection.create, late, times=1, made=made)
    monkeypatch.setattr(NetworkCollection, "create", fails)
    stack = stack_of(Reference(), choice=CHOICE)
    async with stack:
        pass

    assert remains(stack) == []
    assert len(told) == 1
    assert "did not answer within 30 s" in told[0]


async def test_a_network_that_is_made_too_late_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Although nobody ever said that it was there."""
    monkeypatch.setattr(Engine, "_make_network", made_late)
    stack = stack_of(Reference(), choice=CHOICE)
    with pytest.raises(TransientFailure, match=r"did not answer \(3 attempts\)"):
        async with stack:
            pass

    assert remains(stack) == []


def made_late(self: Engine, name: str, *, run_id: str, subnet: str, gateway: str) -> bool:
    """The engine makes it, and says so too late."""
    with suppress(docker.errors.APIError):  # The second time it is there already.
        self._client.api.create_network(name, labels=labels_of(run_id), check_duplicate=True)
    raise TransientFailure("the engine did not answer")


async def test_a_container_for_which_the_engine_was_busy_is_made_again(
    monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    """In the engine's words for it."""
    error = busy("iptables: Resource temporarily unavailable")
    monkeypatch.setattr(Wrapped, "start", Fails(Wrapped.start, error, times=1))
    stack = stack_of(Reference(), choice=CHOICE)
    async with stack:
        pass

    assert len(told) == 1
    assert "Resource temporarily unavailable" in told[0]


async def test_what_the_engine_refuses_for_good_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    """No second attempt mends it."""
    fails = Fails(Wrapped.start, busy("no space left on device"), times=9)
    monkeypatch.setattr(Wrapped, "start", fails)
    with pytest.raises(EnvironmentFailed, match="no space left") as caught:
        async with stack_of(Reference(), choice=CHOICE):
            pass

    assert not isinstance(caught.value, TransientFailure)
    assert told == []


def test_one_that_never_answers_is_not_waited_for_three_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No attempt begins later than a bound after the first."""
    clock = iter(range(0, 1000, 40))
    monkeypatch.setattr(again, "now", lambda: float(next(clock)))
    attempts = []

    def work() -> None:
        attempts.append(1)
        raise TransientFailure("it does not answer")

    with pytest.raises(TransientFailure, match=r"it does not answer \(2 attempts\)"):
        again.Again(first_wait_s=0.001, within_s=45).attempt("it", work, passes=lambda _: True)

    assert len(attempts) == 2


SESSION = """
    from harness.environment.container_proxy import ContainerProxy

    really, killed = ContainerProxy._begin, []

    def begin(server, order):
        really(server, order)
        if not killed:
            server.program.box.kill()
            killed.append(1)

    ContainerProxy._begin = begin
"""


def test_a_session_tells_what_was_made_again(tmp_path: Path) -> None:
    """At its end, in the properties of its tests, and in the summary of a CI job."""
    page = tmp_path / "summary.md"
    variables = {
        "HARNESS_BACKEND": DOCKER,
        "HARNESS_PROXY": TOXIPROXY,
        "GITHUB_STEP_SUMMARY": str(page),
    }
    suite = "async def test_it(harness_environment): pass"
    run = carried_out(tmp_path, {"conftest.py": SESSION, "test_it.py": suite}, variables=variables)

    assert run.ends() == {"test_it": ["passed"]}, run.text
    _, told = run.text.split("harness set-up, tried again")
    assert "the real Toxiproxy: attempt 1 of 3 failed" in told
    assert "- set up again: the real Toxiproxy: attempt 1 of 3 failed" in page.read_text()
    assert 'name="harness_set_up_again"' in (tmp_path / "report.xml").read_text()
