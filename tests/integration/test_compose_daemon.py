"""A daemon that is a service of somebody's Compose project: what is theirs is left alone."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from harness.daemons.base import Daemon
from harness.environment import compose_daemon
from harness.environment.backends import DOCKER, Choice, OwnEnvironment, engine, stack_of
from harness.environment.compose_daemon import ComposeDaemon
from harness.environment.images.own import own_image
from harness.environment.owner import own_name
from harness.environment.reaper import carriers
from harness.errors import EnvironmentFailed
from harness.faults.stop import Stop
from tests.backends import in_containers
from tests.integration.programs import docker
from tests.integration.stacks import remains
from tests.projects import as_daemon, change
from tests.talker import TALKER, said_back

pytestmark = [in_containers, pytest.mark.usefixtures("compose"), pytest.mark.timeout(180)]


@pytest.fixture
def theirs() -> Iterator[str]:
    """The name of a volume with a file in it, and of a network: somebody has them."""
    name = f"theirs-{secrets.token_hex(4)}"
    mine = ("-v", f"{name}:/kept", "--user", "0", own_image(), "touch", "/kept/mine")
    docker("run", "--rm", *mine)
    docker("network", "create", name)
    yield name
    docker("network", "rm", name)
    docker("volume", "rm", name)


def files_in(volume: str) -> list[str]:
    """What is in a volume."""
    return docker("run", "--rm", "-v", f"{volume}:/kept", own_image(), "ls", "/kept").split()


@asynccontextmanager
async def two_at_once(daemon: Daemon) -> AsyncIterator[tuple[OwnEnvironment, OwnEnvironment]]:
    """Two environments of it, side by side: each answers, and nothing is left of either."""
    async with (
        OwnEnvironment(daemon, backend=DOCKER) as one,
        OwnEnvironment(daemon, backend=DOCKER) as other,
    ):
        for here in (one, other):
            assert await said_back(here, "hi") == "hi"
        yield one, other
    assert remains(one.stack) + remains(other.stack) == []


async def test_a_compose_project_is_brought_up_and_down(project: Path) -> None:
    """Twice at once: what it would publish is not, and its volumes go with it."""
    async with two_at_once(as_daemon(project)) as (one, other):
        found = engine().left.remains(one.stack.run_id)
        assert len([name for name in found if name.startswith("container")]) == 2
        async with one.inject(Stop()):
            pass
        assert await said_back(one, "back") == "back"
    # Not by somebody else.
    assert other.stack.site.program.state == "killed by SIGKILL"


async def test_what_is_built_is_as_the_source_is(project: Path) -> None:
    """A change is never missed; without one no other image is made."""
    daemon, ids, answers = as_daemon(project), [], []
    for says in ("message", "message", "'new'"):
        (project / "server.py").write_text(TALKER.replace("send(message)", f"send({says})"))
        async with OwnEnvironment(daemon, backend=DOCKER) as here:
            answers.append(await said_back(here, "hi"))
            ids.append(here.stack.site.describe()["image_id"])

    assert answers == ["hi", "hi", "new"]
    assert ids[0] == ids[1] != ids[2]
    # It lost its name to the newer one.
    engine().images.remove(ids[0])


async def test_what_has_a_name_of_its_own_is_had_twice(project: Path, theirs: str) -> None:
    """Each environment has its own; the user's is not written, and what is external stays."""
    touch = {"command": ["sh", "-c", "touch /kept/written && exec sleep 1000"]}
    change(
        project,
        echo={"container_name": f"{theirs}-echo", "networks": ["default", "shared"]},
        beside=touch | {"container_name": f"{theirs}-beside", "user": "0"},
        volumes={"kept": {"name": theirs}},
        networks={
            "default": {"name": f"{theirs}-net"},
            "shared": {"name": theirs, "external": True},
        },
    )
    async with two_at_once(as_daemon(project)) as both:
        for here in both:
            run_id = here.stack.run_id
            there = engine().left.remains(run_id)
            # Each carries who made it, and no name that the user chose.
            owned = [name for of, name in engine().left.owned(own_name()) if of == run_id]
            assert sorted(owned) == sorted(there)
            assert [name for name in there if theirs in name] == []
            assert len(there) == 5
            assert theirs in here.stack.site.describe()["project"]["networks"]

    assert files_in(theirs) == ["mine"]


@pytest.mark.parametrize("mode", ["host", "none", "service:beside"])
async def test_a_service_without_a_network_of_its_own_is_refused(
    project: Path, mode: str, tmp_path: Path
) -> None:
    """By name, with what to do; nothing is begun."""
    change(project, echo={"network_mode": mode, "ports": []})
    stack = stack_of(as_daemon(project), choice=Choice(backend=DOCKER), directory=tmp_path / "run")
    with pytest.raises(EnvironmentFailed, match='the service "echo" has no network') as caught:
        async with stack:
            pass

    assert f"network_mode is {mode}" in str(caught.value)
    assert "next " in str(caught.value)
    assert remains(stack) == []


async def test_a_subnet_that_somebody_has_is_not_insisted_on(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next is tried, until one is free."""
    real, drawn = compose_daemon.subnets, []
    async with OwnEnvironment(as_daemon(project), backend=DOCKER) as one:
        taken = IPv4Network(one.stack.site.describe()["network"]["subnet"])

        def subnets(name: str) -> Iterator[IPv4Network]:
            drawn.append(name)
            yield taken
            yield from real(name)

        monkeypatch.setattr(compose_daemon, "subnets", subnets)
        here = OwnEnvironment(as_daemon(project), backend=DOCKER)
        async with here:
            assert await said_back(here, "hi") == "hi"
    assert len(drawn) == 1
    assert remains(here.stack) == []


async def test_a_step_that_fails_keeps_no_other_from_being_done(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its container is removed all the same, and by an engine that others go on asking."""
    closed = []
    client = engine()._client
    close = client.close
    monkeypatch.setattr(client, "close", lambda: closed.append(close()))

    def fail(daemon: ComposeDaemon) -> None:
        raise EnvironmentFailed("down is not to be had")

    async with OwnEnvironment(as_daemon(project), backend=DOCKER) as here:
        site = here.stack.site
        with monkeypatch.context() as patch:
            patch.setattr(ComposeDaemon, "_down", fail)
            with pytest.raises(EnvironmentFailed, match="down is not to be had"):
                await site.end()
        after = site.program.box.state().status, site.program.state

    assert after == ("removed", "killed by SIGKILL")
    assert closed == []
    assert remains(here.stack) == []


def processes(run_id: str) -> str:
    """The command lines of what carries the id."""
    found = []
    for pid in carriers(run_id):
        try:
            found.append(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return "\n".join(found)


async def test_what_a_sibling_said_is_told_and_kept(project: Path, tmp_path: Path) -> None:
    """Of one that keeps the project from coming up, and at the end of one that came up."""
    change(project, beside={"command": ["sh", "-c", "echo no database url; exit 3"]})
    run = tmp_path / "run"
    async with OwnEnvironment(as_daemon(project), backend=DOCKER, directory=run):
        pass
    kept = (run / "compose.log").read_text()
    assert "beside-1" in kept
    assert "no database url" in kept
    assert "talker is up" in kept

    needs = {"depends_on": {"beside": {"condition": "service_completed_successfully"}}}
    change(project, echo=needs)
    with pytest.raises(EnvironmentFailed, match="docker compose up ended with 1") as caught:
        async with OwnEnvironment(as_daemon(project), backend=DOCKER):
            pass
    assert "no database url" in dict(caught.value.details)["log tail"]
    assert "no database url" in caught.value.logs["compose.log"]


async def test_a_build_that_fails_says_why(project: Path) -> None:
    """In the builder's own words, without its colours."""
    dockerfile = project / "Dockerfile"
    dockerfile.write_text(f"{dockerfile.read_text()}\nRUN echo no such luck && false\n")
    with pytest.raises(EnvironmentFailed, match="docker compose build ended with") as caught:
        async with OwnEnvironment(as_daemon(project), backend=DOCKER):
            pass

    assert "no such luck" in dict(caught.value.details)["it said"]
    assert "\x1b" not in str(caught.value)


async def test_who_is_cancelled_does_not_wait_for_a_build(project: Path) -> None:
    """It is broken off before its end, and nothing of it is left."""
    built = f"built-{secrets.token_hex(4)}"
    file = project / "Dockerfile"
    first, *more = file.read_text().splitlines()
    lines = [first, f"RUN echo {built}; sleep 60", *more, f"LABEL {built}=yes"]
    file.write_text("\n".join(lines))
    stack = stack_of(as_daemon(project), choice=Choice(backend=DOCKER))
    task = asyncio.ensure_future(stack.__aenter__())
    async with asyncio.timeout(30):
        while "build" not in processes(stack.run_id):
            await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    # A build that was waited for has made its image by now.
    assert docker("images", "--quiet", "--filter", f"label={built}") == ""
    assert remains(stack) == []
