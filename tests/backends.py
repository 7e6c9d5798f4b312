"""
Where the tests of daemons run: as processes of this machine, and in containers behind the
real Toxiproxy.

A test that takes the fixture `backend` is carried out on each. Without an engine, or without
the images, the one in containers is skipped, by name; with `--backend docker`, or where
HARNESS_TEST_CONTAINERS is "required", it fails, for whoever asks for it must not be given
something else.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Final, NoReturn

import pytest

from harness.environment import images
from harness.environment.backends import DOCKER, LOCAL, TOXIPROXY, Choice, engine
from harness.errors import EnvironmentFailed
from tests.grounds import stands_on
from tests.integration import inner

__all__ = ["CHOICES", "in_containers", "no_containers"]

_LONGER_S: Final = 180
_REQUIRED: Final = "HARNESS_TEST_CONTAINERS"

CHOICES = {LOCAL: Choice(), DOCKER: Choice(backend=DOCKER, proxy=TOXIPROXY)}
"""On each backend what it is for: containers stand behind the real Toxiproxy."""


@cache
def lacking() -> str:
    """Why nothing can run in containers here; "" where it can."""
    try:
        missing = images.missing(engine())
    except EnvironmentFailed as error:
        return str(error)
    return f"images are missing: {', '.join(missing)}; `make images`" if missing else ""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backend",
        choices=list(CHOICES),
        help="carry out the tests of daemons only there, and fail where that cannot be",
    )


@pytest.fixture(scope="session", params=list(CHOICES))
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend in turn."""
    name: str = request.param
    if name == DOCKER and (why := lacking()):
        no_containers(request.config, why)
    return name


def no_containers(config: pytest.Config, why: str) -> NoReturn:
    """End a test that needs containers: it is skipped, or fails where they are asked for."""
    required = os.environ.get(_REQUIRED) == "required"
    if required or config.getoption("--backend") == DOCKER:
        pytest.fail(f"containers are asked for: {why}", pytrace=False)
    pytest.skip(f"no containers: {why.splitlines()[0]}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if _of(item) == DOCKER:
            # Its environments take ten times as long, on a machine that others use too.
            item.add_marker(pytest.mark.timeout(_LONGER_S))
    asked = config.getoption("--backend")
    if asked is None:
        return
    others = [item for item in items if _of(item) not in (asked, None)]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in others]


def _of(item: pytest.Item) -> str | None:
    callspec = getattr(item, "callspec", None)
    return None if callspec is None else callspec.params.get("backend")


@pytest.fixture(scope="session")
def on_backend(backend: str) -> str:
    """Each backend in turn, for the suites that a test runs in a pytest of its own."""
    return backend


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """The suites of a test run where the test does; those of one that takes no backend, here."""
    choice = CHOICES[_of(item) or LOCAL]
    on = {"HARNESS_BACKEND": choice.backend, "HARNESS_PROXY": choice.proxy}
    in_a_suite = "on_backend" in getattr(item, "fixturenames", ())
    inner.ON = on if in_a_suite else {}
    if in_a_suite:
        stands_on(choice.backend, choice.proxy)


@pytest.fixture(scope="session")
def containers(pytestconfig: pytest.Config) -> None:
    """For tests that are about containers and nothing else."""
    if why := lacking():
        no_containers(pytestconfig, why)


in_containers = pytest.mark.usefixtures("containers")
