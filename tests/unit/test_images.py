"""Images without an engine: what they are made of, where, and how often it is tried."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import harness
from harness.environment import again, images
from harness.environment.again import backoff_s
from harness.environment.images import base, daemon, workshop
from harness.environment.images.workshop import Workshop
from harness.errors import EnvironmentFailed

ROOT = Path(__file__).resolve().parents[2]


def silent(folder: Path) -> Workshop:
    return Workshop(folder, tell=lambda _: None)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts, which are not waited for."""
    taken: list[float] = []
    monkeypatch.setattr(again, "_wait", taken.append)
    return taken


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of this package, taken for the one that is imported."""
    ignored = shutil.ignore_patterns("__pycache__")
    copy = shutil.copytree(Path(harness.__file__).parent, tmp_path / "harness", ignore=ignored)
    shutil.copytree(ROOT / "docker", tmp_path / "docker")
    monkeypatch.setattr(daemon, "_PACKAGE", copy)
    monkeypatch.setattr(daemon, "__file__", str(copy / "environment/images/daemon.py"))
    return copy


# What ours is made of


def test_the_inputs_are_the_same_in_another_place(package: Path, monkeypatch: pytest.MonkeyPatch):
    """A tree here and an installation there make the same image."""
    there = daemon.inputs()
    monkeypatch.undo()

    assert there == daemon.inputs()


@pytest.mark.parametrize("changed", ["errors.py", "refdaemon/tools.py", "../docker/Dockerfile"])
def test_the_inputs_change_with_what_goes_in(package: Path, changed: str):
    """Then an image of before is stale."""
    before = daemon.inputs()
    path = package / changed
    path.write_text(path.read_text() + "\n")

    assert daemon.inputs() != before


def test_the_inputs_do_not_change_with_what_stays_out(package: Path):
    """Compiled files, and the Dockerfile's place in an installation."""
    before = daemon.inputs()
    (package / "__pycache__").mkdir()
    (package / "__pycache__/errors.cpython-311.pyc").write_bytes(b"compiled")
    shutil.copy(ROOT / "docker/Dockerfile", package / "environment/images/Dockerfile")

    assert daemon.inputs() == before


def test_the_pins_are_those_of_the_constraints():
    """What is installed here by `make`, and nothing that only tests or containers need."""
    constraints = {
        line.lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    names = {pin.partition("==")[0] for pin in daemon.pins()}

    assert set(daemon.pins()) <= constraints
    needed = {"h11", "msgspec", "picows", "uvloop", "websockets", "multidict"}
    assert needed | {"prometheus-client"} <= names
    assert not {"docker", "pytest", "testcontainers", "requests"} & names


def test_wheels_for_an_older_library_are_taken_and_for_a_newer_are_not():
    """Debian bookworm has version 2.36 of it."""
    tags = daemon.platforms("aarch64")

    assert {"manylinux_2_36_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"} <= {*tags}
    assert "manylinux_2_37_aarch64" not in tags


def test_the_dockerfile_names_the_base_by_its_digest():
    """And the Python that wheels are chosen for."""
    found = base.pulled_base((ROOT / "docker/Dockerfile").read_text())

    assert re.fullmatch(r"python:3\.13\.\d+-slim-bookworm@sha256:[0-9a-f]{64}", found.name)
    assert found.python == "3.13"
    assert "@" not in found.short


@pytest.mark.parametrize("line", ["ARG BASE", "ARG BASE=debian:bookworm", "FROM python:3.13"])
def test_a_base_whose_python_nobody_knows_is_refused(line: str):
    """No wheels could be chosen for it."""
    with pytest.raises(EnvironmentFailed, match="no base of which the Python is known"):
        base.pulled_base(f"# text\n{line}\n")


def test_compose_takes_the_images_that_are_made():
    """By their names, in the versions of today; the documents too."""
    text = (ROOT / "compose.yaml").read_text()

    named = set(re.findall(r"image: (\S+)", text))
    assert named == {images.DAEMON_IMAGE, images.TOXIPROXY_IMAGE}


def test_compose_has_the_proxies_where_it_says():
    """The file that Toxiproxy reads, the port that is published, and what the daemon is told."""
    edge, provider = json.loads((ROOT / "docker/toxiproxy.json").read_text())
    text = (ROOT / "compose.yaml").read_text()

    assert [edge["name"], provider["name"]] == ["edge", "provider"]
    assert [edge["upstream"], provider["upstream"]] == ["daemon:8079", "provider:8090"]
    ports = [each["listen"].rpartition(":")[2] for each in (edge, provider)]
    assert f"127.0.0.1:${{HARNESS_PORT:-8079}}:{ports[0]}" in text
    assert f"--provider=http://toxiproxy:{ports[1]}" in text
    assert "--port=8090" in text


# Attempts


@given(number=st.integers(1, 40), draw=st.floats(0, 1, exclude_max=True))
def test_pauses_grow_and_have_a_bound(number: int, draw: float):
    """Twice as long each time, half to one and a half of it, half a minute at most."""
    assert min(20, 2 ** (number - 1)) * 0.5 <= backoff_s(number, draw)
    assert backoff_s(number, draw) <= min(20, 2 ** (number - 1)) * 1.5
    assert backoff_s(number, draw) <= backoff_s(number + 1, draw) <= 30


def test_what_passes_is_tried_again_and_counted(tmp_path: Path, pauses: list[float]):
    """Two failures, a success."""
    answers = iter([EnvironmentFailed("busy"), EnvironmentFailed("busy"), None])
    told: list[str] = []
    shop = Workshop(tmp_path, tell=told.append)

    def work() -> str:
        if error := next(answers):
            raise error
        return "done"

    assert shop.attempt("fetching", work) == "done"
    assert len(shop.again.told) == len(pauses) == 2
    assert [line.partition(",")[0] for line in told] == [
        "fetching: attempt 1 of 3 failed",
        "fetching: attempt 2 of 3 failed",
    ]
    assert all(line.endswith(": busy") for line in told)


def test_what_does_not_pass_is_given_up(tmp_path: Path, pauses: list[float]):
    """After three attempts, and the error says so."""

    def work() -> None:
        raise EnvironmentFailed("the registry is busy", [("next", "wait")])

    with pytest.raises(EnvironmentFailed, match=r"the registry is busy \(3 attempts\)") as failure:
        silent(tmp_path).attempt("fetching", work)

    assert failure.value.details == (("next", "wait"),)
    assert len(pauses) == 2


@pytest.mark.parametrize(
    "said",
    ["write /x: no space left on device", "manifest unknown", "No module named pip"],
)
def test_what_no_second_attempt_mends_is_not_tried_again(
    tmp_path: Path, pauses: list[float], said: str
):
    """It is told at once."""

    def work() -> None:
        raise EnvironmentFailed(f"failed: {said}")

    with pytest.raises(EnvironmentFailed):
        silent(tmp_path).attempt("fetching", work)

    assert pauses == []


# The folder


def test_a_draft_that_is_whole_has_its_name(tmp_path: Path):
    """And takes the place of the one before."""
    shop = silent(tmp_path)
    for text in ("old", "new"):
        with shop.draft("wheels") as draft:
            draft.mkdir()
            (draft / "one.whl").write_text(text)

    assert (tmp_path / "wheels/one.whl").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["wheels"]


def test_a_draft_that_is_torn_never_has_its_name(tmp_path: Path):
    """Half a download is none."""

    def tear() -> None:
        with silent(tmp_path).draft("wheels") as draft:
            draft.write_text("hal")
            raise EnvironmentFailed("the connection was lost")

    with pytest.raises(EnvironmentFailed):
        tear()

    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_swept(tmp_path: Path):
    """By the next one that has the folder for itself; what is whole stays."""
    (tmp_path / "root.draft-1234").mkdir()
    (tmp_path / "root.draft-1234/half").write_text("")
    (tmp_path / "base.tar").write_text("")

    with silent(tmp_path).alone():
        left = {path.name for path in tmp_path.iterdir()}

    assert left == {"base.tar", "lock"}


def test_one_at_a_time_has_the_folder(tmp_path: Path):
    """The other is told, waits, and gives up at its bound; afterwards it may."""
    told: list[str] = []
    other = Workshop(tmp_path, tell=told.append)

    with (
        silent(tmp_path).alone(),
        pytest.raises(EnvironmentFailed, match="another process has been making images for 0 s"),
        other.alone(within_s=0),
    ):
        pytest.fail("two had it at a time")

    with other.alone(within_s=0):
        pass


def test_the_folder_is_in_the_users_cache(monkeypatch: pytest.MonkeyPatch):
    """As XDG says, which has relative paths ignored."""
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/somewhere")
    assert workshop.cache_folder() == Path("/var/somewhere/ws-harness")
    for given_path in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", given_path)
        assert workshop.cache_folder() == Path.home() / ".cache/ws-harness"
