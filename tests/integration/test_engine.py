"""Which engine is asked, by all of us the same; and Testcontainers, which has ways of its own."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import docker
import pytest

from harness.clock import fresh_id, now
from harness.environment.containers import Engine
from harness.environment.images.own import own_image
from tests.backends import in_containers

BOUND_S = 60

ASKED = """
import gc
from harness.environment.containers import Engine
from harness.errors import EnvironmentFailed
try:
    engine = Engine()
except EnvironmentFailed as error:
    print(error.headline)
else:
    print(engine.endpoint)
    engine.close()
gc.collect()
"""

# As many containers at once as there are names; then what they, and Ryuk, look like.
MADE = """
import json, os, sys
from concurrent.futures import ThreadPoolExecutor
from testcontainers.core.config import testcontainers_config as config
from harness.environment.containers import Engine, Order

image, run_id, ryuk, *names = sys.argv[1:]
if ryuk:
    config.ryuk_image = ryuk
before = config.ryuk_disabled
engine = Engine()

def make(name):
    order = Order(name=name, image=image, run_id=run_id, network="host", command=["sleep", "60"])
    return engine.run(order)

try:
    with ThreadPoolExecutor(len(names)) as pool:
        made = list(pool.map(make, names))
    # Others make and remove containers meanwhile.
    listed = engine._client.containers.list(ignore_removed=True)
    cleaners = [c.name for c in listed if "ryuk" in c.name]
    for box in made:
        box.remove()
finally:
    engine.left.sweep(run_id)
told = {"before": before, "after": config.ryuk_disabled, "ryuk": cleaners}
print(json.dumps({**told, "DOCKER_HOST": os.environ.get("DOCKER_HOST")}))
engine.close()
"""


def carried_out(script: str, *words: str, **variables: str | None) -> str:
    """What a process of its own says, with these variables; None: without that one."""
    ours = {**os.environ, **variables}
    done = subprocess.run(
        [sys.executable, "-W", "always::ResourceWarning", "-c", script, *words],
        env={name: value for name, value in ours.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "ResourceWarning" not in done.stderr
    return done.stdout.strip()


def made(*names: str, image: str = "", ryuk: str = "", **variables: str | None) -> dict:
    run_id = f"test-{fresh_id()}"
    words = (image or own_image(), run_id, ryuk, *(f"{run_id}-{name}" for name in names))
    return json.loads(carried_out(MADE, *words, **variables))


@dataclass
class Door:
    """A socket before the engine's own, with a Docker context that points at it."""

    path: Path
    behind: str
    folder: Path
    came: list[bytes] = field(default_factory=list)

    @property
    def variables(self) -> dict[str, str | None]:
        return {"DOCKER_HOST": None, "DOCKER_CONTEXT": None, "DOCKER_CONFIG": str(self.folder)}

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                visitor, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(visitor,), daemon=True).start()

    def _pass_on(self, visitor: socket.socket) -> None:
        with visitor, socket.socket(socket.AF_UNIX) as engine:
            engine.connect(self.behind.removeprefix("unix://"))
            back = threading.Thread(target=pump, args=(engine, visitor, []), daemon=True)
            back.start()
            pump(visitor, engine, self.came)
            back.join()


def pump(source: socket.socket, sink: socket.socket, came: list[bytes]) -> None:
    try:
        while data := source.recv(1 << 16):
            came.append(data)
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return


def context(folder: Path, socket_path: Path) -> Path:
    """A folder of Docker's configuration whose context in use is at that socket."""
    name = "elsewhere"
    meta = folder / "contexts/meta" / hashlib.sha256(name.encode()).hexdigest()
    meta.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"currentContext": name}))
    there = {"Host": f"unix://{socket_path}", "SkipTLSVerify": False}
    told = {"Name": name, "Metadata": {}, "Endpoints": {"docker": there}}
    (meta / "meta.json").write_text(json.dumps(told))
    return folder


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    """The engine, reached by a Docker context."""
    engine = Engine()
    engine.close()
    where = engine.endpoint.url
    if not where.startswith("unix://"):
        pytest.skip("no containers: the engine is at no socket of this machine")
    path = tmp_path / "door.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        made = Door(path, where, context(tmp_path / "docker", path))
        thread = threading.Thread(target=made.serve, args=(listener,), daemon=True)
        thread.start()
        yield made
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@in_containers
def test_an_engine_is_found_by_the_context_in_use(door: Door):
    """As Docker's own command finds it: rootless, colima, Docker Desktop."""
    assert carried_out(ASKED, **door.variables) == f"unix://{door.path} (context elsewhere)"
    assert door.came != []


@in_containers
def test_docker_host_goes_before_the_context(door: Door):
    """Nobody comes to the door."""
    told = carried_out(ASKED, **{**door.variables, "DOCKER_HOST": door.behind})

    assert told == door.behind
    assert door.came == []


def test_a_context_at_which_nobody_listens(tmp_path: Path):
    """It is told which, fast, and no socket is left to the collector."""
    folder, nobody = tmp_path / "docker", tmp_path / "nobody.sock"
    context(folder, nobody)
    began = now()
    told = carried_out(ASKED, DOCKER_HOST=None, DOCKER_CONTEXT=None, DOCKER_CONFIG=str(folder))

    where = f"unix://{nobody} (context elsewhere)"
    assert told == f"no container engine answers at {where}: there is no such socket"
    # Most of it is Python's start and the packages.
    assert now() - began < 5


def test_a_context_that_cannot_be_read(tmp_path: Path):
    """It is an engine that cannot be asked, no traceback."""
    folder = context(tmp_path / "docker", tmp_path / "nobody.sock")
    next(folder.rglob("meta.json")).write_text("{")

    told = carried_out(ASKED, DOCKER_HOST=None, DOCKER_CONTEXT=None, DOCKER_CONFIG=str(folder))

    assert told.startswith("where the container engine is cannot be read: ")
    assert "context elsewhere" in told


@in_containers
def test_testcontainers_is_given_the_same_engine(door: Door, tmp_path: Path):
    """Its properties name another; and nobody's DOCKER_HOST is changed by us."""
    (tmp_path / ".testcontainers.properties").write_text("tc.host=tcp://127.0.0.1:1\n")

    told = made("one", HOME=str(tmp_path), **door.variables)

    assert any(b"/containers/create" in data for data in door.came)
    assert told["DOCKER_HOST"] is None


@in_containers
def test_a_prefix_for_registries_is_not_put_before_an_image_that_is_here():
    """Companies with mirrors set it for all."""
    assert made("one", TESTCONTAINERS_HUB_IMAGE_NAME_PREFIX="mirror.invalid/")["ryuk"] == []


@in_containers
@pytest.mark.parametrize("disabled", ["false", "true"])
def test_the_cleaning_of_others_is_not_switched_off(disabled: str):
    """Where its image is not here we do without it; whoever else is in this process may not."""
    told = made("one", ryuk="nobody/ryuk:0", TESTCONTAINERS_RYUK_DISABLED=disabled)

    assert told["before"] == told["after"] == (disabled == "true")
    assert told["ryuk"] == []


@pytest.fixture
def ryuk(tmp_path: Path) -> Iterator[str]:
    """An image that listens where Ryuk does."""
    (tmp_path / "Dockerfile").write_text(
        f'FROM {own_image()}\nENTRYPOINT ["python3", "-m", "http.server", "8080"]\n'
    )
    engine, name = Engine(), f"ws-harness-test-{fresh_id()}:ryuk"
    engine.images.build(str(tmp_path), tag=name, arguments={})
    yield name
    client = docker.from_env()
    for left in client.containers.list(all=True, filters={"ancestor": name}, ignore_removed=True):
        left.remove(force=True)
    client.close()
    engine.images.remove(name)
    engine.close()


@in_containers
def test_ryuk_is_made_once_where_its_image_is_here(ryuk: str):
    """By whichever of those that start at once comes first."""
    told = made("one", "two", "three", ryuk=ryuk)

    assert len(told["ryuk"]) == 1
    assert not told["after"]
