"""
The fixtures. All are synchronous: what they hand out serves tests on any loop, and plain
tests. Each knob is a fixture of its own, so a project can override it anywhere.

What is heavy is imported where it is first needed: pytest loads this file on every run.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from harness.pytest_plugin import marks
from harness.pytest_plugin.options import Settings
from harness.pytest_plugin.state import ASKED, FAILED, LAST_WORDS, PLACE, RUN, SEEN, SETTINGS

if TYPE_CHECKING:
    from toxiproxy import Toxiproxy

    from harness.address import Address
    from harness.client.session import Session
    from harness.daemons.base import Daemon
    from harness.environment.backends import Choice
    from harness.pytest_plugin.environment import TestEnvironment
    from harness.pytest_plugin.house import House

T = TypeVar("T")


@contextmanager
def told() -> Iterator[None]:
    """Our errors tell all that is to be told: a traceback through our fixtures adds nothing."""
    from harness.environment.clean_up import notes_of
    from harness.errors import HarnessError

    try:
        yield
    except HarnessError as error:
        told = "\n".join([f"{type(error).__name__}: {error}", *notes_of(error)])
        raise pytest.fail.Exception(told, pytrace=False) from None


@pytest.fixture(scope="session")
def harness_settings(pytestconfig: pytest.Config) -> Settings:
    """What was set on the command line, in the environment and in the ini file."""
    return pytestconfig.stash[SETTINGS]


@pytest.fixture(scope="session")
def harness_daemon(pytestconfig: pytest.Config) -> Daemon:
    """Whom to test. Override it to return a `harness.daemons.base.Daemon` of your own."""
    from harness.daemons.reference import Reference

    return pytestconfig.stash[ASKED] or Reference()


@pytest.fixture(scope="session")
def harness_proxy(harness_settings: Settings) -> str:
    """
    What stands before it: "embedded", "toxiproxy" (the real one, in a container), or the URL
    of a Toxiproxy that runs already.
    """
    return harness_settings.proxy


@pytest.fixture
def harness_backend(pytestconfig: pytest.Config, harness_daemon: Daemon, harness_proxy: str) -> str:
    """Where it runs that is started here: "local" or "docker"."""
    from harness.pytest_plugin.ground import chosen

    with told():
        return chosen(pytestconfig, harness_daemon, harness_proxy).backend


@pytest.fixture
def harness_choice(harness_backend: str, harness_proxy: str, harness_settings: Settings) -> Choice:
    """Where daemons run and what stands before them, together. Not for use in tests."""
    from harness.environment.backends import Choice
    from harness.errors import InvalidValue

    with told():
        if type(harness_proxy) is not str:
            expected = '"embedded", "toxiproxy" or the URL of a Toxiproxy'
            raise InvalidValue(
                f"the fixture harness_proxy gives {harness_proxy!r}; expected {expected}"
            )
        return Choice(backend=harness_backend, proxy=harness_proxy, path=harness_settings.path)


@pytest.fixture
def harness_seed(request: pytest.FixtureRequest, harness_settings: Settings) -> int:
    """The root seed of this test's draws; in a test marked harness_runs, of this run's."""
    run = request.node.stash.get(RUN, None)
    return harness_settings.seed if run is None else run.seed


@pytest.fixture
def harness_isolation(
    request: pytest.FixtureRequest, harness_settings: Settings, harness_daemon: Daemon
) -> str:
    """
    What this test gets fresh: "proxy", "daemon" or "environment".

    Its marker says, else --harness-isolation, else the cheapest that is sound: a daemon is
    shared where it can be seen afterwards that nothing was left in it, and the test does not
    need to harm it. The runs of one test share it only where it reports on itself.
    """
    from harness.environment.abilities import HARMS_THE_DAEMON
    from harness.pytest_plugin.house import can_be_shared

    marked = marks.isolation(request.node) or harness_settings.isolation
    if marked:
        return marked
    with told():
        shared = can_be_shared(harness_daemon, among_runs=RUN in request.node.stash)
        harms = not set(HARMS_THE_DAEMON).isdisjoint(marks.needs(request.node))
        own = harness_daemon.address is None and harms
        return "proxy" if shared and not own else "daemon"


@pytest.fixture(scope="session")
def harness_house(pytestconfig: pytest.Config, harness_settings: Settings) -> Iterator[House]:
    """What the tests of this process share. Not for use in tests."""
    from harness.pytest_plugin.house import House

    def tell(line: str) -> None:
        # Not now: whoever is interrupted may be writing to the terminal.
        pytestconfig.stash[LAST_WORDS] = line

    seen = pytestconfig.stash.get(SEEN, {})
    with told():
        house = House(harness_settings.runs_dir, tell=tell, seen=seen)
    yield house
    with told():
        house.close()


@pytest.fixture
def harness_environment(
    request: pytest.FixtureRequest,
    harness_house: House,
    harness_daemon: Daemon,
    harness_choice: Choice,
    harness_isolation: str,
    harness_seed: int,
) -> Iterator[TestEnvironment]:
    """
    A daemon behind a proxy, for this test: `client()`, `inject(fault)`, `url`, `effects()`.

    Serves asynchronous tests on any loop, and plain tests (`with env.inject(...)`, `run`).
    """
    from harness.pytest_plugin.place import Place, Wish

    with told():
        place = Place(
            harness_house,
            Wish(
                test=request.node.name,
                daemon=harness_daemon,
                choice=harness_choice,
                isolation=harness_isolation,
                seed=harness_seed,
            ),
            request,
        )
    request.node.stash[PLACE] = place
    try:
        with told():
            environment = place.open()
        yield environment
    finally:
        with told():
            place.close()


@pytest.fixture
def harness_client(harness_environment: TestEnvironment) -> Session:
    """An unopened session through the proxy: `async with harness_client as client:`."""
    return harness_environment.client()


@pytest.fixture
def harness_url(harness_environment: TestEnvironment) -> str:
    """Where a client of your own connects: the proxy's WebSocket address."""
    return harness_environment.url


@pytest.fixture
def harness_run_directory(harness_environment: TestEnvironment) -> Path:
    """Where this test's record and logs are kept."""
    return harness_environment.run_directory


@pytest.fixture
def harness_run(
    request: pytest.FixtureRequest, harness_house: House
) -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """
    Carries out a coroutine for a test that is none: `harness_run(story())`.

    It is given 60 seconds, or what `within_s` says.
    """
    from harness.pytest_plugin.watch import begun_by, shown

    portal = harness_house.portal
    yield partial(portal.run, within_s=60.0)
    left = begun_by(request.node, portal.loop)
    with told():
        portal.cancel(left)
    if left and not request.node.stash.get(FAILED, False):
        names = ", ".join(sorted(map(shown, left)))
        pytest.fail(
            f"the test left tasks on the harness's loop: {names}; they were cancelled",
            pytrace=False,
        )


@pytest.fixture
def harness_toxiproxy(
    request: pytest.FixtureRequest, harness_house: House, harness_proxy: str, harness_seed: int
) -> Iterator[Address]:
    """The host and port of a fresh proxy server that speaks Toxiproxy's API; no proxies on it."""
    portal = harness_house.portal
    with told():
        server = harness_house.fresh_server(harness_proxy, seed=harness_seed)
    try:
        with told():
            portal.run(server.open())
        yield server.address
        trouble = server.trouble
    finally:
        with told():
            portal.run(server.put_away())
    if trouble and not request.node.stash.get(FAILED, False):
        pytest.fail(f"the proxy server {trouble} in the middle of the test, unasked", pytrace=False)


@pytest.fixture
def harness_toxiproxy_python(harness_toxiproxy: Address) -> Iterator[Toxiproxy]:
    """
    A toxiproxy-python object for a fresh proxy server.

    That package keeps host and port for all its objects together: they are set for this
    test and put back after it.
    """
    try:
        from toxiproxy import Toxiproxy
        from toxiproxy.api import APIConsumer
    except ImportError:
        pytest.fail(
            "toxiproxy-python is not installed\n  next  pip install 'ws-harness[toxiproxy]'",
            pytrace=False,
        )
    before = APIConsumer.host, APIConsumer.port
    toxiproxy = Toxiproxy()
    toxiproxy.update_api_consumer(harness_toxiproxy.host, harness_toxiproxy.port)
    yield toxiproxy
    APIConsumer.host, APIConsumer.port = before
