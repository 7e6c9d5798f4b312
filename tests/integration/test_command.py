"""Anybody's daemon, started by a command: where it runs, what it is told, what it may do."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from harness.daemons.command import Command
from harness.daemons.reference import Reference
from harness.dialects.plain import Plain
from harness.environment.abilities import ABILITIES, OF_THE_DAEMON
from harness.environment.backends import AttachedEnvironment, stack_of
from harness.environment.base import Environment
from harness.environment.local import LocalEnvironment, LocalStack
from harness.environment.reaper import carriers
from harness.errors import EnvironmentFailed, ProgramExited
from harness.faults.kill import Kill
from tests.integration.refdaemon_process import started
from tests.integration.stacks import Place, Scripted

TELLING = """
import asyncio, json, os, sys
from websockets.asyncio.server import serve

async def tell(connection):
    async for _ in connection:
        told = {"folder": os.getcwd(), "arguments": sys.argv[1:], "variables": dict(os.environ)}
        await connection.send(json.dumps(told))

async def main():
    async with serve(tell, "127.0.0.1", int(os.environ["PORT"])) as server:
        await server.serve_forever()

asyncio.run(main())
"""
"""A daemon that says where it runs and what it was told."""

SECRETS = ("token-4711", "variable-4711", "path-4711", "header-4711")


def telling(folder: Path, *arguments: str, **variables: str) -> Command:
    folder.mkdir(exist_ok=True)
    (folder / "server.py").write_text(TELLING)
    return Command(
        template=("{python}", "server.py", *arguments),
        environment={"PORT": "{port}", **variables},
        directory=folder,
        dialect=Plain(),
    )


async def told(daemon: Command, directory: Path | None = None) -> dict:
    """What it says, asked through the proxy."""
    async with LocalEnvironment(daemon, directory=directory) as here, here.client() as client:
        return dict(json.loads(str((await client.call("?")).text)))


async def test_it_starts_in_its_folder(tmp_path: Path) -> None:
    """So a relative path in its command is of that folder."""
    assert (await told(telling(tmp_path / "server")))["folder"] == str(tmp_path / "server")


async def test_what_stands_in_braces_is_filled_in(tmp_path: Path) -> None:
    """In the command and in the environment; other braces stay."""
    daemon = telling(tmp_path / "server", "{host}", "{other}", "${port}", EFFECTS="{effects}")

    said = await told(daemon, tmp_path / "run")

    assert said["arguments"] == ["127.0.0.1", "{other}", "${port}"]
    assert said["variables"]["PORT"].isdigit()
    assert said["variables"]["EFFECTS"] == str(tmp_path / "run" / "effects.jsonl")


async def test_a_folder_of_runs_may_be_relative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the harness's working directory's, wherever the daemon starts."""
    monkeypatch.chdir(tmp_path)
    daemon = telling(tmp_path / "server", EFFECTS="{effects}")

    said = await told(daemon, Path("run"))

    assert said["variables"]["EFFECTS"] == str(tmp_path / "run" / "effects.jsonl")
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {"daemon.log", "proxy.log"}


@pytest.mark.parametrize("folder", ["plain", "it's \\ odd"])
async def test_whoever_was_told_the_file_has_effects(folder: str, tmp_path: Path) -> None:
    """By its command or its environment, whatever the folder is called."""
    silent = LocalStack(telling(tmp_path / "server"), directory=tmp_path / folder)
    knowing = LocalStack(telling(tmp_path / "server", E="{effects}"), directory=tmp_path / folder)

    async with silent, knowing:
        assert silent.abilities["effects"] == "the daemon was not told {effects}"
        assert knowing.abilities["effects"] is None


async def test_what_lies_in_the_callers_folder_is_not_taken_for_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A project may have modules of any name; daemon, proxy and reaper start there all the same."""
    for name in ("harness", "json", "select", "h11", "msgspec"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong module')")
    monkeypatch.chdir(tmp_path)

    async with LocalEnvironment(Reference()) as here, here.client() as client:
        assert (await client.call("echo", {"text": "hi"})).text == "hi"
        reapers = carriers_of_children("harness.environment.reaper")

    assert reapers != []


def carriers_of_children(word: str) -> list[int]:
    """The processes that this one started and whose command has that word."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = (entry / "stat").read_text().rpartition(") ")[2].split()[1]
                command = (entry / "cmdline").read_bytes().decode()
            except OSError:
                continue
            if int(parent) == os.getpid() and word in command:
                found.append(int(entry.name))
    return found


async def test_a_daemon_that_never_gets_its_port(tmp_path: Path) -> None:
    """Three ports are tried, then its own words are the error."""
    daemon = Scripted(script="echo port {port}: Address already in use; exit 1")

    with pytest.raises(ProgramExited, match="exited with 1 before it was ready"):
        async with LocalStack(daemon, directory=tmp_path):
            pass

    tried = (tmp_path / "daemon.log").read_text().splitlines()
    assert len(tried) == 3
    assert len(set(tried)) == 3


async def test_a_daemon_that_ends_for_another_reason_is_started_once(tmp_path: Path) -> None:
    """No other port would help."""
    with pytest.raises(ProgramExited):
        async with LocalStack(Scripted(script="echo begun; exit 1"), directory=tmp_path):
            pass

    assert (tmp_path / "daemon.log").read_text() == "begun\n"


async def test_a_daemon_in_the_background_is_killed_and_comes_back(tmp_path: Path) -> None:
    """What serves is a child of what was started, which has ended long ago."""
    async with Place(tmp_path, Scripted(script="{reference} &")) as here:
        before = carriers(here.stack.run_id, "daemon")
        async with here.inject(Kill()):
            assert carriers(here.stack.run_id, "daemon") == []
        after = carriers(here.stack.run_id, "daemon")
        async with here.client() as client:
            assert (await client.call("echo", {"text": "back"})).text == "back"

    assert len(before) == len(after) == 1
    assert before != after


async def test_a_daemon_in_the_background_ends_when_that_does(tmp_path: Path) -> None:
    """Not with what was started."""
    async with Place(tmp_path, Scripted(script="{reference} &")) as here:
        site = here.stack.site
        (serves,) = carriers(here.stack.run_id, "daemon")
        assert site.program.exit_code == 0
        assert not await site.ending()

        os.kill(serves, signal.SIGKILL)
        assert await site.ending()


async def test_an_api_port_that_is_taken(tmp_path: Path) -> None:
    """No proxy server is started, and the daemon neither."""
    async with Place(tmp_path) as here:
        port = int(here.control.url.rpartition(":")[2])
        stack = stack_of(Reference(), proxy_port=port)
        with pytest.raises(EnvironmentFailed, match=f"port {port} of 127.0.0.1 cannot be had"):
            async with stack:
                pass

    assert carriers(stack.run_id) == []


async def test_a_name_that_a_server_of_ours_has_already(tmp_path: Path) -> None:
    """The first proxy of that name is not touched."""
    async with Place(tmp_path) as here:
        with pytest.raises(EnvironmentFailed, match='has a proxy "edge" already'):
            async with Environment(here.stack, name=here.name):
                pass
        async with here.client() as client:
            assert (await client.call("echo", {"text": "hi"})).text == "hi"


async def test_every_ability_is_told_of_a_stack(tmp_path: Path) -> None:
    """Once resets were tried; of a daemon of our own and of somebody else's."""
    async with LocalEnvironment(Reference()) as own:
        await own.stack.probe()
        described = own.stack.describe()["abilities"]
    async with (
        started(tmp_path, token=None) as daemon,
        AttachedEnvironment(daemon.running()) as attached,
    ):
        await attached.stack.probe()
        told_attached = attached.stack.describe()["abilities"]

    assert described.keys() == told_attached.keys() == ABILITIES.keys()
    behind = {"provider", "executions"}
    lacking = {"frames", "docker", "network", "cpu_limit", *behind}
    assert {name for name, why in described.items() if why} == lacking
    there = {"frames", *OF_THE_DAEMON, *behind}
    assert {name for name, why in told_attached.items() if why} == there


async def test_no_secret_is_told_of_a_stack(tmp_path: Path) -> None:
    """Neither the token nor what stands in variables, headers or the query of the path."""
    token, variable, path, header = SECRETS
    known = telling(tmp_path / "server", API_KEY=variable)
    daemon = Command(
        template=known.template,
        environment=known.environment,
        directory=known.directory,
        dialect=Plain(),
        token=token,
        token_variable="TOKEN",
        headers={"Authorization": "Bearer {token}", "X-Key": header},
        path=f"/?key={path}",
    )
    async with LocalStack(daemon, directory=tmp_path / "run") as stack:
        assert stack.site.program.variables["TOKEN"] == token
        told_of_it = json.dumps(stack.describe(), default=str)

    assert [secret for secret in SECRETS if secret in told_of_it] == []
