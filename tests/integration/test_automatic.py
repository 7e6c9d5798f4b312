"""Backend auto: in containers where that can be had soon, else here; each with the reason."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import harness
from harness.daemons.base import Container
from harness.daemons.container import Containerized
from harness.daemons.reference import Reference
from harness.daemons.running import Running
from harness.dialects.plain import Plain
from harness.environment import automatic, images
from harness.environment.automatic import AUTO, Chosen, backend_for
from harness.environment.backends import DOCKER, EMBEDDED, LOCAL, TOXIPROXY, engine
from harness.errors import EnvironmentFailed
from tests.backends import in_containers
from tests.integration import inner

BOUND_S = 120
ONLY = "the daemon runs in a container only, although "

ASK = """
import json
from harness.daemons.reference import Reference
from harness.environment.automatic import AUTO, backend_for
from harness.environment.images import own_image
chosen = backend_for(AUTO, Reference(), "toxiproxy")
print(json.dumps([chosen.backend, chosen.why, own_image()]))
"""


@pytest.fixture
def other_code(tmp_path: Path) -> Iterator[Path]:
    """A copy of the project, one line longer: no image of it is here."""
    package = Path(harness.__file__).parent
    changed = shutil.copytree(package, tmp_path / "code" / "harness")
    shutil.copytree(package.parent / "docker", tmp_path / "code" / "docker")
    errors = changed / "errors.py"
    errors.write_text(f"{errors.read_text()}\n# {tmp_path}\n")
    yield tmp_path / "code"
    # The plain name went to that code.
    images.ensure(engine(), pull=False, tell=lambda _: None)


@in_containers
def test_images_that_can_be_had_soon_are_brought(other_code: Path):
    """The code was changed, and nobody thought of its image."""
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=other_code,
        env={**os.environ, "PYTHONPATH": str(other_code)},
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=True,
    )

    backend, why, image = json.loads(done.stdout)
    try:
        assert image != images.own_image()
        assert backend == DOCKER, why
        assert "the images were brought in " in why
        assert engine().images.id(image) is not None
    finally:
        engine().images.remove(image)


@pytest.fixture
def not_brought_yet() -> Iterator[None]:
    """Whether they can be had is found out once in a process."""
    automatic._bring.cache_clear()
    yield
    automatic._bring.cache_clear()


@in_containers
@pytest.mark.usefixtures("not_brought_yet")
def test_what_takes_too_long_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    """It is ended, and the daemon runs here."""
    begun: list[subprocess.Popen[bytes]] = []
    really = subprocess.Popen

    def note(*words, **options) -> subprocess.Popen[bytes]:
        begun.append(really(*words, **options))
        return begun[-1]

    monkeypatch.setattr("harness.environment.automatic._BRING_S", 0.05)
    monkeypatch.setattr("harness.environment.automatic._ours", lambda: ("none:1", "none:2"))
    monkeypatch.setattr("harness.environment.automatic.subprocess.Popen", note)

    chosen = backend_for(AUTO, Reference(), TOXIPROXY)

    why = "images are missing: none:1, none:2; `harness images`"
    assert chosen == Chosen(LOCAL, why)
    assert [process.poll() is None for process in begun] == [False]
    # Nor is it tried again.
    assert backend_for(AUTO, Reference(), TOXIPROXY) == chosen
    assert len(begun) == 1


@in_containers
def test_nobody_fetches_what_is_not_ours():
    """A daemon's own image is its owner's."""
    daemon = Containerized(container=Container(image="none:1", port=1), dialect=Plain())

    chosen = backend_for(AUTO, daemon, EMBEDDED)

    assert chosen == Chosen(DOCKER, f"{ONLY}images are missing: none:1")


def test_without_an_engine_what_would_be_built_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It needs no image of anybody's; an engine it needs all the same."""
    nobody = f"no container engine answers at unix://{tmp_path}/none.sock"

    def no_engine() -> None:
        raise EnvironmentFailed(nobody)

    monkeypatch.setattr("harness.environment.automatic.engine", no_engine)
    daemon = Containerized(container=Container(build=tmp_path, port=1), dialect=Plain())

    assert backend_for(AUTO, daemon, EMBEDDED) == Chosen(DOCKER, f"{ONLY}{nobody}")


def test_one_that_cannot_be_moved_stays():
    """It runs already."""
    chosen = backend_for(AUTO, Running.at("ws://127.0.0.1:1"), EMBEDDED)

    assert chosen == Chosen(LOCAL, "the daemon runs already")


def test_what_runs_in_a_container_only_does_not_go_elsewhere(monkeypatch: pytest.MonkeyPatch):
    """It would fail for a reason that is not the one."""

    def gone() -> None:
        raise EnvironmentFailed("no engine answers")

    monkeypatch.setattr(automatic, "engine", gone)
    daemon = Containerized(container=Container(image="x:1", port=1))
    chosen = backend_for(AUTO, daemon, TOXIPROXY)

    assert chosen.backend == DOCKER
    assert chosen.why == f"{ONLY}no engine answers"


GOES_AWAY = """
import pytest
from harness.environment import automatic
from harness.errors import EnvironmentFailed


def gone():
    raise EnvironmentFailed("the engine went away")


@pytest.mark.parametrize("n", range(4))
def test_it(harness_backend, tell, n):
    tell(backend=harness_backend)
    automatic.engine = gone
"""

NEVER_THERE = """
import os

if "PYTEST_XDIST_WORKER" in os.environ:
    from harness.environment import automatic
    from harness.errors import EnvironmentFailed

    def gone():
        raise EnvironmentFailed("the engine went away")

    automatic.engine = gone
"""


@in_containers
@pytest.mark.parametrize(
    ("conftest", "options"),
    [("", ()), (NEVER_THERE, ("-n", "2"))],
    ids=["alone", "xdist"],
)
def test_it_is_decided_once_a_session(tmp_path: Path, conftest: str, options: tuple[str, ...]):
    """Tests do not change their ground when the engine goes; workers have their controller's."""
    files = {"conftest.py": conftest, "test_it.py": GOES_AWAY}
    variables = {"HARNESS_BACKEND": AUTO}
    run = inner.carried_out(tmp_path, files, *options, variables=variables)

    assert run.code == 0, run.text
    (told,) = [line for line in run.text.splitlines() if ", backend " in line]
    assert "backend docker (engine " in told
    assert list(run.told("backend").values()) == [DOCKER] * 4
