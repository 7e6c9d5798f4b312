"""The images of the backend docker: here, pulled, made; on the engine that is there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from harness.environment import images
from harness.environment.containers import Order
from harness.environment.images import base, daemon, toxiproxy
from harness.environment.images.workshop import Workshop
from harness.errors import EnvironmentFailed
from tests.integration.audited import told_of_files_in
from tests.integration.registry import Registry, registry
from tests.integration.throwaway import Bench, bench

pytestmark = pytest.mark.timeout(300)

BOUND_S = 120


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is fetched is fetched once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def workbench(cache: Path, pytestconfig: pytest.Config) -> Iterator[Bench]:
    """An engine, and names that nobody else has."""
    with bench(cache, pytestconfig) as made:
        yield made


@pytest.fixture
def served() -> Iterator[Registry]:
    """A registry on this machine."""
    with registry() as server:
        yield server


@pytest.fixture
def pulled(workbench: Bench, served: Registry) -> Iterator[images.Image]:
    """An image of that registry, under the name that the real Toxiproxy's would have."""
    yield replace(workbench.toxiproxy, bring=partial(toxiproxy.bring, source=served.name))
    workbench.engine.images.remove(served.name)


def output(workbench: Bench, image: images.Image, *command: str) -> str:
    """What a container of that image says."""
    order = Order(
        name=f"ws-harness-test-{workbench.mark}",
        image=image.name,
        run_id=f"images-{workbench.mark}",
        command=command,
        network="none",
    )
    box = workbench.engine.run(order)
    try:
        stream, hang_up = box.read()
        text = b"".join(said.text for said in stream).decode()
        hang_up()
        return text
    finally:
        box.remove()


# Ours


def test_ours_is_made_and_runs_our_programs(workbench: Bench):
    """It imports what we import, as nobody in particular, and has no pip."""
    workbench.ensure(workbench.daemon)

    said = output(
        workbench,
        workbench.daemon,
        *("python3", "-P", "-c"),
        "import harness, os, importlib.util as u; print(harness.__version__, os.getuid(), "
        "u.find_spec('pip'), u.find_spec('websockets').origin)",
    )
    version, uid, pip, where = said.split()
    assert f"ws-harness:{version}" == images.DAEMON_IMAGE
    assert (uid, pip) == ("10001", "None")
    assert where.startswith("/opt/harness/site/")
    assert "--transport" in output(
        workbench, workbench.daemon, "python3", "-P", "-m", "harness.refdaemon", "--help"
    )


def test_one_that_is_here_is_kept(workbench: Bench):
    """The second time nothing is made, and it says what is there."""
    workbench.ensure(workbench.daemon)
    made = workbench.engine.images.id(workbench.daemon.name)
    workbench.told.clear()

    workbench.ensure(workbench.daemon)

    assert workbench.engine.images.id(workbench.daemon.name) == made
    (line,) = workbench.said(workbench.daemon.tag)
    assert ", built on " in line
    assert workbench.told[-1].startswith("1 of 1 images are here, 0 brought, ")


def test_of_other_code_another_is_made(
    workbench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What was installed stays as a layer; the plain name goes to the newest; few are kept."""
    workbench.ensure(workbench.daemon)
    old = workbench.daemon.tag
    changed = shutil.copytree(daemon._PACKAGE, tmp_path / "harness")
    (changed / "errors.py").write_text((changed / "errors.py").read_text() + "\n# changed\n")
    shutil.copytree(daemon._PACKAGE.parent / "docker", tmp_path / "docker")
    monkeypatch.setattr(daemon, "_PACKAGE", changed)

    monkeypatch.setattr("harness.environment.images.bringing._MOST_KEPT", 1)

    assert workbench.daemon.tag != old
    assert images.missing(workbench.engine, images=[workbench.daemon]) == [workbench.daemon.tag]
    (state,) = images.listed(workbench.engine, images=[workbench.daemon])
    assert str(state).endswith(": not here, only of other code or other packages")
    workbench.told.clear()
    workbench.ensure(workbench.daemon)

    assert images.missing(workbench.engine, images=[workbench.daemon]) == []
    assert not workbench.said("fetching")
    assert workbench.engine.images.id(old) is None
    newest = workbench.engine.images.id(workbench.daemon.tag)
    assert newest == workbench.engine.images.id(workbench.daemon.name)
    read = "print(open('/opt/harness/code/harness/errors.py').read()[-10:])"
    assert "# changed" in output(workbench, workbench.daemon, "python3", "-c", read)


def test_two_processes_make_it_once(workbench: Bench, tmp_path: Path):
    """The one waits for the other, and finds it here."""
    script = f"""
import sys
from dataclasses import replace
from pathlib import Path
from harness.environment import images
from harness.environment.containers import Engine
wanted = replace(images.DAEMON, name={workbench.daemon.name!r})
images.ensure(Engine(), pull=False, tell=print, images=[wanted], folder=Path({str(tmp_path)!r}))
"""
    both = [
        subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=BOUND_S)[0] for process in both]

    assert [process.returncode for process in both] == [0, 0], said
    assert sorted("1 brought" in text for text in said) == [False, True]
    assert sum("fetching" in text for text in said) >= 1
    assert images.missing(workbench.engine, images=[workbench.daemon]) == []


# From a registry


def test_a_pulled_one_has_the_name_that_the_rest_knows(
    workbench: Bench, served: Registry, pulled: images.Image
):
    """It is pulled by its digest and called as the made one is."""
    workbench.ensure(pulled, pull=True)

    assert workbench.engine.images.id(pulled.name) is not None
    assert workbench.said(f"{pulled.name}: pulled 127.0.0.1:")
    (state,) = images.listed(workbench.engine, images=[pulled])
    assert state.how == f"pulled {served.name.replace(':1.0@', '@')}"


def test_a_registry_that_is_busy_is_asked_again(
    workbench: Bench, served: Registry, pulled: images.Image, monkeypatch: pytest.MonkeyPatch
):
    """Each attempt is told, and counted in the total."""
    monkeypatch.setattr("harness.environment.again._FIRST_WAIT_S", 0.01)
    # By a first attempt it is asked with TLS, which it has not, and without.
    served.refusals = 2

    workbench.ensure(pulled, pull=True)

    assert workbench.said("attempt 1 of 3 failed, again in 0.0 s: ")
    assert "1 brought" in workbench.told[-1]
    assert " made again" in workbench.told[-1]


def test_a_registry_that_falls_silent_is_given_up(
    workbench: Bench, served: Registry, monkeypatch: pytest.MonkeyPatch
):
    """The bound holds in the middle of a layer, too, and nothing half is left."""
    served.silent = True
    monkeypatch.setattr("harness.environment.containers.images._SILENCE_S", 2)

    with pytest.raises(EnvironmentFailed, match="cannot be pulled: "):
        workbench.engine.images.pull(served.name, within_s=2)

    assert workbench.engine.images.id(served.name) is None


def test_a_layer_that_is_another_is_told(workbench: Bench, served: Registry):
    """The engine tells of it in the middle of its answer, which begins as a good one does."""
    served.wrong = True

    with pytest.raises(EnvironmentFailed, match=r"cannot be pulled: .*(verif|digest)"):
        workbench.engine.images.pull(served.name, within_s=30)


def test_no_registry_is_asked_where_that_is_switched_off(
    workbench: Bench, served: Registry, pulled: images.Image, monkeypatch: pytest.MonkeyPatch
):
    """Where there is no Go either, both ways are named, each with why not."""
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    nothing = Bench(workbench.engine, workbench.folder / "empty", workbench.mark, workbench.told)

    with pytest.raises(EnvironmentFailed) as failure:
        nothing.ensure(pulled)

    assert served.asked == 0
    text = str(failure.value)
    assert "not tried: --no-pull" in text
    assert "Go is not here" in text
    assert "install Go" in text


# Made without a registry


@pytest.mark.skipif(
    shutil.which("go", path="/usr/local/go/bin:/usr/lib/go/bin:/usr/bin") is None, reason="no Go"
)
def test_the_real_toxiproxy_is_made_from_its_source(workbench: Bench):
    """It says its version, which a plain build does not, and takes the registry's arguments."""
    workbench.ensure(workbench.toxiproxy)

    assert "version 2.12.0" in output(workbench, workbench.toxiproxy, "-version")
    (state,) = images.listed(workbench.engine, images=[workbench.toxiproxy])
    assert state.how == "built from github.com/Shopify/toxiproxy/v2@v2.12.0"


def test_a_base_is_made_once_and_then_taken_from_its_archive(workbench: Bench, tmp_path: Path):
    """Where the engine has lost it nothing is fetched again."""
    architecture = base.architecture_of(workbench.engine)
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/kept").write_text("yes")
    archive = shutil.make_archive(str(tmp_path / f"base-bookworm-{architecture}"), "tar", root)
    made = base.Base(f"ws-harness-test-{workbench.mark}:toxiproxy", "3.11")
    told: list[str] = []

    got = base.base_for(
        workbench.engine,
        Workshop(tmp_path, tell=told.append),
        base.Base("ws-harness-test:nowhere", "3.13"),
        made=made,
        pull=False,
    )

    assert got == made
    assert workbench.engine.images.id(made.name) is not None
    assert told == [f"base {made.name}: from {archive}"]


@pytest.mark.parametrize(
    ("uid", "which", "said"),
    [(0, None, "debootstrap is not here"), (1000, "debootstrap", "debootstrap needs root")],
)
def test_without_a_base_all_ways_are_named(
    workbench: Bench,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    uid: int,
    which: str | None,
    said: str,
):
    """What was tried, why it failed, what to do."""
    monkeypatch.setattr("os.geteuid", lambda: uid)
    monkeypatch.setattr(shutil, "which", lambda *_, **__: which)
    nowhere = base.Base("ws-harness-test:nowhere", "3.13")

    with pytest.raises(EnvironmentFailed, match="no base for our own image") as failure:
        base.base_for(
            workbench.engine,
            Workshop(tmp_path, tell=lambda _: None),
            nowhere,
            made=nowhere,
            pull=False,
        )

    assert "not tried: --no-pull" in str(failure.value)
    assert said in str(failure.value)
    assert "next" in str(failure.value)


# What a build takes with it

BUILT = """
import sys
from harness.environment.containers import Engine

engine = Engine()
engine.images.build(sys.argv[1], tag=sys.argv[2], arguments={})
"""


def test_what_is_ignored_stays_here_and_a_build_leaves_no_file(workbench: Bench, tmp_path: Path):
    """Not even for one that is killed meanwhile: what it packs has no name."""
    folder, temporary = tmp_path / "context", tmp_path / "tmp"
    folder.mkdir()
    temporary.mkdir()
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY . /\nCMD all\n")
    (folder / "kept").write_bytes(b"*" * 300_000)
    (folder / "secret").write_bytes(b"*" * 1_000_000)
    (folder / ".dockerignore").write_text("# What is not for others:\n\n  secret\n")

    name = workbench.daemon.name
    opened = told_of_files_in(temporary, BUILT, str(folder), name)

    assert set(opened) == {"."}
    facts = workbench.engine.images.facts(name)
    assert facts is not None
    assert 300_000 <= facts.size_bytes < 1_000_000


# What goes wrong


def test_a_build_that_fails_is_told_with_the_end_of_its_log(workbench: Bench, tmp_path: Path):
    """What the builder said last, and which command says it again."""
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY nothing-of-that-name /\n")

    with pytest.raises(EnvironmentFailed, match="cannot be built") as failure:
        workbench.engine.images.build(str(tmp_path), tag=workbench.daemon.name, arguments={})

    assert "nothing-of-that-name" in str(failure.value)


def test_an_archive_that_is_torn_is_no_image(workbench: Bench, tmp_path: Path):
    """What the engine says of it is told."""
    whole = tmp_path / "whole"
    whole.mkdir()
    (whole / "large").write_bytes(os.urandom(3_000_000))
    archive = Path(shutil.make_archive(str(tmp_path / "torn"), "tar", whole))
    with archive.open("r+b") as file:
        file.truncate(1_500_000)

    with pytest.raises(EnvironmentFailed, match="cannot be made from"):
        workbench.engine.images.load_root(str(tmp_path / "torn.tar"), name=workbench.daemon.name)

    assert workbench.engine.images.id(workbench.daemon.name) is None


def test_a_folder_that_cannot_be_written_to_is_named(workbench: Bench, tmp_path: Path):
    """Not with a traceback."""
    (tmp_path / "file").write_text("in the way")
    stuck = Bench(workbench.engine, tmp_path / "file/cache", workbench.mark, workbench.told)

    with pytest.raises(EnvironmentFailed, match=r"file/cache: Not a directory"):
        stuck.ensure(workbench.daemon)
