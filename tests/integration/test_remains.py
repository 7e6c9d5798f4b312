"""What dead runs left: told and removed; what is alive, or not ours, is not touched."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest

from harness.clock import fresh_id
from harness.daemons.reference import IMAGE
from harness.environment.containers import OWNER, RUN
from harness.environment.owner import own_name
from harness.environment.reaper import OWNER as OWNER_VARIABLE
from harness.environment.reaper import RUN_ID
from harness.environment.remains import Swept, sweep, sweeping
from harness.environment.temporary import FOLDER, OWNER_FILE
from harness.errors import EnvironmentFailed
from tests.backends import in_containers
from tests.integration import inner
from tests.integration.audited import told_of_files_in

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="owners are known on Linux only"),
    pytest.mark.whole_machine,
]

# Nobody else has our pid, and we were not started when the machine was.
DEAD = f"{own_name().rpartition('_')[0]}_1"
BOUND_S = 60

OPENED = """
import asyncio
from harness.environment.household import Household

household = Household()
household.open()
asyncio.run(household.close())
"""


@dataclass
class Planted:
    """A process and a folder of a run."""

    run_id: str
    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def names(self) -> list[str]:
        return [f"process {self.process.pid}", f"folder {self.folder}"]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files of this test's own."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


@pytest.fixture
def plant(temporary: Path) -> Iterator:
    """Makes a run of somebody, or of nobody."""
    planted: list[Planted] = []

    def one(owner: str | None) -> Planted:
        run_id = f"test-{fresh_id()}"
        folder = temporary / f"{FOLDER}{run_id}"
        folder.mkdir()
        variables = {**os.environ}
        if owner is not None:
            (folder / OWNER_FILE).write_text(owner)
            variables |= {RUN_ID: run_id, OWNER_VARIABLE: owner}
        process = subprocess.Popen(["sleep", "600"], env=variables)
        planted.append(Planted(run_id, process, folder))
        return planted[-1]

    yield one
    for each in planted:
        each.process.kill()
        each.process.wait()


def clean(*words: str, code: int = 0) -> list[str]:
    """The lines of `harness clean`, which ends with that code."""
    done = subprocess.run(
        [sys.executable, "-m", "harness", "clean", *words],
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_what_a_dead_run_left_is_told_and_removed(plant):
    """First told only, where that is asked for."""
    left = plant(DEAD)

    assert {f"would remove  {name}" for name in left.names} <= set(clean("--dry-run"))
    assert left.process.poll() is None
    assert left.folder.exists()

    assert {f"removed  {name}" for name in left.names} <= set(clean())
    assert left.process.wait(BOUND_S) == -9
    assert not left.folder.exists()


def test_what_lives_or_is_nobodys_stays(plant):
    """A run of ours that goes on; a process and a folder that carry no run id."""
    ours, nobodys = plant(own_name()), plant(None)

    clean()
    told = clean("--all", "--dry-run")

    for each in (ours, nobodys):
        assert each.process.poll() is None
        assert each.folder.exists()
    assert {f"would remove  {name}" for name in ours.names} <= set(told)
    assert not [line for line in told if str(nobodys.folder) in line]
    assert f"would remove  process {nobodys.process.pid}" not in told


def test_what_resists_is_told_with_why(plant, tmp_path: Path):
    """It was not removed, and nobody says so; the rest is."""
    left, resists = plant(DEAD), plant(DEAD)
    # What somebody else put there is not followed.
    elsewhere = resists.folder.rename(tmp_path / "elsewhere")
    resists.folder.symlink_to(elsewhere)

    told = clean(code=3)

    assert {f"removed  {name}" for name in left.names} <= set(told)
    [line] = [line for line in told if str(resists.folder) in line]
    assert line.startswith(f"could not remove  folder {resists.folder}: ")
    assert "symbolic link" in line
    assert (elsewhere / OWNER_FILE).exists()


def test_a_process_of_somebody_else_is_told(plant, monkeypatch: pytest.MonkeyPatch):
    """One that was not killed is not said to be."""
    left = plant(DEAD)

    def refuse(pid: int, number: int) -> None:
        raise PermissionError

    with monkeypatch.context() as patched:
        patched.setattr(os, "kill", refuse)
        told = {each.name: each.stays for each in sweep(None)}

    assert told[f"process {left.process.pid}"] == "it is somebody else's"
    assert told[f"folder {left.folder}"] == ""


def test_of_what_is_spared_the_number_of_runs_is_told(plant):
    """Of another boot: it may be another machine's and live; folders and engines are shared."""
    _, _, rest = own_name().partition("_")
    left = plant(f"00000000-0000-0000-0000-000000000000_{rest}")

    told = clean()

    assert left.process.poll() is None
    assert left.folder.exists()
    assert [line for line in told if line.startswith("left alone  ") and "--all" in line]


class Stubborn:
    """An engine that removes a part, then fails; or fails at once."""

    def __init__(self, *, answers: bool = True) -> None:
        self.left = self
        self.answers = answers
        self.there = ["container one", "network one"]

    def runs(self, *, dead: bool) -> list[str]:
        if not self.answers:
            raise EnvironmentFailed("the runs of this engine cannot be listed: it is gone")
        return ["one"]

    def remains(self, *run_ids: str) -> list[str]:
        return list(self.there)

    def sweep(self, *run_ids: str) -> list[str]:
        self.there.remove("container one")
        raise EnvironmentFailed("some of it cannot be removed", [("network one", "no room")])


def test_what_an_engine_could_not_remove_is_told_apart():
    """A part of it went."""
    engine = Stubborn()

    told = [each for each in sweeping(engine) if each.name.endswith(" one")]

    assert told == [Swept("container one"), Swept("network one", "no room")]


def test_what_was_done_is_told_before_an_engine_fails(plant):
    """Whatever it fails at."""
    left, told = plant(DEAD), []

    with pytest.raises(EnvironmentFailed, match="it is gone"):
        told.extend(each.name for each in sweeping(Stubborn(answers=False)))

    assert set(left.names) <= set(told)


def test_nothing_is_written_that_nobody_could_find(tmp_path: Path):
    """
    A run's folder is looked for by its name; `tempfile`, asked where folders go, tries it with
    a file that whoever is killed in that moment leaves for ever.
    """
    opened = told_of_files_in(tmp_path, OPENED)

    assert opened
    assert [name for name in opened if not name.startswith(FOLDER)] == []


def test_a_session_begins_with_it(plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Before its first test runs."""
    suite = tmp_path / "suite"
    suite.mkdir()
    # A suite has a folder of its own for temporary files.
    monkeypatch.setenv("TMPDIR", str(suite / "tmp"))
    left = plant(DEAD)
    (suite / "tmp").mkdir()
    left.folder = left.folder.rename(suite / "tmp" / left.folder.name)
    files = {
        "test_it.py": f"""
        from pathlib import Path

        def test_it(harness_environment):
            assert not Path({str(left.folder)!r}).exists()
        """
    }

    done = inner.carried_out(suite, files)

    assert done.ends() == {"test_it": ["passed"]}, done.text
    assert left.process.wait(BOUND_S) == -9


@pytest.fixture
def client() -> Iterator[docker.DockerClient]:
    """The engine, spoken to by the package itself."""
    made = docker.from_env()
    yield made
    made.close()


@in_containers
def test_containers_networks_and_volumes_too(client: docker.DockerClient):
    """Of a dead run; what has no label of ours is not touched."""
    dead, mine = f"test-dead-{fresh_id()}", f"test-mine-{fresh_id()}"
    labels = {RUN: dead, OWNER: DEAD}
    made = []
    try:
        for name, carried in ((dead, labels), (mine, {"made-by": "nobody"})):
            network = client.networks.create(name, internal=True, labels=carried)
            made += [network, client.volumes.create(name, labels=carried)]
            made.insert(
                0,
                client.containers.run(
                    IMAGE, ["sleep", "600"], name=name, network=name, labels=carried, detach=True
                ),
            )
        told = clean()

        for kind in ("container", "network", "volume"):
            assert f"removed  {kind} {dead}" in told
        assert not [line for line in told if mine in line]
        assert client.containers.get(mine).status == "running"
        assert [network.name for network in client.networks.list(names=[mine])] == [mine]
        assert client.volumes.get(mine).name == mine
        assert client.networks.list(names=[dead]) == []
    finally:
        for thing in made:
            with suppress(docker.errors.NotFound):
                thing.remove(**({"force": True} if hasattr(thing, "exec_run") else {}))


@in_containers
def test_a_network_that_somebody_holds_is_told_with_why(client: docker.DockerClient):
    """The engine's own word for it."""
    dead, theirs = f"test-dead-{fresh_id()}", f"test-theirs-{fresh_id()}"
    network = client.networks.create(dead, internal=True, labels={RUN: dead, OWNER: DEAD})
    holder = client.containers.run(IMAGE, ["sleep", "600"], name=theirs, network=dead, detach=True)
    try:
        told = clean(code=3)
    finally:
        holder.remove(force=True)
        with suppress(docker.errors.NotFound):
            network.remove()

    [line] = [line for line in told if dead in line]
    assert line.startswith(f"could not remove  network {dead}: ")
    assert "active endpoints" in line
