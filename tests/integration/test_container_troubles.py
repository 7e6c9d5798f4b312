"""What goes wrong with containers: each a clear error with its remedy, and nothing is left."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from harness.clock import fresh_id
from harness.daemons.base import Container, Daemon
from harness.daemons.container import Containerized
from harness.daemons.reference import IMAGE, Reference
from harness.dialects.plain import Plain
from harness.environment.backends import DOCKER, LOCAL, Choice, OwnEnvironment, engine, stack_of
from harness.environment.containers import Engine, Order
from harness.environment.images.own import own_image
from harness.errors import EnvironmentFailed, HarnessError, ProgramExited, StartTimeout
from tests.backends import in_containers
from tests.integration.networks import a_network
from tests.integration.stacks import remains

pytestmark = in_containers

IN_CONTAINERS = Choice(backend=DOCKER)


async def refused(daemon: Daemon, directory: Path, error: type[HarnessError]) -> str:
    """The text of the error that starting this daemon ends with; nothing is left then."""
    stack = stack_of(daemon, choice=IN_CONTAINERS, directory=directory)
    with pytest.raises(error) as caught:
        async with stack:
            pass
    assert remains(stack) == []
    return str(caught.value)


def shell(script: str, **more: float) -> Containerized:
    """A daemon that is a line of shell in our own image."""
    container = Container(image=IMAGE, port=9000, command=("sh", "-c", script))
    return Containerized(container=container, dialect=Plain(), **more)  # type: ignore[arg-type]


async def test_an_image_that_is_not_here(tmp_path: Path) -> None:
    """Named; nobody tries to fetch what nobody asked for."""
    daemon = Containerized(container=Container(image="ws-harness-nothing:1", port=9000))
    text = await refused(daemon, tmp_path, EnvironmentFailed)

    assert "there is no image ws-harness-nothing:1 here" in text
    assert "harness images" in text


async def test_somebodys_image_that_is_not_here(tmp_path: Path) -> None:
    """We bring none but ours."""
    daemon = Containerized(container=Container(image="nobodys:1", port=9000))
    text = await refused(daemon, tmp_path, EnvironmentFailed)

    assert "there is no image nobodys:1 here" in text
    assert "docker pull nobodys:1, or build it" in text


async def test_a_build_that_fails(tmp_path: Path) -> None:
    """With the end of the builder's log."""
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nRUN echo no such luck && false\n")
    daemon = Containerized(container=Container(build=tmp_path, port=9000))
    text = await refused(daemon, tmp_path / "run", EnvironmentFailed)

    assert "cannot be built" in text
    assert "no such luck" in text
    assert f"docker build -f {tmp_path}/Dockerfile {tmp_path} says the same" in text
    assert "\x1b" not in text


async def test_a_container_that_exits_at_once(tmp_path: Path) -> None:
    """How it ended, and what it said; it is not waited for as one that does not answer."""
    daemon = shell("echo no such luck; exit 3", start_timeout_s=600.0)
    text = await refused(daemon, tmp_path, ProgramExited)

    assert "the daemon exited with 3 before it was ready" in text
    assert "no such luck" in text
    assert f"{tmp_path}/daemon.log" in text


async def test_a_container_that_never_answers(tmp_path: Path) -> None:
    """Which container, what the last try met."""
    text = await refused(shell("echo begun; sleep 99", start_timeout_s=1.0), tmp_path, StartTimeout)

    assert 'daemon "container" was not ready within 1 s' in text
    assert "(container harness-" in text
    assert "last try" in text
    assert "begun" in text


LISTEN = """
import socket, sys, time
kept = [socket.create_server((ip, int(sys.argv[2]))) for ip in sys.argv[1].split(",")]
time.sleep(99)
"""


@pytest.mark.parametrize(
    ("address", "port", "said"),
    [
        ("0.0.0.0", "9001", "on 0.0.0.0:9001, not on port 9000: see daemon.container.port"),
        ("127.0.0.1", "9000", "on 127.0.0.1:9000: nobody outside its container gets there"),
        ("0.0.0.0", "9000", ""),
    ],
)
async def test_a_container_that_listens_elsewhere(
    address: str, port: str, said: str, tmp_path: Path
) -> None:
    """The kernel knows where; of one that is reached and says nothing that is not told."""
    command = ("python3", "-c", LISTEN, address, port)
    container = Container(image=IMAGE, port=9000, command=command)
    daemon = Containerized(container=container, dialect=Plain(), start_timeout_s=2.0)
    text = await refused(daemon, tmp_path, StartTimeout)

    assert ("  listens   " in text) == bool(said)
    assert said in text
    # What is to be done is said there.
    assert ("run the command by hand" in text) == (not said)


async def test_a_command_that_the_image_has_not(tmp_path: Path) -> None:
    """The engine's own words."""
    container = Container(image=IMAGE, port=9000, command=("no-such-program",))
    text = await refused(Containerized(container=container), tmp_path, EnvironmentFailed)

    assert "cannot be started" in text
    assert "no-such-program" in text


@pytest.mark.usefixtures("compose")
async def test_a_service_that_the_project_has_not(tmp_path: Path) -> None:
    """With those that it has."""
    file = tmp_path / "compose.yaml"
    file.write_text(f"services: {{one: {{image: '{IMAGE}'}}}}\n")
    container = Container(compose=file, service="two", port=9000)
    text = await refused(Containerized(container=container), tmp_path / "run", EnvironmentFailed)

    assert 'has no service "two"' in text
    assert "services  one" in text


async def test_one_that_somebody_else_removed_is_missed(tmp_path: Path) -> None:
    """It is told so, and putting away goes on."""
    here = OwnEnvironment(Reference(), backend=DOCKER, directory=tmp_path)
    async with here:
        name = here.stack.site.program.order.name
        await asyncio.to_thread(engine().remove, name)
        async with asyncio.timeout(5):
            while here.stack.site.trouble is None:
                await asyncio.sleep(0.01)
        assert here.stack.site.trouble == "was removed by somebody else"
    assert remains(here.stack) == []


async def test_a_port_that_somebody_has() -> None:
    """The engine's own words say it last; nothing of the container stays."""
    run_id = f"test-port-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as theirs:
        ports = {9000: theirs.getsockname()[:2]}
        order = Order(
            name=run_id,
            image=own_image(),
            run_id=run_id,
            network="bridge",
            ports=ports,
            command=["sleep", "60"],
        )
        with pytest.raises(EnvironmentFailed, match="cannot be started") as caught:
            await asyncio.to_thread(engine().run, order)

    assert "address already in use" in str(caught.value)
    assert "give another port, or let the system choose one" in str(caught.value)
    assert engine().left.remains(run_id) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder that takes little."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.whole_machine
@pytest.mark.parametrize("backend", [LOCAL, DOCKER])
def test_a_disk_that_is_full(small_disk: Path, backend: str) -> None:
    """What was being written, where, and what to do; and no verdict on half a record."""
    before = engine().left.runs(dead=True)
    words = ("demo", "--backend", backend, "--runs", str(small_disk), "--seed", "1")
    done = subprocess.run(
        [sys.executable, "-m", "harness", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 3, done.stdout
    assert "EnvironmentFailed: the history " in done.stderr
    assert f"path  {small_disk}/demo/" in done.stderr
    assert "is there room on that disk" in done.stderr
    assert "Traceback" not in done.stderr
    assert engine().left.runs(dead=True) == before


@pytest.fixture
def taken() -> Iterator[str]:
    """A pool of one subnet, which somebody has."""
    run_id = f"test-taken-{fresh_id()}"
    yield a_network(run_id)
    engine().left.sweep(run_id)


async def test_no_subnet_is_free(
    taken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was tried, what may be in the way, and how to take others."""
    monkeypatch.setenv("HARNESS_DOCKER_SUBNETS", taken)
    text = await refused(Reference(), tmp_path, EnvironmentFailed)

    assert f"no subnet of {taken} is free" in text
    assert "harness clean" in text


@pytest.mark.parametrize("subnets", ["10.0.0.0/33", "8.8.0.0/16", "10.0.0.0/30", "fe80::/64"])
async def test_subnets_that_are_none(
    subnets: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Public ones are not ours to use."""
    monkeypatch.setenv("HARNESS_DOCKER_SUBNETS", subnets)
    text = await refused(Reference(), tmp_path, HarnessError)

    assert "HARNESS_DOCKER_SUBNETS" in text


class Forwarder:
    """The engine's socket by another name, until it is closed: then the engine is gone."""

    def __init__(self, path: Path, engines: str) -> None:
        self.path = path
        self._engines = engines
        self._open: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(self._engines)
                self._open += [near, far]
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._copy, args=ends, daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Everybody loses the engine."""
        self.path.unlink()
        for end in (self._listener, *self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


# Where an engine goes its client library leaves sockets to the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_an_engine_that_dies_in_the_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What needs it fails and says why; the rest is put away."""
    where = engine().endpoint.url.removeprefix("unix://")
    if not where.startswith("/"):
        pytest.skip("the engine has no socket here")
    forwarder = Forwarder(tmp_path / "docker.sock", where)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{forwarder.path}")
    lost = Engine()
    monkeypatch.setattr("harness.environment.backends._engine", lambda lost=lost: lost)
    here = OwnEnvironment(Reference(), backend=DOCKER, directory=tmp_path)
    with pytest.raises(EnvironmentFailed, match="does not answer any more"):
        async with here:
            forwarder.close()
    monkeypatch.undo()
    lost.close()

    assert remains(here.stack) != []
    engine().left.sweep(here.stack.run_id)
    assert remains(here.stack) == []
    # Now, and not in somebody else's test.
    del here, lost
    gc.collect()


def test_a_socket_that_may_not_be_used(tmp_path: Path) -> None:
    """Who may is said."""
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    # What it needs is imported first: nobody else may read this installation.
    code = (
        "import os; from harness.environment.containers import Engine; "
        "os.setgroups([]); os.setgid(65534); os.setuid(65534); Engine()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )

    assert "permission denied" in done.stderr
    assert "join the group that owns it" in done.stderr
